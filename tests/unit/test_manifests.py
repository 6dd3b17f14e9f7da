"""Manifests: the shipped ones, strict reading, what fetch finds and verifies, and the quick look before packing."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from dataclasses import replace

import pytest

from domix.data.archives.archive import Entry
from domix.data.archives.manifests import (
    Item,
    Manifest,
    Remote,
    check_unchanged,
    is_web_address,
    load_manifest,
    parse_manifest,
    read_files,
    write_files,
)
from domix.data.fetch.fetching import fetch_files
from domix.runtime.errors import DataError
from domix.runtime.progress import Meter, Progress
from tests.fixtures import make_domainnet_set

IMAGENETS = ("imagenet", "imagenet-a", "imagenet-captions", "imagenet-r", "imagenet-sketch", "imagenet-v2")
SHIPPED = ("cc12m", "cc3m", "domainnet", "emoji", *IMAGENETS, "objectnet")
GOOD = {
    "name": "a",
    "title": "A",
    "licence": "MIT",
    "homepage": None,
    "note": "take it",
    "files": [{"file": "x.zip", "urls": ["https://example.org/x.zip"], "bytes": 3, "sha256": "0" * 64}],
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Given:
    """A source that reads what it is told."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)

    def files(self, root):
        return self.names


# Published manifests ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_manifests_are_whole(name):
    manifest = load_manifest(name)
    assert manifest is not None
    assert manifest.name == name
    assert all(remote.urls for remote in manifest.files)


def test_domainnet_is_the_cleaned_release():
    manifest = load_manifest("domainnet")
    domains = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
    archives = {f"{d}.zip" for d in domains}
    assert {r.file for r in manifest.files} == archives | {f"{d}_{s}.txt" for d in domains for s in ("train", "test")}
    assert all(r.bytes and r.sha256 for r in manifest.files)
    cleaned = {r.file for r in manifest.files if any("/groundtruth/" in url for url in r.urls)}
    assert cleaned == {"clipart.zip", "painting.zip"}
    assert sum(r.bytes for r in manifest.files) == 18_469_127_000


def test_every_address_names_its_file():
    for name in SHIPPED:
        for remote in load_manifest(name).files:
            assert all(url.endswith(f"/{remote.file}") for url in remote.urls)


@pytest.mark.parametrize("name", ["my-own-set", "../domainnet", "", "Domainnet"])
def test_other_sources_have_none(name):
    assert load_manifest(name) is None


def test_a_good_manifest_is_read():
    manifest = parse_manifest(GOOD, "it")
    assert manifest.files == (Remote("x.zip", ("https://example.org/x.zip",), 3, "0" * 64),)
    assert (manifest.name, manifest.homepage) == ("a", None)


def broken(path: str, value: object) -> dict:
    """Return GOOD with one value changed, or removed if it is ...; `path` is keys joined by dots."""
    tree = copy.deepcopy(GOOD)
    *steps, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place = tree
    for step in steps:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return tree


@pytest.mark.parametrize(
    ("path", "value", "pattern"),
    [
        ("licence", ..., "it lacks the key 'licence'"),
        ("license", "MIT", "it has the unknown key 'license'"),
        ("title", "", "title must be text"),
        ("note", 3, "note must be text, not 3"),
        ("homepage", "example.org", "homepage must be an http"),
        ("files", {}, "files must be a list"),
        ("files.0", "x.zip", r"files\[0\] must be a mapping"),
        ("files.0.sha256", ..., r"files\[0\] lacks the key 'sha256'"),
        ("files.0.md5", "", r"files\[0\] has the unknown key 'md5'"),
        ("files.0.file", "../x", r"the file name '../x' leads out of its folder"),
        ("files.0.file", "/x", "is not a relative path"),
        ("files.0.file", "a/.x", "is hidden"),
        ("files.0.file", 3, "file must be text"),
        ("files.0.urls", [], "urls must be a list"),
        ("files.0.urls", "https://example.org", "urls must be a list"),
        ("files.0.urls", ["file:///x"], "urls must be a list of http"),
        ("files.0.bytes", -1, "bytes must be a whole number or null, not -1"),
        ("files.0.bytes", True, "bytes must be a whole number or null"),
        ("files.0.bytes", 1.5, "bytes must be a whole number or null"),
        ("files.0.sha256", "abc", "sha256 must be 64 lower-case hexadecimal digits"),
        ("files.0.sha256", "A" * 64, "sha256 must be 64 lower-case"),
    ],
)
def test_a_mistake_is_named(path, value, pattern):
    with pytest.raises(DataError, match=pattern) as caught:
        parse_manifest(broken(path, value), "it")
    assert "\n" not in str(caught.value)


