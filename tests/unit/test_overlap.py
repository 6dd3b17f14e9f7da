"""What an out-of-distribution set shares with the data that it is to be told from."""

from __future__ import annotations

import pandas as pd
import pytest

from domix.data.mixtures.overlap import shared_classes, shared_images

BASE = int("0123456789abcdef", 16)  # half of the bits set


@pytest.mark.parametrize(
    ("foreign", "known", "shared"),
    [
        (["T-shirt", "sock"], ["t shirt", "hat"], ["T-shirt"]),
        (["ice_cream", "Ice  Cream "], ["ICE-CREAM"], ["Ice  Cream ", "ice_cream"]),
        (["Straße"], ["STRASSE"], ["Straße"]),
        (["suit"], ["heart suit"], []),
        (["icecream"], ["ice cream"], []),
        ([], ["a"], []),
    ],
)
def test_classes_are_compared_without_case_blanks_and_hyphens(foreign, known, shared):
    assert shared_classes(foreign, known) == shared


def index(files: dict[str, tuple[str, int]]) -> pd.DataFrame:
    """Return an index of images: key -> file (that stands for its SHA-256) and perceptual hash."""
    rows = [(key, file * 64, f"{phash:016x}") for key, (file, phash) in files.items()]
    return pd.DataFrame(rows, columns=["key", "sha256", "phash"]).assign(row=range(10, 10 + len(rows)))


def test_copies_and_near_copies_are_found_in_every_source():
    foreign = index({"a": ("1", BASE), "b": ("2", BASE ^ 0b111), "c": ("3", ~BASE & (1 << 64) - 1)})
    known = {
        "two": index({"x": ("9", BASE ^ 0b1), "y": ("3", 0)}),
        "one": index({"z": ("1", BASE)}),
    }
    found = shared_images(foreign, known, 2)
    assert found.to_dict("split")["data"] == [
        ["near", "two", 1, "a", "x"],
        ["exact", "one", 0, "a", "z"],
        ["near", "two", 2, "b", "x"],
        ["exact", "two", 0, "c", "y"],
    ]
    assert list(found.columns) == ["kind", "source", "distance", "image", "other"]
    nearer = shared_images(foreign, known, 1)
    assert nearer["image"].tolist() == ["a", "a", "c"]
    assert shared_images(foreign, {"one": known["one"]}, 0)["other"].tolist() == ["z"]


def test_sets_without_a_common_image_give_no_pair():
    foreign, known = index({"a": ("1", BASE)}), index({"b": ("2", BASE >> 1)})
    assert shared_images(foreign, {"k": known}, 3).empty
