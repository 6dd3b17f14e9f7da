"""The builder of the bundled set: its pure parts, and that what is bundled is what they would make of it."""

from __future__ import annotations

import collections
import csv
import functools
import io
import zipfile
from pathlib import Path

import pytest

from domix.data.archives.archive import ZipReader, read_manifest
from domix.data.sources.layout import DomainNetLayout
from domix.runtime.files import sha256_file
from tools import build_emoji
from tools.emoji import layout, notice, testclasses
from tools.emoji.artists import ARTISTS, DOMAINS
from tools.emoji.drawings import iconify_svg, outline_svg, single_code_point
from tools.emoji.objects import OUTSIDE, TABLE, label_objects, load_objects

ROOT = Path(__file__).parents[2]
BUNDLED, BUNDLED_OOD = ROOT / build_emoji.BUNDLED, ROOT / build_emoji.BUNDLED_OOD

COLLECTION = {
    "width": 32,
    "height": 32,
    "icons": {"cat": {"body": "<circle/>"}, "wide": {"body": "<path/>", "width": 48, "left": -8}},
    "aliases": {
        "kitten": {"parent": "cat"},
        "puss": {"parent": "kitten"},
        "mirrored": {"parent": "cat", "hFlip": True},
        "one": {"parent": "other"},
        "other": {"parent": "one"},
    },
}


def row(emoji: str, domainnet: str = "") -> dict[str, str]:
    return {"emoji": emoji, "domainnet_class": domainnet, "group": "objects", "subgroup": "", "code_point": "1F431"}


# Drawings -------------------------------------------------------------------------------------------


def test_icons_become_svg_with_the_collections_size():
    svg = iconify_svg(COLLECTION, "cat")
    assert svg is not None
    assert 'viewBox="0 0 32 32"' in svg
    assert svg.endswith('color="#000"><circle/></svg>')


def test_an_icons_own_size_goes_first():
    assert 'viewBox="-8 0 48 32"' in (iconify_svg(COLLECTION, "wide") or "")


def test_aliases_are_followed_to_the_icon():
    assert iconify_svg(COLLECTION, "puss") == iconify_svg(COLLECTION, "cat")


def test_what_was_not_drawn_is_none():
    assert iconify_svg(COLLECTION, "dog") is None


@pytest.mark.parametrize(("name", "message"), [("mirrored", "changes its parent"), ("one", "leads back to itself")])
def test_aliases_that_cannot_be_drawn_as_they_are_stop_the_build(name, message):
    with pytest.raises(ValueError, match=message):
        iconify_svg(COLLECTION, name)


def test_icons_with_unknown_properties_stop_the_build():
    with pytest.raises(ValueError, match="properties that this tool does not draw"):
        iconify_svg({"icons": {"a": {"body": "", "rotate": 1}}}, "a")


def test_glyphs_are_centred_in_a_square_with_a_margin():
    svg = outline_svg("M0 0", (10, 0, 110, 50))
    assert 'viewBox="6 -79 108 108"' in svg  # centre (60, 25), turned upside down: (60, -25)


@pytest.mark.parametrize(("text", "value"), [("1F435", 0x1F435), ("2600-FE0F", 0x2600), ("1F468-200D-1F680", None)])
def test_code_points(text, value):
    assert single_code_point(text) == value


# Objects --------------------------------------------------------------------------------------------


def test_classes_are_named_as_domainnet_names_them():
    objects = label_objects([row("teddy-bear", "teddy-bear"), row("ice-cream", "ice cream"), row("monkey-face")])
    assert [(o.label, o.directory, o.text) for o in objects] == [
        (0, "ice_cream", "ice cream"),
        (1, "monkey_face", "monkey face"),
        (2, "teddy-bear", "teddy-bear"),
    ]


def test_capitals_do_not_change_the_order():
    assert [o.directory for o in label_objects([row("b"), row("tower", "The Eiffel Tower"), row("zoo")])] == [
        "b",
        "The_Eiffel_Tower",
        "zoo",
    ]


def test_two_objects_of_one_class_stop_the_build():
    with pytest.raises(ValueError, match="bus-stop and stop have the same class name bus_stop"):
        label_objects([row("bus-stop"), row("stop", "bus stop")])


