"""ImageNet-V2, -R and -A: folders and tar files."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest

from domix.data.archives.manifests import load_manifest
from domix.data.classes.imagenet import imagenet_classes
from domix.data.classes.imagenet_subsets import subset_labels, subset_wnids
from domix.data.sources.imagenet_variants import LAYOUTS
from domix.data.sources.registry import get_source
from domix.runtime.errors import DataError
from tests.source_trees import check_source, image, make_tar, make_tree, read

DIRECTORIES = {  # of three classes each, in label order
    "imagenet-v2": ("2", "10", "999"),
    "imagenet-r": ("n01443537", "n02099601", "n12267677"),
    "imagenet-a": ("n01498041", "n02099601", "n12267677"),
}
LABELS = {"imagenet-v2": (2, 10, 999), "imagenet-r": (1, 207, 988), "imagenet-a": (6, 207, 988)}
FILES = ("b 0.12.jpg", "a.jpg")
NAMES = tuple(LAYOUTS)


def paths(name: str) -> list[str]:
    return [f"{LAYOUTS[name].folder}/{directory}/{file}" for directory in DIRECTORIES[name] for file in FILES]


def in_folder(root: Path, name: str) -> None:
    make_tree(root, *paths(name))
    (root / LAYOUTS[name].folder / "README.txt").write_text("read me")


def without_folder(root: Path, name: str) -> None:
    make_tree(root, *paths(name))
    for path in (root / LAYOUTS[name].folder).iterdir():
        path.rename(root / path.name)
    (root / LAYOUTS[name].folder).rmdir()


def in_archive(root: Path, name: str) -> None:
    members = {path: image(path) for path in reversed(paths(name))}
    make_tar(root / LAYOUTS[name].archives[0], {f"{LAYOUTS[name].folder}/README.txt": b"read me"} | members)


@pytest.mark.parametrize("make", [in_folder, without_folder, in_archive])
@pytest.mark.parametrize("name", NAMES)
def test_every_way_to_lie_on_disk_gives_the_same_samples(tmp_path, name, make):
    make(tmp_path, name)
    found = check_source(get_source(name), tmp_path)
    expected = [path for d in DIRECTORIES[name] for path in sorted(paths(name)) if f"/{d}/" in path]
    assert list(get_source(name).listing(tmp_path, poses=1)["path"]) == expected
    assert [sample.data for sample in found] == [image(path) for path in expected]
    assert [sample.label for sample in found] == [label for label in LABELS[name] for _ in FILES]
    texts = [known.text for known in imagenet_classes().values()]
    assert [sample.class_name for sample in found] == [texts[sample.label] for sample in found]
    assert {(sample.domain, sample.split, sample.border) for sample in found} == {(name, "test", 0)}


def test_a_plain_tar_under_another_name_does_too(tmp_path):
    in_archive(tmp_path, "imagenet-v2")
    (tmp_path / "imagenetv2-matched-frequency.tar.gz").rename(tmp_path / "imagenetv2-matched-frequency.tar")
    assert len(read(get_source("imagenet-v2"), tmp_path)) == 6


def test_directories_of_version_2_are_numbers_not_words(tmp_path):
    """Sorted as text, 10 comes before 2, and torchvision's ImageFolder calls them 0 and 1."""
    make_tree(tmp_path, *(f"{number}/a.jpg" for number in range(12)))
    found = read(get_source("imagenet-v2"), tmp_path)
    assert [(sample.label, sample.key) for sample in found] == [(number, f"{number}/a") for number in range(12)]


@pytest.mark.parametrize(("name", "letter"), [("imagenet-r", "r"), ("imagenet-a", "a")])
def test_the_200_classes_are_timms(name, letter):
    info = Path(importlib.util.find_spec("timm").origin).parent / "data/_info"
    assert sorted((info / f"imagenet_{letter}_synsets.txt").read_text().split()) == list(subset_wnids()[name])
    assert sorted(map(int, (info / f"imagenet_{letter}_indices.txt").read_text().split())) == subset_labels(name)
    assert len(subset_labels(name)) == 200


def test_other_sets_have_no_subset():
    assert subset_labels("imagenet-v2") is None
    assert subset_labels("emoji") is None


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_downloads_an_archive_that_the_source_reads(name):
    (remote,) = load_manifest(name).files
    assert remote.file in LAYOUTS[name].archives


def test_classes_that_are_missing_are_mentioned(tmp_path, caplog):
    in_folder(tmp_path, "imagenet-r")
    with caplog.at_level(logging.WARNING):
        read(get_source("imagenet-r"), tmp_path)
    assert "3 of the 200 classes of ImageNet-R" in caplog.text


# Faults -------------------------------------------------------------------------------------------


def fails(name: str, root: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=pattern) as caught:
        read(get_source(name), root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_there(tmp_path, name):
    fails(name, tmp_path, r"holds neither imagenet.*/ nor imagenet.*\.tar(\.gz)?$")
    fails(name, tmp_path / "nowhere", "holds neither")


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        ("imagenet-r", "extra"),
        ("imagenet-r", "n01440764"),  # tench: of ImageNet, but not of this set
        ("imagenet-a", "n99999999"),
        ("imagenet-v2", "1000"),
        ("imagenet-v2", "007"),
        ("imagenet-v2", "n01440764"),
    ],
)
@pytest.mark.parametrize("make", [in_folder, without_folder, in_archive])
def test_a_directory_that_is_no_class(tmp_path, name, directory, make):
    make(tmp_path, name)
    if make is in_archive:
        members = {path: image(path) for path in [*paths(name), f"{LAYOUTS[name].folder}/{directory}/a.jpg"]}
        make_tar(tmp_path / LAYOUTS[name].archives[0], members)
    else:
        make_tree(tmp_path / (LAYOUTS[name].folder if make is in_folder else ""), f"{directory}/a.jpg")
    fails(name, tmp_path, f"holds the directory '{directory}', which is none of the (200|1,000) classes of ImageNet-")


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_images(tmp_path, name):
    in_folder(tmp_path, name)
    for path in (tmp_path / LAYOUTS[name].folder / DIRECTORIES[name][1]).iterdir():
        path.rename(path.with_suffix(".txt"))
    fails(name, tmp_path, f"holds no images in {DIRECTORIES[name][1]}: complete ImageNet-")


def test_a_class_in_two_directories(tmp_path):
    make_tar(tmp_path / "imagenet-a.tar", {f"{top}/n01498041/a.jpg": b"x" for top in ("a", "b")})
    fails("imagenet-a", tmp_path, "holds a class in two directories")


def test_an_archive_that_is_packed_after_all(tmp_path):
    (tmp_path / "imagenetv2-matched-frequency.tar.gz").write_bytes(b"\x1f\x8b" + bytes(1022))
    fails("imagenet-v2", tmp_path, r"is packed with gzip: unpack it to a plain \.tar")


def test_a_damaged_archive(tmp_path):
    in_archive(tmp_path, "imagenet-r")
    path = tmp_path / "imagenet-r.tar"
    path.write_bytes(path.read_bytes()[:2000])
    fails("imagenet-r", tmp_path, "cut off")
