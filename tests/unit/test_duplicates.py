"""Copies of held-out images: what counts as one, what is left out, and which samples a study then does without."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from domix.data.mixtures.duplicates import COLUMNS, hash_bits, in_cells, is_flat, leaked, near_pairs, rows_to_drop
from domix.data.store.images import phash
from domix.runtime.errors import DataError

ROW = {"domain": "real", "class": "cat", "split": "train", "sha256": "a", "phash": "ff" * 8}


def index(*rows: dict[str, object]) -> pd.DataFrame:
    frame = pd.DataFrame([ROW | row for row in rows])
    return frame.assign(row=np.arange(len(frame)))


def drawing(*, shift: int = 0) -> Image.Image:
    image = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((8 + shift, 12, 40 + shift, 50), fill="navy")
    draw.polygon([(30, 5), (60, 20), (44, 60)], fill="orange")
    return image


def test_a_rescaled_image_is_near_and_another_is_not():
    same, rescaled, other = drawing(), drawing().resize((90, 90)), drawing(shift=20)
    bits = hash_bits(pd.Series([phash(image) for image in (same, rescaled, other)]))
    assert [pair[1] for pair in zip(*near_pairs(bits[:1], bits, 6), strict=True)] == [0, 1]


def test_blank_images_are_flat_and_drawings_are_not():
    blank = [Image.new("RGB", (64, 64), colour) for colour in ("white", "black", "teal")]
    bits = hash_bits(pd.Series([phash(image) for image in [*blank, drawing()]]))
    assert is_flat(bits).tolist() == [True, True, True, False]
    assert near_pairs(bits, bits, 6)[0].tolist() == [3]


def test_equal_blank_files_are_still_found():
    held_out = pd.DataFrame({"row": [5], "sha256": ["x"], "phash": ["8" + "0" * 15]})
    samples = pd.DataFrame({"row": [1, 2], "sha256": ["x", "y"], "phash": ["8" + "0" * 15] * 2})
    assert leaked(held_out, {"base": samples}, 6).to_dict("records") == [
        {"kind": "exact", "test_row": 5, "source": "base", "row": 1, "distance": 0}
    ]


def test_hashes_are_read_as_written():
    assert hash_bits(pd.Series(["0000000000000001", "fedcba9876543210"])).tolist() == [1, 0xFEDCBA9876543210]
    assert hash_bits(pd.Series([], dtype="str")).tolist() == []


@pytest.mark.parametrize("bad", ["123", "0" * 17, "g" * 16, None])
def test_a_bad_hash_is_refused_in_one_sentence(bad):
    with pytest.raises(DataError, match=r"not 16 hexadecimal digits \(.*\)$") as caught:
        hash_bits(pd.Series(["0" * 16, bad], dtype="str"))
    assert caught.value.argument == "indices"


def test_nothing_found_gives_an_empty_table_of_the_same_columns():
    empty = pd.DataFrame({"row": [], "sha256": [], "phash": []}).astype(
        {"row": "int64", "sha256": "str", "phash": "str"}
    )
    for table in (leaked(empty, {"a": empty}, 6), leaked(empty, {}, None)):
        assert table.dtypes.astype(str).to_dict() == COLUMNS and table.empty


def test_the_held_out_cells_own_samples_are_never_dropped_and_copies_elsewhere_are():
    main = index(
        {"domain": "sketch", "class": "cat", "split": "test", "sha256": "t1"},
        {"domain": "sketch", "class": "cat", "sha256": "t1"},  # a pose of the test drawing, in the held-out cell
        {"domain": "sketch", "class": "lynx", "sha256": "t1"},  # the same file under another class
        {"domain": "real", "class": "cat", "phash": "ff" * 7 + "f0", "sha256": "near"},
        {"domain": "real", "class": "dog", "split": "test", "sha256": "t1"},  # no training sample
    )
    base = index({"sha256": "t1", "class": None}, {"sha256": "z", "phash": "0f" * 8})
    base.loc[0, ["domain", "class"]] = ["sketch", "cat"]  # a base source's samples are no cells
    indices = {"domainnet": main, "base": base}
    exact = rows_to_drop(indices, "sketch", ["cat"], near_bits=None)
    assert {name: rows.tolist() for name, rows in exact.items()} == {"domainnet": [2], "base": [0]}
    near = rows_to_drop(indices, "sketch", ["cat"], near_bits=4)
    assert {name: rows.tolist() for name, rows in near.items()} == {"domainnet": [2, 3], "base": [0]}


def test_samples_without_a_class_lie_in_no_cell():
    rows = index({"class": None}, {"class": "cat"})
    assert in_cells(rows, "real", ["cat"]).tolist() == [False, True]
