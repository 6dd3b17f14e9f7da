"""Any tree of images: splits, labels, keys; lists that do not fit; links."""

from __future__ import annotations

import itertools
import logging
import os
import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from domix.data.fetch.fetching import fetch_files
from domix.data.sources.folder import Tree, split_by_path
from domix.runtime.errors import DataError
from tests.source_trees import check_source, image, make_tree, read

PATHS = [
    f"{domain}/{name}/{number}.{kind}"
    for domain in ("photo", "drawing")
    for name in ("ice_cream", "Axe", "t-shirt")
    for number, kind in ((10, "png"), (9, "jpg"), (3, "jpg"), (4, "png"))
]


def lists(root: Path, labels: dict[str, int] | None = None) -> Path:
    """Write lists, not in the order of the names; of four images, three are for training and one for testing."""
    labels = labels or {"ice_cream": 7, "Axe": 3, "t-shirt": 5}
    for domain in ("photo", "drawing"):
        rows = {"train": "", "test": ""}
        for name, label in labels.items():
            for path in (path for path in PATHS if path.startswith(f"{domain}/{name}/")):
                rows["test" if "/4." in path else "train"] += f"{path} {label}\n"
        for split, text in rows.items():
            (root / f"{domain}_{split}.txt").write_text(text)
    return root


def fails(root: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=pattern) as caught:
        read(Tree(), root)
    assert "\n" not in str(caught.value)


# Without lists ------------------------------------------------------------------------------------


def test_a_tree_without_lists(tmp_path):
    found = check_source(Tree(), make_tree(tmp_path, *PATHS))
    expected = sorted(
        (path.split("/")[0], split_by_path(path) == "test", path.split("/")[1].replace("_", " "), path.split("/")[2])
        for path in PATHS
    )
    assert [(s.domain, s.split == "test", s.class_name) for s in found] == [row[:3] for row in expected]
    assert {s.class_name: s.label for s in found} == {"Axe": 0, "ice cream": 1, "t-shirt": 2}
    paths = list(Tree().listing(tmp_path, poses=1)["path"])
    assert sorted(paths) == sorted(PATHS)
    assert [(s.key, s.data) for s in found] == [(path.rpartition(".")[0], image(path)) for path in paths]
    assert Tree().files(tmp_path) == ["drawing", "photo"]


def test_about_thirty_per_cent_are_for_testing():
    splits = [split_by_path(f"photo/axe/{number}.jpg") for number in range(10_000)]
    assert abs(splits.count("test") / len(splits) - 0.3) < 0.02


def test_new_files_move_no_other(tmp_path):
    before = {s.key: s for s in read(Tree(), make_tree(tmp_path, *PATHS))}
    make_tree(tmp_path, *(f"photo/Axe/new{number}.jpg" for number in range(20)), "photo/Axe/100.webp")
    after = {s.key: s for s in read(Tree(), tmp_path)}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 21


def test_a_class_may_be_missing_from_a_domain(tmp_path):
    found = check_source(Tree(), make_tree(tmp_path, "a/axe/1.png", "b/bed/1.png", "b/axe/1.png"))
    assert {(s.domain, s.class_name, s.label) for s in found} == {("a", "axe", 0), ("b", "axe", 0), ("b", "bed", 1)}


def test_keys_stay_apart_where_file_names_hardly_differ(tmp_path):
    names = ["a.jpg", "a.png", "A.gif", "b!.jpg", "b?.jpg", "c.d.jpg", "c_d.png", "e.jpg", "猫.jpg"]
    found = check_source(Tree(), make_tree(tmp_path, *(f"photo/axe/{name}" for name in names)))
    keys = {s.key for s in found}
    assert len(keys) == len(names)
    assert {"photo/axe/e", "photo/axe/猫"} <= keys
    assert "photo/axe/a" not in keys
    assert {"b_", "c_d"} & {key.rpartition("/")[2] for key in keys} == set()


def test_what_is_no_image_is_left_out_and_mentioned(tmp_path, caplog):
    make_tree(tmp_path, *PATHS, "photo/Axe/deeper/1.png", "photo/loose.png", "photo/Axe/.hidden.png")
    (tmp_path / "photo/Axe/Thumbs.db").write_bytes(b"x")
    (tmp_path / "photo/empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").write_text("x")
    with caplog.at_level(logging.WARNING):
        assert len(read(Tree(), tmp_path)) == len(PATHS)
    assert "left out 1 entries of" in caplog.text
    assert "left out 1 files of" in caplog.text


def test_nothing_there(tmp_path):
    fails(tmp_path, "holds no images <domain>/<class>/<file>")
    fails(tmp_path / "nowhere", "nowhere cannot be read")


