"""What the measures of separation say of made-up embeddings whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from domix.analyses.separation.dimensions import difference_table, scatter_table
from domix.analyses.separation.measures import distance_table, separability_table, umap_points, umap_table
from domix.embed.embeddings import Embeddings, load_embeddings
from domix.runtime.errors import DataError, ParameterError
from tests.fakes import make_index, save_embeddings, write_embeddings

DOMAINS = ("clipart", "real", "sketch")
UMAP: dict[str, Any] = {"neighbours": 10, "min_distance": 0.1, "densmap": False, "seed": 3}


def shifted(folder: Path, amount: float, test: dict | int = 4, classes: int = 10) -> Embeddings:
    """Embeddings of images near their class's prototype, sketches moved by `amount` in a direction of their own."""
    write_embeddings(folder / "flat", make_index({n: [1] * classes for n in DOMAINS}, test), width=12, right=always)
    flat = load_embeddings(folder / "flat")
    layers = {name: flat.layer(name) for name in flat.layers}
    image = flat.image_embeddings + amount * (flat.rows["domain"] == "sketch").to_numpy()[:, None] * flat.text.sum(
        axis=0
    )
    image = (image / np.linalg.norm(image, axis=1, keepdims=True)).astype(np.float32)
    save_embeddings(folder / "run", image=image, rows=flat.rows, text=flat.text, layers=layers, meta=flat.meta)
    return load_embeddings(folder / "run")


def always(domain: str, name: str) -> float:
    return 1.0


def test_a_domain_that_is_moved_is_separable_and_far(tmp_path: Path) -> None:
    embeddings = shifted(tmp_path, 1.0)
    value = separability_table(embeddings).set_index("domain")["value"]
    assert value["sketch"] == 1.0
    assert value["clipart"] < 0.9
    table = distance_table(embeddings).set_index(["kind", "domain_a", "domain_b"])["distance"]
    for kind in ("domain", "class"):
        assert table[kind, "clipart", "sketch"] > 5 * table[kind, "clipart", "real"]


def test_domains_that_lie_alike_are_told_apart_by_chance_only(tmp_path: Path) -> None:
    value = separability_table(shifted(tmp_path, 0.0, test=20))["value"]
    assert ((value > 0.35) & (value < 0.65)).all()


def test_distances_are_symmetric_whole_and_zero_to_oneself(tmp_path: Path) -> None:
    table = distance_table(shifted(tmp_path, 0.3))
    assert not table.isna().any(axis=None)
    for _, part in table.groupby("kind"):
        square = part.pivot(index="domain_a", columns="domain_b", values="distance").to_numpy()
        assert square.shape == (3, 3)
        np.testing.assert_array_equal(square, square.T)
        np.testing.assert_array_equal(square.diagonal(), 0)
        assert (square[~np.eye(3, dtype=bool)] > 0).all()