# Files ----------------------------------------------------------------------------------------------


def test_zip_bytes_depend_on_names_and_contents_alone():
    one, other = layout.zip_bytes({"b": b"2", "a": b"1"}), layout.zip_bytes({"a": b"1", "b": b"2"})
    assert one == other
    with zipfile.ZipFile(io.BytesIO(one)) as archive:
        assert archive.namelist() == ["a", "b"]
        assert {(i.date_time, i.compress_type) for i in archive.infolist()} == {(layout.EPOCH, zipfile.ZIP_STORED)}


def test_lists_name_the_artists_in_turn():
    objects = label_objects([row("a"), row("b"), row("c")])
    drawn = {"a": {"noto", "noto-v1"}, "b": {"noto", "noto-v1"}, "c": {"noto-v1"}}
    assert layout.split_list("real", objects, drawn).splitlines() == [
        "real/a/noto.webp 0",
        "real/a/noto-v1.webp 0",
        "real/b/noto-v1.webp 1",
        "real/b/noto.webp 1",
        "real/c/noto-v1.webp 2",
    ]


def test_every_domain_has_two_artists_and_every_licence_a_link():
    assert {d: sum(a.domain == d for a in ARTISTS) for d in DOMAINS} == dict.fromkeys(DOMAINS, 2)
    assert {a.licence for a in ARTISTS} == set(notice.LICENCE_LINKS)


def test_tarballs_are_named_as_npm_names_them():
    names = {a.name: a.tarball for a in ARTISTS}
    assert names["noto"] == "iconify-json-noto-1.2.9.tgz"
    assert names["openmoji"] == "openmoji-17.0.0.tgz"


# Test classes ---------------------------------------------------------------------------------------


def drawn_by_all(*names: str) -> dict[str, dict[str, set[str]]]:
    return {d: {n: {a.name for a in ARTISTS if a.domain == d} for n in names} for d in DOMAINS}


def test_the_papers_classes_are_kept_and_the_others_chosen_by_digest():
    drawn = drawn_by_all("penguin", "a", "b", "c", "d")
    chosen = testclasses.choose_test_classes(drawn, count=3)
    assert chosen == ["c", "d", "penguin"]  # SHA-256 of a, b, c, d begins with ca, 3e, 2e, 18
    assert testclasses.choose_test_classes(drawn, count=5) == ["a", "b", "c", "d", "penguin"]


def test_classes_come_first_that_more_domains_have_of_every_artist():
    drawn = drawn_by_all("a", "penguin", "c")
    drawn["sketch"]["penguin"].pop()
    for domain in ("sketch", "clipart"):
        drawn[domain]["c"].pop()
    assert [testclasses.choose_test_classes(drawn, count) for count in (1, 2)] == [["a"], ["a", "penguin"]]
    with pytest.raises(ValueError, match="there are only 3 classes; 4 are needed"):
        testclasses.choose_test_classes(drawn, 4)


# What is bundled ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "largest"), build_emoji.LARGEST.items())
def test_bundled_files_are_those_of_the_manifest(folder, largest):
    entries = read_manifest(ROOT / folder)
    assert {path.name for path in (ROOT / folder).iterdir()} == {entry.file for entry in entries} | {"manifest.json"}
    assert [e.file for e in entries if sha256_file(ROOT / folder / e.file) != e.sha256] == []
    assert sum(path.stat().st_size for path in (ROOT / folder).iterdir()) <= largest <= 15_000_000


@functools.cache
def bundled_drawings(folder: Path = BUNDLED) -> dict[str, dict[str, set[str]]]:
    """Return domain -> class -> artists, from the archives themselves."""
    files, drawn = DomainNetLayout(folder), {d: collections.defaultdict(set) for d in DOMAINS}
    assert files.domains == list(DOMAINS)
    for domain in DOMAINS:
        for entry in files.entries(domain, "test"):
            drawn[domain][entry.class_name].add(Path(entry.path).stem)
    return drawn


