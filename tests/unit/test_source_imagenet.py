"""ImageNet: folders and tar files, validation labels in three forms, the class texts."""

from __future__ import annotations

import importlib.util
import itertools
import pickle
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from domix.data.classes.imagenet import imagenet_classes
from domix.data.sources.imagenet import ImageNet
from domix.runtime.errors import DataError
from tests.source_trees import WNIDS, check_source, image, make_tar, make_tree, read, tar_bytes

TRAIN = [f"train/{wnid}/{wnid}_{number}.JPEG" for wnid in WNIDS for number in (10, 9)]
VAL = {f"ILSVRC2012_val_0000000{number}.JPEG": wnid for number, wnid in enumerate(reversed(WNIDS), start=1)}
KAGGLE = "ImageId,PredictionString\n" + "".join(
    f"{name.removesuffix('.JPEG')},{wnid} 85 1 499 272 {wnid} 1 2 3 4\n" for name, wnid in sorted(VAL.items())
)
SYNSETS = "".join(f"{VAL[name]}\n" for name in sorted(VAL))
CAFFE = "".join(f"{name} {imagenet_classes()[wnid].label}\n" for name, wnid in VAL.items())


def train_folder(root: Path) -> Path:
    return make_tree(root, *TRAIN)


def train_tar(root: Path) -> Path:
    members = {}
    for wnid in reversed(WNIDS):
        paths = [path for path in TRAIN if wnid in path]
        members[f"{wnid}.tar"] = tar_bytes({path.rpartition("/")[2]: image(path) for path in paths})
    make_tar(root / "ILSVRC2012_img_train.tar", members)
    return root


def val_folders(root: Path) -> Path:
    for name, wnid in VAL.items():
        (root / "val" / wnid).mkdir(parents=True)
        (root / "val" / wnid / name).write_bytes(image(name))
    return root


def val_flat(root: Path, labels: str = "LOC_val_solution.csv", text: str = KAGGLE) -> Path:
    (root / "val").mkdir()
    for name in VAL:
        (root / "val" / name).write_bytes(image(name))
    (root / labels).write_text(text)
    return root


def val_tar(root: Path) -> Path:
    make_tar(root / "ILSVRC2012_img_val.tar", {name: image(name) for name in VAL})
    (root / "LOC_val_solution.csv").write_text(KAGGLE)
    return root


def package(name: str) -> Path:
    """Return the folder of a package without importing it, which takes seconds."""
    return Path(importlib.util.find_spec(name).origin).parent


# Classes ------------------------------------------------------------------------------------------


def test_class_texts_are_open_clips_with_the_four_replacements():
    names = list(runpy.run_path(str(package("open_clip") / "zero_shot_metadata.py"))["IMAGENET_CLASSNAMES"])
    for label, text in {27: "eft", 638: "maillot", 744: "projectile", 836: "sunglass"}.items():
        names[label] = text
    assert [c.text for c in imagenet_classes().values()] == names
    assert len(set(names)) == 1000


def test_wnids_are_timms():
    synsets = (package("timm") / "data/_info/imagenet_synsets.txt").read_text().split()
    assert list(imagenet_classes()) == synsets == sorted(synsets)
    assert [c.label for c in imagenet_classes().values()] == list(range(1000))


# Samples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "val"),
    [
        *itertools.product([train_folder, train_tar, None], [val_folders, val_flat, val_tar]),
        (train_folder, None),
        (train_tar, None),
    ],
)
def test_every_way_to_lie_on_disk_gives_the_same_samples(
    tmp_path, train: Callable[[Path], Path] | None, val: Callable[[Path], Path] | None
):
    for make in filter(None, (train, val)):
        make(tmp_path)
    expected = []
    if train:
        expected += [(f"train/{path[6:-5]}", path, "train") for path in sorted(TRAIN)]
    if val:
        expected += [
            (f"test/{wnid}/{name[:-5]}", f"val/{wnid}/{name}", "test")
            for name, wnid in sorted(VAL.items(), key=lambda row: row[1])
        ]
    found = check_source(ImageNet(), tmp_path)
    listing = ImageNet().listing(tmp_path, poses=1)
    assert [(s.key, path, s.split) for s, path in zip(found, listing["path"], strict=True)] == expected
    assert {s.domain for s in found} == {"imagenet"}
    for sample, path in zip(found, listing["path"], strict=True):
        assert sample.data == image(path if sample.split == "train" else path.rpartition("/")[2])
        known = imagenet_classes()[path.split("/")[1]]
        assert (sample.class_name, sample.label) == (known.text, known.label)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ("LOC_val_solution.csv", KAGGLE),
        ("imagenet_2012_validation_synset_labels.txt", SYNSETS),
        ("val.txt", CAFFE),
    ],
)
def test_three_lists_of_labels_say_the_same(tmp_path, labels, text):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert read(ImageNet(), val_flat(tmp_path / "a", labels, text)) == read(ImageNet(), val_folders(tmp_path / "b"))