def test_domains_without_a_common_class_have_no_class_distance(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    test = {"clipart": [3, 3, 0, 0], "real": [1, 1, 1, 1], "sketch": [0, 0, 3, 3]}
    table = distance_table(shifted(tmp_path, 0.3, test, classes=4))
    pairs = set(zip(table["kind"], table["domain_a"], table["domain_b"], strict=True))
    assert ("domain", "clipart", "sketch") in pairs
    assert ("class", "clipart", "sketch") not in pairs
    assert ("class", "real", "sketch") in pairs
    assert not table["distance"].isna().any()
    assert "clipart and sketch have no class in common" in caplog.text


def test_a_domain_of_one_class_has_no_separability(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    test = {"clipart": [3, 3, 3, 3], "real": [3, 3, 3, 3], "sketch": [5, 0, 0, 0]}
    table = separability_table(shifted(tmp_path, 0.3, test, classes=4))
    assert table["domain"].tolist() == ["clipart", "real"]
    assert "no separability of sketch" in caplog.text


def test_a_style_with_a_dimension_of_its_own_ranks_it_first(tmp_path: Path) -> None:
    """Sketches get 0.9 in a dimension in which no other image has anything."""
    embeddings = shifted(tmp_path, 0.0)
    image = np.pad(embeddings.image_embeddings, ((0, 0), (0, 1)))
    image[(embeddings.rows["domain"] == "sketch").to_numpy(), -1] = 0.9
    changed = replace(embeddings, image_embeddings=image)
    table = difference_table(changed)
    first = table[table["rank"] == 1].set_index("domain")
    assert first["dimension"].to_dict() == dict.fromkeys(DOMAINS, 12)
    assert first.loc["sketch", "difference"] == pytest.approx(0.9)
    assert first.loc["real", "difference"] == pytest.approx(-0.45)
    scatter = scatter_table(changed, table, np.arange(len(image)))
    sketch = scatter[scatter["separated"] == "sketch"]
    assert (sketch["x"] == np.where(sketch["domain"] == "sketch", np.float32(0.9), 0)).all()


def test_a_domain_that_stands_alone_or_is_empty_has_no_dimensions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    embeddings = shifted(tmp_path, 0.0)
    alone = (embeddings.rows["domain"] == "real").to_numpy()
    one = replace(embeddings, rows=embeddings.rows[alone], image_embeddings=embeddings.image_embeddings[alone])
    table = difference_table(one)
    assert table.empty and scatter_table(one, table, np.arange(5)).empty
    assert "no dimensions of real: they need its images and those of another domain" in caplog.text
    assert "no dimensions of sketch" in caplog.text


def test_an_embedding_of_one_dimension_has_no_scatter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    embeddings = shifted(tmp_path, 0.0)
    one = replace(embeddings, image_embeddings=embeddings.image_embeddings[:, :1])
    table = difference_table(one)
    assert table["rank"].unique().tolist() == [1]
    assert scatter_table(one, table, np.arange(5)).empty
    assert "no two dimensions separate domains most: the embedding has one" in caplog.text


@pytest.mark.slow
def test_a_map_without_a_domain_has_the_same_images_of_the_others(tmp_path: Path) -> None:
    embeddings = shifted(tmp_path, 3.0)
    whole, left = (umap_table(embeddings, images=25, without=name, **UMAP) for name in (None, "sketch"))
    others = whole[whole["domain"] != "sketch"].reset_index(drop=True)
    pd.testing.assert_frame_equal(left[["row", "domain", "class"]], others[["row", "domain", "class"]])
    assert not np.allclose(left[["x", "y"]], others[["x", "y"]])


def test_a_domain_to_leave_out_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"^there is no domain 'skech': did you mean 'sketch'\?$") as caught:
        umap_table(shifted(tmp_path, 0.0), images=25, without="skech", **UMAP)
    assert caught.value.argument == "without"


@pytest.mark.slow
def test_map_is_the_same_each_time_and_keeps_groups_together(tmp_path: Path) -> None:
    embeddings = shifted(tmp_path, 3.0)
    first = umap_table(embeddings, images=25, **UMAP)
    assert list(first) == ["row", "domain", "class", "x", "y"]
    assert first["domain"].value_counts().to_dict() == dict.fromkeys(DOMAINS, 25)
    assert first.equals(umap_table(embeddings, images=25, **UMAP))
    other: dict[str, Any] = {**UMAP, "seed": 4}
    assert not first.equals(umap_table(embeddings, images=25, **other))
    points = first[["x", "y"]].to_numpy()
    sketch = (first["domain"] == "sketch").to_numpy()
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(len(points))
    assert (sketch[apart.argmin(axis=1)] == sketch).mean() > 0.95


@pytest.mark.slow
def test_densmap_gives_finite_points_of_its_own() -> None:
    image = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    plain, dense = (umap_points(image, **{**UMAP, "densmap": flag}) for flag in (False, True))
    assert np.isfinite(dense).all()
    assert not np.allclose(plain, dense)


def test_too_few_images_for_the_neighbours_are_named() -> None:
    with pytest.raises(DataError, match=r"there are 10 and 10: lower neighbours") as caught:
        umap_points(np.eye(10, dtype=np.float32), **UMAP)
    assert caught.value.argument == "neighbours"
