"""Embeddings on disk: what is written is what is read, the same bytes each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from domix.embed.embeddings import load_embeddings
from tests.fakes import make_index, save_embeddings, write_embeddings

INDEX = make_index({"clipart": [1, 1, 1], "real": [1, 1, 1]}, {"clipart": [2, 0, 1], "real": [1, 1, 1]})


def test_reads_what_was_written(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "first", INDEX, width=6)
    first = load_embeddings(tmp_path / "first")
    layers = {name: first.layer(name) for name in first.layers}
    layers["stem"][0, 1] = np.nan  # a cell without images
    save_embeddings(
        tmp_path / "second",
        image=first.image_embeddings,
        rows=first.rows,
        text=first.text,
        layers=layers,
        meta=first.meta,
    )
    second = load_embeddings(tmp_path / "second")
    np.testing.assert_array_equal(second.image_embeddings, first.image_embeddings)
    np.testing.assert_array_equal(second.text, first.text)
    pd.testing.assert_frame_equal(second.rows, first.rows)
    assert second.meta == first.meta
    assert (second.domains, second.classes, second.layers) == (
        ["clipart", "real"],
        ["class_0", "class_1", "class_2"],
        ["stem", "output"],
    )
    for name, means in layers.items():
        np.testing.assert_array_equal(second.layer(name), means)


def test_rows_keep_the_columns_of_the_contract_and_their_order(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "run", INDEX, width=6)
    rows = load_embeddings(tmp_path / "run").rows
    assert list(rows) == ["row", "key", "domain", "class", "label"]
    assert rows["row"].tolist() == INDEX.loc[INDEX["split"] == "test", "row"].tolist()


def test_equal_embeddings_are_equal_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_embeddings(tmp_path / name, INDEX, width=6)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("first", "second"))
    assert first == second
    assert set(first) == {"image.npy", "rows.parquet", "text.npy", "layers.safetensors", "meta.json"}


def test_files_are_readable_by_all_whom_the_folder_admits(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "run", INDEX, width=6)
    modes = {path.stat().st_mode for path in (tmp_path / "run").iterdir()}
    assert len(modes) == 1


def test_reading_needs_no_torch() -> None:
    code = "import sys, domix.embed.embeddings; sys.exit('torch' in sys.modules or 'open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