def test_kaggles_folders_are_found(tmp_path):
    make_tree(tmp_path / "ILSVRC/Data/CLS-LOC", *TRAIN)
    assert len(check_source(ImageNet(), tmp_path)) == len(TRAIN)
    assert ImageNet().files(tmp_path) == ["ILSVRC/Data/CLS-LOC/train"]


def test_files_names_what_is_read(tmp_path):
    assert ImageNet().files(val_tar(train_tar(tmp_path))) == [
        "ILSVRC2012_img_train.tar",
        "ILSVRC2012_img_val.tar",
        "LOC_val_solution.csv",
    ]


def test_a_class_of_the_tar_is_a_part_of_a_few_bytes(tmp_path):
    parts = ImageNet().parts(train_tar(tmp_path), size=1, poses=1)
    assert len(parts) == len(WNIDS)
    assert all(len(pickle.dumps(part)) < 500 for part in parts)


# Faults -------------------------------------------------------------------------------------------


def fails(root: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=pattern) as caught:
        read(ImageNet(), root)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    fails(tmp_path, "holds neither train/ nor val/, ILSVRC2012_img_train.tar or")


def test_an_unknown_class(tmp_path):
    fails(make_tree(tmp_path, "train/n99999999/a.JPEG"), "holds n99999999, which is none of the 1,000 classes")
    make_tar(tmp_path / "b/ILSVRC2012_img_train.tar", {"n99999999.tar": b""})
    fails(tmp_path / "b", "holds n99999999, which is none of the 1,000 classes")


def test_no_class_at_all(tmp_path):
    fails(make_tree(tmp_path, "train/axe/a.JPEG"), "holds no class of ImageNet, such as n01440764")


def test_a_class_whose_inner_archive_is_damaged(tmp_path):
    make_tar(tmp_path / "ILSVRC2012_img_train.tar", {"n01440764.tar": b"no archive"})
    fails(tmp_path, r"train\.tar, member n01440764\.tar, is not a tar archive")


def test_labels_that_are_missing(tmp_path):
    (val_flat(tmp_path) / "LOC_val_solution.csv").rename(tmp_path / "ILSVRC2012_validation_ground_truth.txt")
    fails(tmp_path, "the labels of .*val are missing: .*the devkit's ground truth alone does not do")


@pytest.mark.parametrize(
    ("labels", "text", "pattern"),
    [
        ("LOC_val_solution.csv", "", "does not hold rows `ImageId,PredictionString`"),
        ("LOC_val_solution.csv", KAGGLE + KAGGLE[-100:], "does not hold rows|are not in"),
        ("LOC_val_solution.csv", KAGGLE.replace(WNIDS[0], "n99999999"), "names n99999999, which is none"),
        ("LOC_val_solution.csv", KAGGLE[: KAGGLE.rindex("ILSVRC")], "1 images of .*val are not in .*LOC_val"),
        ("imagenet_2012_validation_synset_labels.txt", SYNSETS * 2, "3 images of .*labels.txt are not in .*val"),
        ("val.txt", CAFFE + "ILSVRC2012_val_00000001.JPEG 5\n", "line 4 is not `<file> <label from 0 to 999>`"),
        ("val.txt", CAFFE.replace(" 0\n", " 1000\n"), "line 3 is not `<file> <label from 0 to 999>`"),
    ],
)
def test_bad_labels(tmp_path, labels, text, pattern):
    fails(val_flat(tmp_path, labels, text), pattern)


def test_labels_that_are_no_text(tmp_path):
    (val_flat(tmp_path) / "LOC_val_solution.csv").write_bytes(b"\xff{}")
    fails(tmp_path, "LOC_val_solution.csv is not UTF-8 text")


def test_links(tmp_path):
    """A folder may be a link of the user's; what lies in it may not lead out."""
    make_tree(tmp_path / "elsewhere", *TRAIN)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/train").symlink_to(tmp_path / "elsewhere/train")
    assert len(read(ImageNet(), tmp_path / "root")) == len(TRAIN)
    (tmp_path / "elsewhere/train/n01440764/x.JPEG").symlink_to("/etc/passwd")
    fails(tmp_path / "root", "is a link that leads out of")
