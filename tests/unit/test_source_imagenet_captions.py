"""ImageNet-Captions: the text rule, the join with ImageNet's images, the split, large and damaged JSON."""

from __future__ import annotations

import io
import json
import logging
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from domix.data.classes.imagenet import imagenet_classes
from domix.data.sources import imagenet_captions
from domix.data.sources.imagenet_captions import (
    ImageNetCaptions,
    caption_text,
    default_split,
    plain_spaces,
    read_captions,
    read_objects,
)
from domix.runtime.errors import DataError
from tests.source_trees import WNIDS, check_source, image, make_tar, make_tree, read, tar_bytes

SPLIT = "imagenet_captions_train_val_split.json"
NAMES = {wnid: [f"{wnid}_{number}.JPEG" for number in (10, 9, 7, 2)] for wnid in WNIDS}


def row(name: str, **fields: object) -> dict[str, object]:
    return {"filename": name, "wnid": name[:9], "title": name, "description": "", "tags": []} | fields


ROWS = [row(name) for wnid in reversed(WNIDS) for name in NAMES[wnid][1:]]  # every class has an image without text


def write_json(root: Path, rows: object = ROWS, *, packed: bool = False) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rows)
    if packed:
        with zipfile.ZipFile(root / "imagenet_captions.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__MACOSX/._imagenet_captions.json", "x")
            archive.writestr("imagenet_captions.json", text)
    else:
        (root / "imagenet_captions.json").write_text(text)
    return root


def folders(root: Path) -> Path:
    return make_tree(root, *(f"train/{wnid}/{name}" for wnid in WNIDS for name in NAMES[wnid]))


def tars(root: Path) -> Path:
    members = {
        f"{wnid}.tar": tar_bytes({name: image(f"train/{wnid}/{name}") for name in NAMES[wnid]}) for wnid in WNIDS
    }
    make_tar(root / "ILSVRC2012_img_train.tar", members)
    return root


# Text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),  # what textacy 0.13's normalize.whitespace gives, its line ends then replaced by blanks
    [
        ("a  b", "a b"),
        (" a\tb ", "a b"),
        ("a\nb", "a b"),
        ("a\r\nb", "a b"),
        ("a\n\n\r\nb", "a b"),
        ("a \n b", "a   b"),
        ("a\rb", "a b"),
        ("a\r\r\nb", "a  b"),
        ("a\x0bb", "a b"),
        ("a\n\x0bb", "a b"),
        ("a\x0cb", "a b"),
        ("a\xa0\u3000b", "a b"),
        ("\ufeffa\u200b\u2060b", "ab"),
        ("a \u200b b", "a b"),
        ("\n a \n", "a"),
        ("a\u2028b", "a b"),
        ("a\x85\nb", "a  b"),
        ("\u200b", ""),
        ('"NA" <b>&amp; \U0001f600', '"NA" <b>&amp; \U0001f600'),
    ],
)
def test_white_space(text, expected):
    assert plain_spaces(text) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"title": "A cat", "tags": ["cat", "my pet"], "description": "On a\nmat."}, "A cat; cat my pet; On a mat."),
        ({"title": "", "tags": [], "description": "d"}, "d"),
        ({"title": "t", "tags": ["x"], "description": ""}, "t; x"),
        ({"title": None, "tags": None, "description": None}, ""),
        ({"title": " ", "tags": [], "description": "d"}, "; d"),
        ({"title": "\ud83d", "tags": [], "description": "\U0001f600"}, "?; \U0001f600"),
    ],
)
def test_captions_are_title_tags_and_description(fields, expected):
    assert caption_text(fields, "here") == expected


@pytest.mark.parametrize("fields", [{"title": 5}, {"tags": [1]}, {"tags": {"a": 1}}, {"description": ["x"]}])
def test_captions_that_are_no_text(fields):
    with pytest.raises(DataError, match="here has a title, description or tags that are no text"):
        caption_text(fields, "here")