@pytest.mark.parametrize(("folder", "table", "count"), [(BUNDLED, TABLE, 850), (BUNDLED_OOD, OUTSIDE, 48)])
def test_bundled_lists_follow_the_rule(folder, table, count):
    objects, drawn = load_objects(table), bundled_drawings(folder)
    assert len(objects) == count
    assert (folder / "classes.csv").read_text(encoding="utf-8") == layout.classes_csv(objects)
    for domain in DOMAINS:
        assert all(drawn[domain][o.text] for o in objects)
        expected = layout.split_list(domain, objects, {o.directory: drawn[domain][o.text] for o in objects})
        for split in ("train", "test"):
            assert (folder / f"{domain}_{split}.txt").read_text(encoding="utf-8") == expected
        with ZipReader(folder / f"{domain}.zip") as archive:
            assert all(line.split()[0] in archive for line in expected.splitlines())


def test_emoji_that_show_no_object_share_no_class_with_those_that_do():
    outside, objects = load_objects(OUTSIDE), load_objects()
    assert not {o.text for o in outside} & {o.text for o in objects}
    assert not {o.code_points for o in outside} & {o.code_points for o in objects}
    assert {group: sum(o.group == group for o in outside) for group in ("near", "far")} == {"near": 24, "far": 24}


def test_bundled_test_classes_follow_the_rule():
    lists = {}
    for name, count in {"emoji": 150, "emoji-550": 550}.items():
        lists[name] = testclasses.choose_test_classes(bundled_drawings(), count)
        shipped = BUNDLED.parents[1] / build_emoji.TEST_CLASSES / f"{name}.txt"
        assert shipped.read_text(encoding="utf-8") == testclasses.list_text(lists[name])
        assert len(lists[name]) == count
    artists = {domain: {artist.name for artist in ARTISTS if artist.domain == domain} for domain in DOMAINS}
    assert all(bundled_drawings()[d][name] == artists[d] for d in DOMAINS for name in lists["emoji"])
    assert set(lists["emoji"]) < set(lists["emoji-550"])


@pytest.mark.parametrize("folder", [BUNDLED, BUNDLED_OOD])
def test_notice_names_every_artist_and_counts_as_bundled(folder):
    drawn, outside = bundled_drawings(folder), load_objects(OUTSIDE)
    counts = {a.name: sum(a.name in artists for artists in drawn[a.domain].values()) for a in ARTISTS}
    shared = sum(bool(o.domainnet) for o in load_objects())
    expected = {
        BUNDLED: notice.notice(counts, classes=850, shared=shared, side=build_emoji.SIDE),
        BUNDLED_OOD: notice.notice_ood(counts, outside, side=build_emoji.SIDE),
    }[folder]
    assert (folder / "NOTICE.md").read_text(encoding="utf-8") == expected
    assert all(f"| `{a.name}` |" in expected for a in ARTISTS)
    assert folder == BUNDLED or all(o.text in expected for o in outside)


@pytest.mark.parametrize("folder", list(build_emoji.LARGEST))
def test_check_names_what_differs(tmp_path, capsys, folder):
    files = {folder / "a.txt": b"one", folder / "b.txt": b"two"}
    assert build_emoji.write(files, tmp_path) == 0
    assert build_emoji.check(files, tmp_path) == 0
    (tmp_path / folder / "a.txt").write_bytes(b"other")
    (tmp_path / folder / "b.txt").unlink()
    (tmp_path / folder / "c.txt").write_bytes(b"")
    capsys.readouterr()
    assert build_emoji.check(files, tmp_path) == 1
    assert [line.rsplit("/", 1)[1] for line in capsys.readouterr().err.splitlines()] == [
        "c.txt: not part of the set",
        "a.txt: differs",
        "b.txt: missing",
    ]


@pytest.mark.parametrize("folder", list(build_emoji.LARGEST))
def test_writing_removes_what_an_earlier_build_left(tmp_path, folder):
    build_emoji.write({folder / "old.txt": b""}, tmp_path)
    build_emoji.write({folder / "new.txt": b""}, tmp_path)
    assert [path.name for path in (tmp_path / folder).iterdir()] == ["new.txt"]


def test_table_of_objects_is_what_csv_readers_expect():
    with open(Path(build_emoji.__file__).parent / "emoji/objects.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({row["emoji"] for row in rows}) == 850
