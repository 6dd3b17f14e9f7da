"""ImageNet-Sketch: archive and folders."""

from __future__ import annotations

import zipfile

import pytest

from domix.data.classes.imagenet import imagenet_classes
from domix.data.sources.imagenet_sketch import ImageNetSketch
from domix.runtime.errors import DataError
from tests.fixtures import write_zip
from tests.source_trees import WNIDS, check_source, image, make_tree, read

PATHS = [f"sketch/{wnid}/sketch_{number}.JPEG" for wnid in WNIDS for number in (10, 9, 1)]


def in_zip(root):
    write_zip(root / "ImageNet-Sketch.zip", {path: image(path) for path in reversed(PATHS)} | {"sketch/README": b"x"})


def in_folder(root):
    make_tree(root, *PATHS)


def without_folder(root):
    make_tree(root, *PATHS)
    for path in (root / "sketch").iterdir():
        path.rename(root / path.name)
    (root / "sketch").rmdir()


@pytest.mark.parametrize("make", [in_zip, in_folder, without_folder])
def test_every_way_to_lie_on_disk_gives_the_same_samples(tmp_path, make):
    make(tmp_path)
    found = check_source(ImageNetSketch(), tmp_path)
    assert [s.key for s in found] == [path[len("sketch/") : -5] for path in sorted(PATHS)]
    assert [s.data for s in found] == [image(path) for path in sorted(PATHS)]
    assert list(ImageNetSketch().listing(tmp_path, poses=1)["path"]) == sorted(PATHS)
    assert {(s.domain, s.split) for s in found} == {("imagenet-sketch", "train")}
    for sample in found:
        known = imagenet_classes()[sample.key.split("/")[0]]
        assert (sample.class_name, sample.label) == (known.text, known.label)


def test_order_is_torchvisions(tmp_path):
    """The captions of the reference are drawn in ImageFolder's order."""
    datasets = pytest.importorskip("torchvision.datasets")
    in_folder(tmp_path)
    expected = [path[len(str(tmp_path)) + 1 :] for path, _ in datasets.ImageFolder(str(tmp_path / "sketch")).samples]
    assert list(ImageNetSketch().listing(tmp_path, poses=1)["path"]) == expected


def fails(root, pattern):
    with pytest.raises(DataError, match=pattern) as caught:
        read(ImageNetSketch(), root)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    fails(tmp_path, r"holds neither ImageNet-Sketch\.zip nor sketch/<wnid>/$")
    fails(tmp_path / "nowhere", "holds neither")


def test_unknown_classes(tmp_path):
    fails(make_tree(tmp_path, "sketch/n99999999/a.JPEG"), "holds n99999999, which is none of")


def test_a_class_in_two_directories(tmp_path):
    write_zip(tmp_path / "ImageNet-Sketch.zip", {f"{d}/n01440764/a.JPEG": b"x" for d in ("a", "b")})
    fails(tmp_path, "holds a class in two directories")


def test_hostile_and_damaged_archives(tmp_path):
    write_zip(tmp_path / "ImageNet-Sketch.zip", {"../n01440764/a.JPEG": b"x"})
    fails(tmp_path, "leads out of its folder: do not trust this archive")
    (tmp_path / "ImageNet-Sketch.zip").write_bytes(b"x")
    fails(tmp_path, "is not a whole zip archive")


def test_a_damaged_member(tmp_path):
    in_zip(tmp_path)
    path = tmp_path / "ImageNet-Sketch.zip"
    with zipfile.ZipFile(path) as archive:
        member = archive.read(PATHS[0])
    data = path.read_bytes()
    path.write_bytes(data.replace(member, member[:-3] + b"abc"))
    fails(tmp_path, r"sketch_10\.JPEG in .* is damaged")