# Samples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [folders, tars])
@pytest.mark.parametrize("below", ["", "imagenet"])
@pytest.mark.parametrize("packed", [False, True])
def test_joins_texts_and_images(tmp_path, images, below, packed):
    write_json(tmp_path / "root", packed=packed)
    images(tmp_path / "root" / below)
    found = check_source(ImageNetCaptions(), tmp_path / "root")
    expected = sorted(
        ((default_split(r["filename"]) == "test", r["wnid"], r["filename"]) for r in ROWS), key=lambda key: key
    )
    assert [(s.split == "test", *s.key.split("/")) for s in found] == [(t, w, n[:-5]) for t, w, n in expected]
    for sample, (_, wnid, name) in zip(found, expected, strict=True):
        known = imagenet_classes()[wnid]
        assert sample.data == image(f"train/{wnid}/{name}")
        assert (sample.text, sample.class_name, sample.label) == (name, known.text, known.label)
        assert sample.domain == "imagenet-captions"


def test_images_behind_a_link(tmp_path):
    folders(tmp_path / "elsewhere")
    write_json(tmp_path / "root")
    (tmp_path / "root/imagenet").symlink_to(tmp_path / "elsewhere")
    assert len(check_source(ImageNetCaptions(), tmp_path / "root")) == len(ROWS)
    assert ImageNetCaptions().files(tmp_path / "root") == ["imagenet_captions.json", "imagenet/train"]


def test_a_split_that_is_given_counts(tmp_path, caplog):
    folders(write_json(tmp_path))
    names = [r["filename"] for r in ROWS]
    (tmp_path / SPLIT).write_text(json.dumps({"train": names[2:], "val": [names[0], "other.JPEG"]}))
    with caplog.at_level(logging.WARNING):
        found = check_source(ImageNetCaptions(), tmp_path)
    assert {s.text: s.split for s in found} == dict.fromkeys(names[2:], "train") | {names[0]: "test"}
    assert f"left out 1 captions that {SPLIT} does not name, for one of {names[1]}" in caplog.text
    assert SPLIT in ImageNetCaptions().files(tmp_path)


def test_the_default_split_depends_on_the_name_alone_and_has_the_references_share():
    names = [f"n{i % 1000:08d}_{i}.JPEG" for i in range(100_000)]
    share = sum(default_split(name) == "test" for name in names) / len(names)
    assert abs(share - 38_079 / 463_622) < 0.003
    assert default_split("n01440764_10026.JPEG") == "train"


def test_rows_without_text_and_second_rows_are_left_out_and_mentioned(tmp_path, caplog):
    rows = [*ROWS, ROWS[0] | {"title": "again"}, row(NAMES[WNIDS[0]][0], title="\n")]
    with caplog.at_level(logging.WARNING):
        found = read(ImageNetCaptions(), folders(write_json(tmp_path, rows)))
    assert sorted(s.text for s in found) == sorted(r["filename"] for r in ROWS)
    assert (
        f"left out 1 empty captions of {tmp_path}/imagenet_captions.json, for one of n01440764_10.JPEG" in caplog.text
    )
    assert "left out 1 second captions of an image" in caplog.text


def test_parts_carry_their_own_rows_only(tmp_path):
    long = [r | {"description": "x" * 10_000} for r in ROWS]
    for images in (folders, tars):
        parts = ImageNetCaptions().parts(images(write_json(tmp_path / images.__name__, long)), size=3, poses=1)
        assert all(30_000 < len(pickle.dumps(part)) < 33_000 for part in parts)
        assert len(parts) == 3


# Large and damaged files --------------------------------------------------------------------------


def test_a_large_list_is_read_in_the_memory_of_its_captions(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet_captions, "CHUNK", 1 << 16)
    wanted = [row(f"n01440764_{i}.JPEG", unused="y" * 2000) for i in range(5000)]
    path = write_json(tmp_path, wanted, packed=True) / "imagenet_captions.zip"
    tracemalloc.start()
    assert len(read_captions(path)["n01440764"]) == 5000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6 < 1e7 < len(json.dumps(wanted))


