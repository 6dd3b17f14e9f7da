"""Scores of any model, checkpoint and set, opened by one call: the numbers that the embeddings give, in blocks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domix.embed.embeddings import check_index, checkpoints_of, load_embeddings, load_scored, sets_of, write_about
from domix.runtime.errors import DataError
from domix.runtime.files import sha256_file, write_json
from tests.fakes import make_index, write_embeddings

INDEX = make_index({"clipart": [1, 1, 1], "real": [1, 1, 1]}, {"clipart": [2, 0, 1], "real": [4, 3, 1]})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A CLIP model's folder with two checkpoints, and a set whose own two classes are two and one of four others."""
    folder = tmp_path / "run"
    write_embeddings(folder, INDEX, width=6)
    made = load_embeddings(folder)
    for epoch in (4, 12):
        home = folder / "checkpoints" / f"{epoch:03d}"
        home.mkdir(parents=True)
        np.save(home / "image.npy", np.roll(made.image_embeddings, epoch, axis=0).astype(np.float16))
        np.save(home / "text.npy", made.text)
    home = folder / "sets" / "objects"
    home.mkdir(parents=True)
    rows = made.rows.iloc[:4].assign(label=[0, 1, 1, 0], **{"class": ["axe", "bed", "bed", "axe"]})
    meta = made.meta | {"classes": ["a", "b", "c", "d"], "subset": [0, 2, 3], "answers": [[0, 2], [3]]}
    write_about(home, rows, meta)
    np.save(home / "image.npy", made.image_embeddings[:4])
    np.save(home / "text.npy", np.eye(4, 6, dtype=np.float32))
    return folder


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    folder = tmp_path / "classifier"
    folder.mkdir()
    rows = INDEX[INDEX["split"] == "test"]
    np.save(folder / "scores.npy", np.random.default_rng(0).normal(size=(len(rows), 3)).astype(np.float32))
    write_about(folder, rows, {"model_sha256": "0", "source": "emoji", "classes": [f"class_{k}" for k in range(3)]})
    return folder


def test_blocks_are_the_products_of_images_and_prototypes(run: Path) -> None:
    scored, made = load_scored(run, "clip"), load_embeddings(run)
    blocks = list(scored.blocks(4))
    assert [len(block) for block in blocks] == [4, 4, 3]
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate(list(scored.blocks())), made.image_embeddings @ made.text.T)
    np.testing.assert_allclose(np.concatenate(blocks), made.image_embeddings @ made.text.T, atol=1e-6)
    pd.testing.assert_frame_equal(scored.rows, made.rows)
    assert (scored.classes, scored.subset, scored.answers) == (made.classes, None, None)


def test_checkpoints_have_the_rows_of_the_run_and_numbers_of_their_own(run: Path) -> None:
    assert checkpoints_of(run) == [4, 12]
    made, found = load_embeddings(run), load_scored(run, "public", checkpoint=12)
    pd.testing.assert_frame_equal(found.rows, made.rows)
    scores = np.concatenate(list(found.blocks(5)))
    np.testing.assert_allclose(scores, np.roll(made.image_embeddings, 12, axis=0) @ made.text.T, atol=2e-3)


def test_sets_have_classes_answers_and_restrictions_of_their_own(run: Path) -> None:
    assert sets_of(run) == ["objects"]
    found = load_scored(run, "clip", source="objects")
    assert found.rows["class"].tolist() == ["axe", "bed", "bed", "axe"]
    assert (found.classes, found.subset, found.answers) == (["a", "b", "c", "d"], [0, 2, 3], [[0, 2], [3]])
    np.testing.assert_array_equal(next(found.blocks()), load_embeddings(run).image_embeddings[:4, :4])


def test_a_classifier_has_its_scores(classifier: Path) -> None:
    found = load_scored(classifier, "supervised")
    np.testing.assert_array_equal(np.concatenate(list(found.blocks(2))), np.load(classifier / "scores.npy"))
    assert found.text is None
    assert checkpoints_of(classifier) == sets_of(classifier) == []


def change(name: str, apply: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, apply(np.load(folder / name)))


def meta(**changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        known = json.loads((folder / "meta.json").read_text()) | changes
        write_json(folder / "meta.json", {key: value for key, value in known.items() if value is not None})

    return apply


FAULTS = {
    "no scores": (lambda folder: (folder / "scores.npy").unlink(), "scores.npy is missing"),
    "cut": (lambda folder: (folder / "scores.npy").write_bytes(b"\x93NUMPY"), "scores.npy is damaged"),
    "an image too few": (change("scores.npy", lambda a: a[1:]), "has 10 rows, but there are 11 images"),
    "a class too few": (change("scores.npy", lambda a: a[:, 1:]), "has scores of 2 classes, but names 3"),
    "double precision": (change("scores.npy", lambda a: a.astype(float)), "is float64"),
    "no image": (
        lambda folder: [change("scores.npy", lambda a: a[:0])(folder), write_about(folder, INDEX[:0], {})],
        "lacks model_sha256",
    ),
    "unknown label": (meta(answers=[[0], [1]]), "has labels that meta.json does not know"),
    "no digest": (meta(model_sha256=None), "lacks model_sha256"),
    "a later format": (meta(format=2), "has format 2, but this version reads 1"),
    "no table": (lambda folder: (folder / "meta.json").write_text("[]"), "meta.json lacks format"),
    "nothing": (shutil.rmtree, "classifier is missing"),
}


@pytest.mark.parametrize(("damage", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_told_in_a_sentence(classifier: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(classifier)
    with pytest.raises(DataError, match=message) as caught:
        load_scored(classifier, "supervised")
    assert "\n" not in str(caught.value)
    assert caught.value.remake is not None
    assert caught.value.remake.is_relative_to(classifier)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(classifier: Path, run: Path, value: float) -> None:
    for folder, name, kind in ((classifier, "scores.npy", "supervised"), (run, "image.npy", "clip")):
        array = np.load(folder / name)
        array[-1, 2] = value
        np.save(folder / name, array)
        blocks = load_scored(folder, kind).blocks(6)
        next(blocks)
        with pytest.raises(DataError, match="holds NaN or infinite values, as after a training"):
            next(blocks)


def test_widths_that_differ_are_told(run: Path) -> None:
    change("text.npy", lambda a: a[:, 1:])(run)
    with pytest.raises(DataError, match=r"image.npy is 6 wide, but text.npy 5"):
        load_scored(run, "clip")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"checkpoint": 5}, "checkpoints/005 is missing$"),
        ({"source": "imagenet"}, "sets/imagenet is missing$"),
    ],
)
def test_what_was_not_embedded_is_told(run: Path, where: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_scored(run, "clip", **where)  # ty: ignore[invalid-argument-type] (one of two)
    assert str(caught.value) == f"{caught.value.remake} is missing"


def test_embeddings_of_other_images_than_the_index_lists_are_refused(classifier: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.parquet"
    INDEX.to_parquet(index)
    check_index(classifier, index)  # does not say of which
    meta(index_sha256=sha256_file(index))(classifier)
    check_index(classifier, index)
    INDEX.assign(key=INDEX["key"].str.upper()).to_parquet(index)
    with pytest.raises(DataError, match=r"classifier was made of other images than .*index.parquet lists$") as caught:
        check_index(classifier, index)
    assert caught.value.remake == classifier