def test_a_file_is_named_once():
    tree = broken("files", [GOOD["files"][0], GOOD["files"][0] | {"file": "X.zip"}])
    with pytest.raises(DataError, match=r"names the file 'x\.zip' twice"):
        parse_manifest(tree, "it")


@pytest.mark.parametrize("text", ["http://a", "https://example.org/a?b=c#d", "http://[::1]:80/x"])
def test_web_addresses(text):
    assert is_web_address(text)


@pytest.mark.parametrize("text", ["", "a", "ftp://a", "http://", "https:///a", "http://a b", "http://[", 3, None])
def test_other_addresses(text):
    assert not is_web_address(text)


# What fetch finds ---------------------------------------------------------------------------------


def test_files_are_listed_with_size_and_checksum_and_nothing_of_the_machine(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"bee")
    (tmp_path / "a.txt").write_bytes(b"")
    items = fetch_files(Given("b.txt", "a.txt", "b.txt"), tmp_path)
    assert items == [Item("a.txt", 0, sha256(b"")), Item("b.txt", 3, sha256(b"bee"))]
    write_files(tmp_path, items)
    text = (tmp_path / "files.json").read_text()
    assert json.loads(text) == {
        "files": [
            {"file": "a.txt", "bytes": 0, "sha256": sha256(b"")},
            {"file": "b.txt", "bytes": 3, "sha256": sha256(b"bee")},
        ]
    }
    assert str(tmp_path) not in text
    assert read_files(tmp_path) == items