@pytest.mark.parametrize("chunk", [1, 2, 7, 100])
def test_objects_do_not_depend_on_where_reading_pauses(monkeypatch, chunk):
    rows = [row('a "b" \\ [{,]}', tags=["\u00e9\U0001f600"], description="{"), {}, row("c")]
    monkeypatch.setattr(imagenet_captions, "CHUNK", chunk)
    for indent in (None, 1):
        assert list(read_objects(io.StringIO(json.dumps(rows, indent=indent)), Path("x"))) == rows
    assert list(read_objects(io.StringIO("[]"), Path("x"))) == []


def fails(root: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=pattern) as caught:
        read(ImageNetCaptions(), root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "does not hold a JSON list"),
        ("{}", "does not hold a JSON list"),
        ("[1]", "does not hold a JSON list of objects"),
        ('[{"filename": "a"', "is damaged or cut off after 0 objects"),
        (json.dumps(ROWS)[:-1], f"is damaged or cut off after {len(ROWS)} objects"),
        ("[" + "[" * 100_000, "is damaged or cut off"),
        ('[{"wnid": "n01440764"}]', "object 1 has no filename or wnid"),
        (json.dumps([row("n99999999_1.JPEG")]), "has the wnid 'n99999999', which is no class"),
        (json.dumps([ROWS[0], row("../n1.JPEG", wnid=WNIDS[0])]), r"object 2 names '\.\./n1\.JPEG', which is no file"),
    ],
)
def test_damaged_texts(tmp_path, text, pattern):
    folders(tmp_path)
    (tmp_path / "imagenet_captions.json").write_text(text)
    fails(tmp_path, pattern)


def test_texts_of_another_encoding(tmp_path):
    folders(tmp_path)
    (tmp_path / "imagenet_captions.json").write_bytes(b'[{"title": "\xff"}]')
    fails(tmp_path, "is not UTF-8 text")


def test_damaged_archives(tmp_path):
    folders(write_json(tmp_path, packed=True))
    path = tmp_path / "imagenet_captions.zip"
    data = path.read_bytes()
    path.write_bytes(data[:-30])
    fails(tmp_path, "is not a whole zip archive")
    place = data.rindex(b"imagenet_captions.json", 0, -100) + 60
    path.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
    fails(tmp_path, "is not a whole zip archive|damaged or cut off|no JSON")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.json", "[]")
    fails(tmp_path, r"does not hold one imagenet_captions\.json")


@pytest.mark.parametrize(
    ("split", "pattern"),
    [
        ("[]", "is not an object of two lists"),
        ('{"train": []}', "is not an object of two lists"),
        ('{"train": [1], "val": []}', "is not an object of two lists"),
        ('{"train": ["a", "b"], "val": ["b"]}', "names 1 files in both lists, for one b"),
    ],
)
def test_bad_splits(tmp_path, split, pattern):
    folders(write_json(tmp_path))
    (tmp_path / SPLIT).write_text(split)
    fails(tmp_path, pattern)


def test_nothing_there(tmp_path):
    fails(tmp_path, r"holds neither imagenet_captions\.zip nor imagenet_captions\.json$")
    fails(write_json(tmp_path), "lacks ImageNet's training images: lay or link there a folder imagenet")


def test_missing_images(tmp_path):
    folders(write_json(tmp_path))
    for name in NAMES[WNIDS[0]][1:3]:
        (tmp_path / "train" / WNIDS[0] / name).unlink()
    fails(tmp_path, r"lacks 2 images that have captions, for one n01440764/n01440764_7\.JPEG: complete it")


def test_missing_classes_and_images_in_tar_files(tmp_path):
    write_json(tmp_path)
    path = tmp_path / "ILSVRC2012_img_train.tar"
    make_tar(path, {f"{wnid}.tar": tar_bytes({}) for wnid in WNIDS[1:]})
    fails(tmp_path, "lacks 1 classes with captions, for one n01440764")
    make_tar(path, {f"{wnid}.tar": tar_bytes({}) for wnid in WNIDS})
    fails(tmp_path, "images that .*train.tar should hold in n01440764 are missing, for one n01440764/n01440764_")
