"""Distances between domains against slow loops, and UMAP's neighbours against UMAP's own."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from domix.analyses.sampling import draw_rows
from domix.analyses.separation.dimensions import difference_table, scatter_table
from domix.analyses.separation.measures import distance_table, nearest_neighbours, separability_table
from domix.embed.embeddings import Embeddings, load_embeddings
from tests.fakes import make_index, write_embeddings

TEST = {"clipart": [3, 0, 1, 2], "real": [1, 2, 4, 1], "sketch": [0, 5, 0, 2]}


@pytest.fixture
def embeddings(tmp_path: Path) -> Embeddings:
    write_embeddings(tmp_path / "run", make_index({name: [1] * 4 for name in TEST}, TEST), width=8)
    return load_embeddings(tmp_path / "run")


def mean_of(embeddings: Embeddings, domain: str, name: str | None = None) -> np.ndarray | None:
    total, count = np.zeros(embeddings.image_embeddings.shape[1]), 0
    rows = embeddings.rows
    for vector, here, label in zip(embeddings.image_embeddings, rows["domain"], rows["label"], strict=True):
        if here == domain and name in (None, embeddings.classes[label]):
            total, count = total + vector, count + 1
    return total / count if count else None


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5


def test_distances_equal_slow_loops(embeddings: Embeddings) -> None:
    table = distance_table(embeddings).set_index(["kind", "domain_a", "domain_b"])["distance"]
    assert len(table) == 2 * 3 * 3
    for a in TEST:
        for b in TEST:
            apart = []
            for name in embeddings.classes:
                mean_a, mean_b = mean_of(embeddings, a, name), mean_of(embeddings, b, name)
                if mean_a is not None and mean_b is not None:
                    apart.append(distance(mean_a, mean_b))
            whole_a, whole_b = mean_of(embeddings, a), mean_of(embeddings, b)
            assert whole_a is not None
            assert whole_b is not None
            assert table["domain", a, b] == pytest.approx(distance(whole_a, whole_b), abs=1e-6)
            assert table["class", a, b] == pytest.approx(sum(apart) / len(apart), abs=1e-6)


def test_differences_equal_slow_loops_and_rank_by_their_size(embeddings: Embeddings) -> None:
    """The reference's |mean of a domain's features - mean of all others'|, and the two greatest for its scatter."""
    table = difference_table(embeddings)
    image, domains = embeddings.image_embeddings, embeddings.rows["domain"].to_numpy()
    assert table["domain"].unique().tolist() == list(TEST)
    for name, mine in table.groupby("domain"):
        expected = [
            sum(float(v[d]) for v, other in zip(image, domains, strict=True) if other == name) / (domains == name).sum()
            - sum(float(v[d]) for v, other in zip(image, domains, strict=True) if other != name)
            / (domains != name).sum()
            for d in range(image.shape[1])
        ]
        assert mine["rank"].tolist() == list(range(1, image.shape[1] + 1))
        assert sorted(mine["dimension"]) == list(range(image.shape[1]))
        np.testing.assert_allclose(mine["difference"], np.array(expected)[mine["dimension"]], atol=1e-7)
        assert (mine["difference"].abs().diff().dropna() <= 0).all()


def test_the_scatter_has_the_drawn_images_in_the_two_foremost_dimensions(embeddings: Embeddings) -> None:
    differences, chosen = difference_table(embeddings), np.array([1, 5, 20])
    table = scatter_table(embeddings, differences, chosen)
    assert len(table) == 3 * len(TEST)
    for name, mine in table.groupby("separated"):
        first, second = differences[differences["domain"] == name].sort_values("rank")["dimension"][:2]
        np.testing.assert_array_equal(mine["x"], embeddings.image_embeddings[chosen, first])
        np.testing.assert_array_equal(mine["y"], embeddings.image_embeddings[chosen, second])
        assert mine["row"].tolist() == embeddings.rows["row"].iloc[chosen].tolist()
        assert mine["domain"].tolist() == embeddings.rows["domain"].iloc[chosen].tolist()


def test_separability_equals_a_probe_written_out(embeddings: Embeddings) -> None:
    """Ridge regression on -1 and 1 with balanced weights and an unpenalised intercept, fold by fold."""
    from sklearn.model_selection import GroupKFold

    image, label = embeddings.image_embeddings.astype(np.float64), embeddings.rows["label"].to_numpy()
    inside = (embeddings.rows["domain"] == "real").to_numpy()
    told = np.zeros(len(image), dtype=bool)
    for train, test in GroupKFold(4).split(image, groups=label):
        y = np.where(inside[train], 1.0, -1.0)
        weight = np.where(inside[train], 0.5 / inside[train].mean(), 0.5 / (~inside[train]).mean())
        x0, y0 = np.average(image[train], axis=0, weights=weight), np.average(y, weights=weight)
        x = image[train] - x0
        w = np.linalg.solve((x * weight[:, None]).T @ x + np.eye(x.shape[1]), (x * weight[:, None]).T @ (y - y0))
        told[test] = (image[test] - x0) @ w + y0 > 0
    expected = (told[inside].mean() + (~told[~inside]).mean()) / 2
    table = separability_table(embeddings).set_index("domain")
    assert table.loc["real", "value"] == pytest.approx(expected)
    assert table["n"].to_dict() == {"clipart": 6, "real": 8, "sketch": 7}


@pytest.mark.slow
def test_neighbours_give_umap_the_graph_that_it_finds_itself() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap.umap_ import fuzzy_simplicial_set

    rng = np.random.default_rng(0)
    image = rng.normal(size=(120, 6)).astype(np.float32)
    image[100:] = image[:20]  # equal images: some distances are exactly zero
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    indices, distances = nearest_neighbours(image, 8)
    assert (distances[:, 0] == 0).all()
    assert (distances[100:, 1] == 0).all()
    exact = np.linalg.norm(image[:, None].astype(np.float64) - image[None], axis=2)
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :8], atol=1e-6)
    np.testing.assert_allclose(distances, np.take_along_axis(exact, indices, axis=1), atol=1e-6)
    state = np.random.RandomState(0)
    ours = fuzzy_simplicial_set(image, 8, state, "euclidean", knn_indices=indices, knn_dists=distances)[0]
    theirs = fuzzy_simplicial_set(exact.astype(np.float32), 8, state, "precomputed")[0]
    # where an image stands twice, either may come first; the strengths of all edges are the same
    np.testing.assert_allclose(np.sort(ours.data), np.sort(theirs.data), atol=1e-4)


def test_draws_each_domain_alone_without_repeats() -> None:
    domains = np.array(["real"] * 50 + ["sketch"] * 7 + ["clipart"] * 30, dtype=object)
    chosen = draw_rows(domains, 10, seed=1)
    assert (np.diff(chosen) > 0).all()
    assert [int((domains[chosen] == name).sum()) for name in ("real", "sketch", "clipart")] == [10, 7, 10]
    alone = draw_rows(domains[:50], 10, seed=1)
    np.testing.assert_array_equal(chosen[:10], alone)
    assert not np.array_equal(draw_rows(domains, 10, seed=2), chosen)