def make_tree(root) -> None:
    for name, data in {"b/2.jpg": b"22", "a/1.jpg": b"1", "b/c/3.jpg": b"333"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def test_a_folder_is_the_names_and_sizes_of_its_files(tmp_path):
    make_tree(tmp_path / "set/train")
    (item,) = fetch_files(Given("train"), tmp_path / "set")
    assert item == Item("train", 6, sha256(b"a/1.jpg\x001\nb/2.jpg\x002\nb/c/3.jpg\x003\n"), files=3)
    write_files(tmp_path, [item])
    assert json.loads((tmp_path / "files.json").read_text())["files"][0]["folder"] == "train"
    assert read_files(tmp_path) == [item]


def test_hidden_files_and_where_files_really_lie_do_not_matter(tmp_path):
    make_tree(tmp_path / "one/train")
    make_tree(tmp_path / "elsewhere")
    (tmp_path / "two").mkdir()
    (tmp_path / "two/train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/.DS_Store").write_text("")
    os.utime(tmp_path / "elsewhere/a/1.jpg", (0, 0))
    assert fetch_files(Given("train"), tmp_path / "one") == fetch_files(Given("train"), tmp_path / "two")


def test_a_folder_that_changes_is_another(tmp_path):
    make_tree(tmp_path / "train")
    before = fetch_files(Given("train"), tmp_path)
    (tmp_path / "train/a/1.jpg").rename(tmp_path / "train/a/2.jpg")
    assert fetch_files(Given("train"), tmp_path)[0].sha256 != before[0].sha256


def fails(source, root, pattern, **options):
    with pytest.raises(DataError, match=pattern) as caught:
        fetch_files(source, root, **options)
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_listed(tmp_path):
    (tmp_path / "empty").mkdir()
    fails(Given("empty"), tmp_path, "the folder .*empty holds no files")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/again").symlink_to(tmp_path / "loop")
    fails(Given("loop"), tmp_path, r"loop/again is a link to a folder above it: remove the link")
    (tmp_path / "stale").mkdir()
    (tmp_path / "stale/x.jpg").symlink_to(tmp_path / "gone.jpg")
    fails(Given("stale"), tmp_path, r"x\.jpg is a link to a file that is not there")


def test_a_missing_file(tmp_path):
    fails(Given("x.zip"), tmp_path, r"x\.zip is missing: bring it there, or name another folder")


def test_files_are_compared_with_the_manifest(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"abc")
    good = replace(parse_manifest(GOOD, "it"), files=(Remote("x.zip", (), 3, sha256(b"abc")),))
    assert fetch_files(Given("x.zip"), tmp_path, manifest=good) == [Item("x.zip", 3, sha256(b"abc"))]
    size = replace(good, files=(Remote("x.zip", (), 4, None),))
    fails(Given("x.zip"), tmp_path, r"x\.zip has 3 bytes, not 4 as its manifest says: replace it", manifest=size)
    digest = replace(good, files=(Remote("x.zip", (), 3, "0" * 64),))
    pattern = rf"x\.zip has SHA-256 {sha256(b'abc')}, not 0+ as its manifest says"
    fails(Given("x.zip"), tmp_path, pattern, manifest=digest)


def test_a_set_with_a_manifest_of_its_own_is_compared_with_that(tmp_path):
    root = make_domainnet_set(tmp_path, domains=["real"])
    source = Given("manifest.json", "real.zip", "real_train.txt", "real_test.txt")
    published = Manifest("a", "A", "MIT", None, (Remote("real.zip", (), 1, "0" * 64),), "note")
    assert len(fetch_files(source, root, manifest=published)) == 4
    data = bytearray((root / "real.zip").read_bytes())
    data[100] ^= 1
    (root / "real.zip").write_bytes(data)
    fails(source, root, r"real\.zip has SHA-256 [0-9a-f]{64}, not [0-9a-f]{64} as its manifest says")
    (root / "real.zip").write_bytes(data[:-1])
    fails(source, root, r"real\.zip has [\d,]+ bytes, not [\d,]+ as its manifest says")


def test_what_a_download_has_verified_is_not_read_again(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"abc")
    seen: list[Progress] = []
    items = fetch_files(Given("x.zip"), tmp_path, verified={"x.zip": Entry("x.zip", 3, "f" * 64)}, report=seen.append)
    assert items == [Item("x.zip", 3, "f" * 64)]
    assert seen == []


def test_reading_large_files_is_told(tmp_path):
    (tmp_path / "x.bin").write_bytes(bytes(3 << 20))
    seen: list[Progress] = []
    fetch_files(Given("x.bin"), tmp_path, report=seen.append)
    assert seen[-1] == replace(seen[-1], files_done=1, files=1, bytes_done=3 << 20, bytes_total=3 << 20)


# The quick look -----------------------------------------------------------------------------------


def test_the_quick_look(tmp_path):
    make_tree(tmp_path / "train")
    (tmp_path / "x.zip").write_bytes(b"abc")
    items = fetch_files(Given("train", "x.zip"), tmp_path)
    check_unchanged(tmp_path, items)
    (tmp_path / "x.zip").write_bytes(b"abcd")
    with pytest.raises(DataError, match=r"x\.zip has 4 bytes, and had 3 when it was verified$") as caught:
        check_unchanged(tmp_path, items)
    assert caught.value.argument == "items"
    (tmp_path / "x.zip").unlink()
    with pytest.raises(DataError, match=r"x\.zip is no longer there$") as caught:
        check_unchanged(tmp_path, items)
    assert caught.value.argument == "items"
    with pytest.raises(DataError, match=r"train is no longer there"):
        check_unchanged(tmp_path / "elsewhere", items)


@pytest.mark.parametrize("text", ["[]", "{}", '{"files": [{"file": "a"}]}', '{"files": [7]}', '{"files": 7}'])
def test_a_damaged_list_of_files(tmp_path, text):
    (tmp_path / "files.json").write_text(text)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'files.json'} is not a list of files")) as caught:
        read_files(tmp_path)
    assert caught.value.remake == tmp_path / "files.json"


def test_a_missing_list_of_files(tmp_path):
    with pytest.raises(DataError, match=r"files\.json is missing$"):
        read_files(tmp_path)


# Progress -----------------------------------------------------------------------------------------


def test_the_rate_is_that_of_the_last_seconds():
    now = [0.0]
    seen: list[Progress] = []
    meter = Meter({"a": 1000, "b": None}, seen.append, clock=lambda: now[0])
    meter.restart("a", 500)  # from an earlier run
    for _ in range(4):
        now[0] += 1
        meter.advance("a", 100)
    assert [p.bytes_done for p in seen] == [600, 700, 800, 900]
    assert [p.rate for p in seen] == [100, 100, 100, 100]
    assert seen[-1].seconds_left == 1
    now[0] += 60
    meter.finish("a", 1000)
    assert (seen[-1].files_done, seen[-1].files, seen[-1].bytes_done) == (1, 2, 1000)
    assert seen[-1].rate == 0  # what came before is long ago
    now[0] += 2
    meter.advance("b", 10)
    assert seen[-1].rate == 5


def test_reports_are_few_but_the_ends_are_always_told():
    seen: list[Progress] = []
    meter = Meter({"a": 100, "b": 100}, seen.append, clock=lambda: 0.0)
    for _ in range(100):
        meter.advance("a", 1)
    meter.finish("a", 100)
    meter.finish("b", 100)
    assert [p.files_done for p in seen] == [0, 1, 2]
    assert seen[-1].seconds_left is None