@pytest.mark.parametrize(
    ("paths", "pattern"),
    [
        (["a/axe/1.png", "A/axe/1.png"], "holds A and a, which read alike"),
        (["a/axe/1.png", "a/Axe/1.png"], "holds Axe and axe, which read alike"),
        (["a/axe/1.png", "b/Axe/1.png"], "holds axe and Axe, which read alike"),
        (["a/ice cream/1.png", "a/ice_cream/1.png"], "holds two directories that are read 'ice cream': join them"),
    ],
)
def test_names_that_read_alike(tmp_path, paths, pattern):
    fails(make_tree(tmp_path, *paths), pattern)


def test_one_class_may_be_spelled_with_blanks_here_and_underscores_there(tmp_path):
    found = read(Tree(), make_tree(tmp_path, "a/ice cream/1.png", "b/ice_cream/1.png"))
    assert [(s.class_name, s.label) for s in found] == [("ice cream", 0)] * 2


# Names --------------------------------------------------------------------------------------------

NAMES = ("café", "crêpe", "が")


def form(kind: Literal["NFC", "NFD"], name: str) -> str:
    return unicodedata.normalize(kind, name)


@pytest.mark.parametrize("forms", [("NFC", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
@pytest.mark.parametrize("listed", [None, "NFC", "NFD"])
def test_a_class_is_one_in_every_unicode_form(tmp_path, forms, listed):
    """Lists and folders may disagree about the form, too; files are opened by the names that they have."""
    paths = []
    for (domain, kind), name in itertools.product(zip(("dé", "photo"), forms, strict=True), NAMES):
        paths += [form(kind, f"{domain}/{name}/ü{number}.png") for number in range(4)]
    make_tree(tmp_path, *paths)
    for domain in ("dé", "photo") if listed else ():
        mine = [path for path in paths if form("NFC", path).startswith(domain)]
        for split, number in (("train", 0), ("test", 1)):
            rows = [f"{form(listed, path)} {NAMES.index(form('NFC', path).split('/')[1])}\n" for path in mine]
            target = tmp_path / form(listed, f"{domain}_{split}.txt")
            target.write_text("".join(rows[number::2]), encoding="utf-8")
    found = check_source(Tree(), tmp_path)
    assert {s.data for s in found} == {image(path) for path in paths}
    assert {(s.class_name, s.label) for s in found} == set(zip(NAMES, range(3), strict=True))
    assert {s.domain for s in found} == {"dé", "photo"}
    assert {s.key for s in found} == {form("NFC", path).removesuffix(".png") for path in paths}


def test_two_forms_of_a_class_in_one_domain_are_one_class(tmp_path):
    paths = [form("NFC", "a/café/1.png"), form("NFD", "a/café/2.png"), "a/axe/1.png"]
    found = check_source(Tree(), make_tree(tmp_path, *paths))
    assert {(s.class_name, s.label) for s in found} == {("axe", 0), ("café", 1)}
    assert {s.data for s in found} == {image(path) for path in paths}
    make_tree(tmp_path, form("NFC", "a/café/2.png"))
    fails(tmp_path, r"holds a/café in two Unicode forms \(NFC and NFD\), and both hold 2.png: join the folders")


@pytest.mark.parametrize(
    "name", ["Bild\u00a01", "at 4.42\u202fPM", "写真\u3000一", "👩\u200d🚀", "a\u2028b", "x;$(y)&'\"z"]
)
def test_legal_names_are_read(tmp_path, name):
    paths = [f"a/{name}/{name}.png", "a/axe/1.png"]
    found = check_source(Tree(), make_tree(tmp_path, *paths))
    assert {s.data for s in found} == {image(path) for path in paths}
    assert {s.class_name for s in found} == {name, "axe"}


def test_vowel_signs_tell_classes_apart(tmp_path):
    found = check_source(Tree(), make_tree(tmp_path, "a/कि/1.png", "a/की/1.png"))
    assert {s.class_name for s in found} == {"कि", "की"}


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\x85b", "\x1b[2J"])
def test_control_characters_are_refused(tmp_path, name):
    make_tree(tmp_path, "a/axe/1.png", f"a/axe/{name}.png")
    fails(tmp_path, "is no proper file name: rename it")


@pytest.mark.parametrize("place", ["", "photo/", "photo/Axe/"])
@pytest.mark.parametrize(
    "name",
    [
        *("__MACOSX/photo/Axe/._1.png", "$RECYCLE.BIN/S-1-5-21/x.png", "System Volume Information/a/b.png"),
        *("@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "#recycle/a/1.png", ".ipynb_checkpoints/a/1-checkpoint.png"),
        *("lost+found/a/1.png", "._photo_train.txt", "Thumbs.db", "desktop.ini", "Icon\r", ".DS_Store"),
    ],
)
def test_what_systems_leave_behind_is_no_data(tmp_path, caplog, place, name):
    make_tree(tmp_path, *PATHS)
    before = read(Tree(), tmp_path), fetch_files(Tree(), tmp_path)
    make_tree(tmp_path, f"{place}{name}")
    assert (read(Tree(), tmp_path), fetch_files(Tree(), tmp_path)) == before
    assert caplog.text == ""


# Layouts that are too deep or too flat ------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "pattern"),
    [
        (
            ["kfold/art/dog/1.png", "kfold/photo/dog/1.png"],
            r"kfold/art/dog/1\.png, deeper than .*root/kfold are the",
        ),
        (
            ["art/images/dog/1.png"],
            r"holds art/images/dog/1\.png, deeper .*if 'images' is no class, move its",
        ),
        (["art/dog/1.png", "photo/images/dog/1.png"], r"holds photo/images/dog/1\.png, deeper than"),
        (["art/dog/train/x/1.png"], r"holds art/dog/train/x/1\.png, deeper than"),
        (
            ["dog/1.png", "tree/1.png"],
            r"holds no images .*, but images such as dog/1\.png, so that .* is no folder",
        ),
    ],
)
def test_images_at_another_depth_are_told_where_they_lie(tmp_path, paths, pattern):
    fails(make_tree(tmp_path / "root", *paths), pattern)


# With lists ---------------------------------------------------------------------------------------


def test_lists_decide(tmp_path):
    found = check_source(Tree(), lists(make_tree(tmp_path, *PATHS, "photo/Axe/unlisted.png")))
    assert len(found) == len(PATHS)
    photos = [s for s in found if s.domain == "photo"]
    assert [s.key for s in photos[:4]] == [f"photo/ice_cream/{n}" for n in (10, 9, 3)] + ["photo/Axe/10"]
    assert [s.key for s in photos if s.split == "test"] == [f"photo/{n}/4" for n in ("ice_cream", "Axe", "t-shirt")]
    assert {s.class_name: s.label for s in found} == {"ice cream": 2, "Axe": 0, "t-shirt": 1}  # 7, 3, 5 in the lists
    assert Tree().files(tmp_path)[2:] == [f"{d}_{s}.txt" for d in ("drawing", "photo") for s in ("train", "test")]


@pytest.mark.parametrize("labels", [{"ice_cream": 3, "Axe": 1, "t-shirt": 2}, {"ice_cream": 9, "Axe": 0, "t-shirt": 4}])
def test_labels_of_lists_are_numbered_from_zero_in_their_order(tmp_path, labels):
    found = check_source(Tree(), lists(make_tree(tmp_path, *PATHS), labels))
    assert {s.class_name: s.label for s in found} == {"Axe": 0, "t-shirt": 1, "ice cream": 2}


def test_labels_of_lists_that_count_from_zero_stay(tmp_path):
    found = read(Tree(), lists(make_tree(tmp_path, *PATHS), {"ice_cream": 0, "Axe": 2, "t-shirt": 1}))
    assert {s.class_name: s.label for s in found} == {"ice cream": 0, "Axe": 2, "t-shirt": 1}


def test_lists_may_end_in_blank_lines_and_name_files_with_any_space(tmp_path):
    make_tree(tmp_path, "a/axe/1.png", "a/axe/1\u2028\u00a0\u3000.png")
    (tmp_path / "a_train.txt").write_text("a/axe/1\u2028\u00a0\u3000.png 0\r\n\n", encoding="utf-8")
    (tmp_path / "a_test.txt").write_text("\ufeffa/axe/1.png 0 \n", encoding="utf-8")
    assert [s.split for s in check_source(Tree(), tmp_path)] == ["train", "test"]


def test_keys_stay_apart_across_splits(tmp_path):
    make_tree(tmp_path, "a/axe/1.png", "a/axe/1.jpg")
    (tmp_path / "a_train.txt").write_text("a/axe/1.png 0\n")
    (tmp_path / "a_test.txt").write_text("a/axe/1.jpg 0\n")
    check_source(Tree(), tmp_path)


def test_lists_of_interleaved_classes_keep_their_order(tmp_path):
    make_tree(tmp_path, *PATHS)
    for domain in ("photo", "drawing"):
        rows = [
            f"{domain}/{name}/{number} {label}" for number in ("10.png", "9.jpg") for label, name in enumerate("xy")
        ]
        make_tree(tmp_path, *(row.split(" ")[0] for row in rows))
        (tmp_path / f"{domain}_train.txt").write_text("\n".join(rows))
        (tmp_path / f"{domain}_test.txt").write_text(f"{domain}/Axe/3.jpg 2\n")
    keys = [s.key for s in check_source(Tree(), tmp_path) if s.domain == "photo"]
    assert keys == ["photo/x/10", "photo/y/10", "photo/x/9", "photo/y/9", "photo/Axe/3"]


@pytest.mark.parametrize(
    ("row", "pattern"),
    [
        ("photo/Axe/none.png 3", "photo_test.txt, line 4 names photo/Axe/none.png, which is missing"),
        ("photo/none/10.png 3", "line 4 names photo/none/10.png, which is missing"),
        ("photo/../x.png 3", "line 4 names photo/../x.png, which is missing"),
        ("photo/Axe/10.png 3", "line 4 names photo/Axe/10.png a second time"),
        ("photo/Axe/5.png 4", "line 4 gives 'Axe' the label 4, and an earlier line 3"),
        ("photo/bed/5.png 3", "line 4 gives 'bed' the label 3, which 'Axe' has"),
        ("drawing/Axe/10.png 3", "line 4 is not `photo/<class>/<file> <label>`"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, row, pattern):
    lists(make_tree(tmp_path, *PATHS, "photo/Axe/5.png", "photo/bed/5.png"))
    with open(tmp_path / "photo_test.txt", "a") as file:
        file.write(row + "\n")
    fails(tmp_path, pattern)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n \n",
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "  \n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n"),
    ],
)
def test_lists_as_editors_leave_them_say_the_same(tmp_path, change):
    lists(make_tree(tmp_path, *PATHS))
    before = read(Tree(), tmp_path)
    for path in tmp_path.glob("*.txt"):
        path.write_bytes(change(path.read_text()).encode())
    assert read(Tree(), tmp_path) == before


def test_every_domain_needs_both_lists(tmp_path):
    lists(make_tree(tmp_path, *PATHS))
    (tmp_path / "photo_test.txt").unlink()
    fails(tmp_path, r"the split list .*photo_test\.txt is missing")
    (tmp_path / "photo_train.txt").unlink()
    fails(tmp_path, r"the split list .*photo_train\.txt is missing")


def test_lists_of_a_domain_that_is_not_there(tmp_path):
    lists(make_tree(tmp_path, *PATHS))
    for split in ("train", "test"):
        (tmp_path / f"other_{split}.txt").write_text("other/Axe/1.png 3\n")
    fails(tmp_path, r"other_train\.txt, line 1 names other/Axe/1\.png, which is missing")


# Links and special files --------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["link", "photo/link", "photo/Axe/link.png"])
def test_links_that_lead_out(tmp_path, link):
    make_tree(tmp_path / "outside", "Axe/1.png")
    make_tree(tmp_path / "root", *PATHS)
    target = tmp_path / "outside/Axe/1.png" if link.endswith(".png") else tmp_path / "outside"
    (tmp_path / "root" / link).symlink_to(target)
    fails(tmp_path / "root", f"{link} is a link that leads out of .*root: lay the files themselves there")


def test_links_inside_are_followed(tmp_path):
    make_tree(tmp_path / "root", *PATHS)
    (tmp_path / "root/photo/Axe/link.png").symlink_to(tmp_path / "root/photo/Axe/10.png")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    assert len(check_source(Tree(), tmp_path / "link")) == len(PATHS) + 1


def test_dangling_links(tmp_path):
    make_tree(tmp_path, *PATHS)
    (tmp_path / "photo/Axe/link.png").symlink_to(tmp_path / "nowhere")
    fails(tmp_path, "link.png is a link to .*nowhere, which does not exist")


def test_pipes(tmp_path):
    """Opening one would wait for ever."""
    os.mkfifo(make_tree(tmp_path, *PATHS) / "photo/Axe/pipe.png")
    fails(tmp_path, "pipe.png is no file: remove it")


def test_names_that_are_no_text(tmp_path):
    make_tree(tmp_path, *PATHS)
    Path(os.fsdecode(bytes(tmp_path / "photo/Axe") + b"/\xff.png")).write_bytes(b"x")
    fails(tmp_path, "is no proper file name: rename it")


def test_an_image_that_vanished_or_grew_beyond_measure(tmp_path):
    parts = Tree().parts(make_tree(tmp_path, *PATHS), size=100, poses=1)
    path = tmp_path / Tree().listing(tmp_path, poses=1)["path"][0]
    path.unlink()
    with pytest.raises(DataError, match=f"are missing, for one .*{path.name}"):
        list(parts[0].samples())
    with open(path, "wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(DataError, match="has 1,073,741,824 bytes"):
        list(parts[0].samples())
