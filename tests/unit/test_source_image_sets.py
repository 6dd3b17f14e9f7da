"""Sets of images in one folder: with classes, without, and what lists name."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from domix.data.archives.manifests import load_manifest
from domix.data.classes.ood_groups import CONVENTION
from domix.data.sources.contract import NO_LABEL
from domix.data.sources.image_sets import LAYOUTS
from domix.data.sources.registry import get_source, registry
from domix.runtime.errors import DataError
from tests.source_trees import check_source, image, make_tree, read

WITH_CLASSES = {  # set -> a folder that it is found in
    "inaturalist": "iNaturalist",
    "sun": "SUN",
    "places": "images",
    "textures": "dtd/images",
    "ninco": "NINCO/NINCO_OOD_classes",
    "imagenet-o": "imagenet-o",
    "ssb-hard": "ssb_hard",
    "image-folder": ".",
}
CLASSES = ("amphiuma_means", "n01440764", "Zebra")
TEXTS = ("Zebra", "amphiuma means", "n01440764")


@pytest.mark.parametrize("name", WITH_CLASSES)
def test_folders_of_classes_as_published_or_as_the_root_itself(tmp_path, name):
    for root, folder in ((tmp_path / "a", WITH_CLASSES[name]), (tmp_path / "b", ".")):
        make_tree(root, *[f"{folder}/{directory}/{n}.jpg" for directory in CLASSES for n in (1, 0)])
        found = check_source(get_source(name), root)
        assert [s.class_name for s in found] == [text for text in TEXTS for _ in (0, 1)]
        assert [s.label for s in found] == [0, 0, 1, 1, 2, 2]
        keys = [f"{directory}/{n}" for directory in ("Zebra", "amphiuma_means", "n01440764") for n in (0, 1)]
        assert [s.key for s in found] == keys
        assert [s.data for s in found] == [image(f"{folder}/{key}.jpg") for key in keys]
        assert {(s.domain, s.split) for s in found} == {(name, "test")}
        assert get_source(name).listing(root, poses=1)["path"].tolist() == [f"{key}.jpg" for key in keys]


@pytest.mark.parametrize("name", ["inaturalist", "sun", "places", "openimage-o"])
def test_images_without_folders_have_no_class(tmp_path, name):
    folder = next(folder for folder in LAYOUTS[name].folders if folder.endswith("/images"))
    make_tree(tmp_path, f"{folder}/b_badlands_1.jpg", f"{folder}/a.jpg")
    found = check_source(get_source(name), tmp_path)
    assert [(s.key, s.class_name, s.label) for s in found] == [("a", None, NO_LABEL), ("b_badlands_1", None, NO_LABEL)]


def test_textures_are_the_test_split_where_the_whole_set_lies(tmp_path):
    make_tree(tmp_path, *[f"dtd/images/{c}/{c}_{n}.jpg" for c in ("banded", "woven") for n in range(3)])
    (tmp_path / "dtd/labels").mkdir()
    (tmp_path / "dtd/labels/test1.txt").write_text("woven/woven_2.jpg\nbanded/banded_0.jpg\nbanded/banded_1.jpg\n")
    found = check_source(get_source("textures"), tmp_path)
    assert [s.key for s in found] == ["banded/banded_0", "banded/banded_1", "woven/woven_2"]
    assert get_source("textures").files(tmp_path) == ["dtd/images", "dtd/labels/test1.txt"]


@pytest.mark.parametrize(
    ("name", "folder", "lines", "keys"),
    [
        ("openimage-o", "openimage_o/images", "openimage_o/images/b.jpg -1\n\n", ["b"]),
        ("openimage-o", "images", "c.jpg\r\ntest/a.jpg -1", ["a", "c"]),
        ("ssb-hard", "ssb_hard/n1", "ssb_hard/n1/b.jpg -1\nssb_hard/n1/a.jpg -1", ["n1/a", "n1/b"]),
        ("ninco", "ninco/eel", "ninco/eel/a.jpg -1", ["eel/a"]),
        ("ssb-hard", "ssb_hard/n1", "n1/with blank 7.jpg 12", ["n1/with blank 7"]),
    ],
)
def test_a_list_chooses_whatever_its_paths_begin_with(tmp_path, name, folder, lines, keys):
    make_tree(tmp_path, *[f"{folder}/{file}.jpg" for file in ("a", "b", "c", "with blank 7")])
    (tmp_path / LAYOUTS[name].lists[-1]).write_bytes(lines.encode())
    assert [sample.key for sample in check_source(get_source(name), tmp_path)] == keys


def test_other_counts_than_published_are_mentioned_where_no_list_chooses(tmp_path, caplog):
    make_tree(tmp_path, "NINCO_OOD_classes/a/0.jpg", "NINCO_OOD_classes/b/0.jpg")
    with caplog.at_level(logging.WARNING):
        read(get_source("ninco"), tmp_path)
    assert "holds 2 classes, but ninco has 64" in caplog.text and "holds 2 images, but ninco has 5879" in caplog.text
    caplog.clear()
    (tmp_path / "test_ninco.txt").write_text("a/0.jpg")
    read(get_source("ninco"), tmp_path)
    assert caplog.text == ""


def test_the_counts_are_the_published_ones():
    classes = {"inaturalist": 110, "sun": 50, "places": 50, "textures": 47, "ninco": 64, "imagenet-o": 200}
    assert {name: layout.classes for name, layout in LAYOUTS.items() if layout.classes} == classes
    images = {"inaturalist": 10_000, "sun": 10_000, "places": 10_000, "ninco": 5_879, "imagenet-o": 2_000}
    assert {name: layout.images for name, layout in LAYOUTS.items() if layout.images} == images


def test_every_set_of_the_convention_is_a_source_with_a_manifest():
    named = {*CONVENTION, *(name for known in CONVENTION.values() for name in known)}
    assert named <= set(registry())
    assert all(load_manifest(name) is not None for name in {*named, *LAYOUTS})


# Faults -------------------------------------------------------------------------------------------


def fails(name: str, root: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=pattern) as caught:
        read(get_source(name), root)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    fails("sun", tmp_path, "holds no images, neither <class>/<file> nor <file>: name another folder")
    fails("sun", tmp_path / "nowhere", "nowhere is no folder")
    (tmp_path / "empty").mkdir()
    fails("image-folder", tmp_path, "holds no images")


def test_images_beside_classes(tmp_path):
    make_tree(tmp_path, "a/0.jpg", "stray.jpg")
    fails("image-folder", tmp_path, r"holds images beside folders of images, for one stray\.jpg and a/: sort them")


def test_classes_that_read_alike(tmp_path):
    make_tree(tmp_path, "ice_cream/0.jpg", "ice cream/0.jpg")
    fails("image-folder", tmp_path, "holds classes whose names read alike: rename or join them")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("b/0.jpg\na/9.jpg -1", r"test_ninco\.txt, line 2 names a/9\.jpg, which .* does not hold: complete it, or"),
        ("b/0.jpg\nninco/b/0.jpg -1", r"test_ninco\.txt, line 2 names b/0\.jpg a second time: correct the list"),
        ("\n \n", r"test_ninco\.txt names no image: get it anew, or remove it"),
    ],
)
def test_a_list_that_does_not_fit(tmp_path, lines, says):
    make_tree(tmp_path, "NINCO_OOD_classes/a/0.jpg", "NINCO_OOD_classes/b/0.jpg")
    (tmp_path / "test_ninco.txt").write_text(lines)
    fails("ninco", tmp_path, says)
