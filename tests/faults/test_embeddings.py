"""Embeddings that are missing, damaged or do not fit together: one sentence, and nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from domix.embed.embeddings import Embeddings, load_embeddings
from domix.runtime.errors import DataError
from tests.fakes import make_index, write_embeddings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_embeddings(tmp_path / "run", make_index({"clipart": [1, 1], "real": [1, 1]}, 2), width=4)
    return tmp_path / "run"


def change_array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, change(np.load(folder / name)))


def change_meta(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text()) | changes
        kept = {key: value for key, value in meta.items() if value is not None}
        (folder / "meta.json").write_text(json.dumps(kept))

    return apply


def change_rows(column: str, value: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        rows = pd.read_parquet(folder / "rows.parquet")
        rows.loc[0, column] = value
        rows.to_parquet(folder / "rows.parquet")

    return apply


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Callable[[Path], int]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:40])


def nan_at_start(array: np.ndarray) -> np.ndarray:
    array[0, 0] = np.nan
    return array


DAMAGE = {
    "no image.npy": (remove("image.npy"), "image.npy is missing"),
    "no rows.parquet": (remove("rows.parquet"), "rows.parquet is missing"),
    "no layers": (remove("layers.safetensors"), "layers.safetensors is missing"),
    "no meta.json": (remove("meta.json"), "meta.json is missing"),
    "image.npy cut short": (cut("image.npy"), "image.npy is damaged"),
    "text.npy cut short": (cut("text.npy"), "text.npy is damaged"),
    "rows.parquet cut short": (cut("rows.parquet"), "rows.parquet is not a readable parquet file"),
    "layers cut short": (cut("layers.safetensors"), "layers.safetensors is damaged"),
    "meta.json cut short": (cut("meta.json"), "meta.json is not valid JSON"),
    "an image too few": (
        change_array("image.npy", lambda a: a[:-1]),
        "image.npy has 7 rows, but there are 8 images",
    ),
    "a class too few": (change_array("text.npy", lambda a: a[:-1]), "text.npy has 1 rows, but there are 2 classes"),
    "other widths": (
        change_array("text.npy", lambda a: np.eye(2, 3, dtype="f4")),
        "image.npy is 4 wide, but text.npy 3",
    ),
    "half precision": (change_array("image.npy", lambda a: a.astype("f2")), "image.npy is float16"),
    "NaN": (change_array("image.npy", nan_at_start), "image.npy holds NaN"),
    "not normalised": (
        change_array("image.npy", lambda a: 2 * a),
        "image.npy holds vectors that are not L2-normalised",
    ),
    "unknown domain": (
        change_meta(domains=["clipart", "sketch"]),
        "names domains or labels that meta.json does not know",
    ),
    "renamed class": (change_meta(classes=["class_1", "class_0"]), "classes and labels of rows.parquet are not those"),
    "unknown label": (change_rows("label", 7), "names domains or labels that meta.json does not know"),
    "no digest": (change_meta(model_sha256=None), "lacks model_sha256"),
    "later format": (change_meta(format=2), "has format 2, but this version reads 1"),
    "a layer too few": (change_meta(layers=["stem", "middle", "output"]), "lacks the layers middle"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_named(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        load_embeddings(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.remake is not None
    assert caught.value.remake.is_relative_to(folder)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing-s0 is missing$") as caught:
        load_embeddings(tmp_path / "nothing-s0")
    assert caught.value.remake == tmp_path / "nothing-s0"


def test_layer_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"has no layer 'attnpool': it holds output, stem"):
        load_embeddings(folder).layer("attnpool")


def test_layer_of_another_set_is_named(folder: Path) -> None:
    loaded = load_embeddings(folder)
    wrong = Embeddings(
        folder, loaded.image_embeddings, loaded.rows, loaded.text, loaded.meta | {"classes": ["only one"]}
    )
    with pytest.raises(DataError, match=r"layer 'stem' has shape \(2, 2, 8\), not \(2, 1, 'C'\)"):
        wrong.layer("stem")
