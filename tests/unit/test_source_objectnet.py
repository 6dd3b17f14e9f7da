"""ObjectNet: its folders and mappings, and the frame that is cut off."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domix.data.sources.contract import Answering
from domix.data.sources.objectnet import ObjectNet, read_classes
from domix.data.sources.registry import get_source
from domix.data.store import images
from domix.runtime.errors import DataError
from tests.objectnet import CLASSES, LABELS_OF, make_objectnet, mapping_lines, write_mappings
from tests.packing import pack_parts
from tests.source_trees import check_source, read


@pytest.mark.parametrize("below", [".", "objectnet-1.0"])
def test_samples_are_those_of_the_classes_that_imagenet_has_too(tmp_path, below):
    make_objectnet(tmp_path / below)
    found = check_source(ObjectNet(), tmp_path)
    assert [sample.key for sample in found] == [f"{d}/{n}" for d in sorted(CLASSES) for n in ("a0", "b1")]
    assert [(sample.class_name, sample.label) for sample in found[::2]] == [
        ("Alarm clock", 0),
        ("Drying rack for plates", 1),
        ("T-shirt", 2),
    ]
    assert {(sample.domain, sample.split, sample.border) for sample in found} == {("objectnet", "test", 2)}
    assert ObjectNet().listing(tmp_path, poses=1)["path"][0] == "images/alarm_clock/a0.png"


def test_answers_are_the_labels_of_the_texts(tmp_path):
    """Texts are looked up as the set's own files say: label -> number of a line -> text."""
    make_objectnet(tmp_path)
    source = get_source("objectnet")
    assert isinstance(source, Answering)
    assert source.answers(tmp_path) == [LABELS_OF[directory] for directory in sorted(CLASSES)]
    assert [known.directory for known in read_classes(tmp_path / "mappings")] == sorted(CLASSES)


def test_other_sources_have_no_answers():
    assert not isinstance(get_source("imagenet-r"), Answering)


@pytest.mark.parametrize("size", [0, 8, 64])
def test_the_frame_is_cut_off_before_packing(tmp_path, size):
    from domix.data.store.index import read_index
    from domix.data.store.shards import ShardReader

    root = make_objectnet(tmp_path / "raw")
    parts = ObjectNet().parts(root, size=4, poses=1)
    pack_parts(parts, tmp_path / "out", size=size, source="objectnet")
    index = read_index(tmp_path / "out")
    originals = {sample.key: sample.data for sample in read(ObjectNet(), root)}
    with ShardReader(tmp_path / "out") as reader:
        for row in index.itertuples():
            inner = images.cut_border(images.decode(originals[row.key]), 2)
            assert inner.size == (16, 12)
            expected = images.resize_short(inner, size) if size else inner
            packed = images.decode(reader.read(row.row))
            np.testing.assert_array_equal(np.asarray(packed), np.asarray(expected))
            assert (row.width, row.height) == packed.size
            assert not (np.asarray(packed) == (255, 0, 0)).all(axis=2).any()


def test_an_image_that_is_all_frame_is_bad(tmp_path):
    root = make_objectnet(tmp_path / "raw")
    Image.new("RGB", (20, 4)).save(root / "images/t-shirt/a0.png")
    stats = pack_parts(ObjectNet().parts(root, size=10, poses=1), tmp_path / "out", max_bad_share=0.5)
    assert stats.rejected == {"too small": {"count": 1, "examples": ["t-shirt/a0"]}}


# Faults -------------------------------------------------------------------------------------------


def fails(root: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=pattern) as caught:
        read(ObjectNet(), root)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    fails(tmp_path, r"does not hold images/ and mappings/: unpack ObjectNet there, or name another folder$")
    (tmp_path / "images").mkdir()
    fails(tmp_path, "does not hold images/ and mappings/")


@pytest.mark.parametrize(
    "name",
    [
        "folder_to_objectnet_label.json",
        "objectnet_to_imagenet_1k.json",
        "pytorch_to_imagenet_2012_id.json",
        "imagenet_to_label_2012_v2",
    ],
)
def test_a_mapping_that_is_missing_or_damaged(tmp_path, name):
    make_objectnet(tmp_path)
    path = tmp_path / "mappings" / name
    path.write_bytes(b"\xff{}")
    fails(tmp_path, f"{name} is not UTF-8 text")
    path.unlink()
    fails(tmp_path, f"{name} is missing: complete ObjectNet's mappings")
    path.write_text("[1]")
    fails(tmp_path, "holds 1 lines, not 1,000" if "label_2012" in name else f"{name} is not a JSON object of")
    if name.endswith("json"):
        path.write_text("{")
        fails(tmp_path, f"{name} is not valid JSON")


@pytest.mark.parametrize(
    ("overlap", "pattern"),
    [
        ({"Alarm clock": "analog clock; sundown"}, "names 'sundown', no class of ImageNet"),
        ({"Alarm clock": "crane"}, "names 'crane', two classes of ImageNet"),
        ({"Alarm bell": "analog clock"}, "names 'Alarm bell', which folder_to_objectnet_label.json does not"),
    ],
)
def test_a_mapping_that_names_unknown_classes(tmp_path, overlap, pattern):
    make_objectnet(tmp_path)
    write_mappings(tmp_path / "mappings", overlap=overlap)
    fails(tmp_path, pattern)


def test_numbers_that_are_no_order_of_the_labels(tmp_path):
    make_objectnet(tmp_path)
    numbers = mapping_lines()[1] | {"5": 0}
    (tmp_path / "mappings/pytorch_to_imagenet_2012_id.json").write_text(json.dumps(numbers))
    fails(tmp_path, "does not number the labels 0 to 999, each once")


def test_a_class_without_images(tmp_path):
    make_objectnet(tmp_path)
    for path in (tmp_path / "images/alarm_clock").iterdir():
        path.unlink()
    fails(tmp_path, "alarm_clock holds no images of the class 'Alarm clock': complete ObjectNet")
    (tmp_path / "images/alarm_clock").rmdir()
    fails(tmp_path, "alarm_clock holds no images of the class 'Alarm clock'")
