"""Archives, lists and manifests that are damaged, incomplete or hostile: one sentence, nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from domix.data.archives.archive import ZipReader
from domix.data.archives.manifests import write_files
from domix.data.fetch.fetching import fetch_files
from domix.data.sources.registry import get_source
from domix.runtime.errors import DataError, DomixError
from domix.runtime.files import atomic_folder
from tests.fixtures import make_domainnet_set, replace_members, write_manifest, write_zip
from tests.packing import samples_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def drawn(tmp_path):
    """Return a small set."""
    return make_domainnet_set(tmp_path / "set", domains=["real"], classes=["axe", "bed"])


def fetch(source: Path, out: Path) -> None:
    with atomic_folder(out) as temporary:
        write_files(temporary, fetch_files(get_source("emoji"), source))


def fetch_fails(source: Path, pattern: str, error: type[Exception] = DataError) -> None:
    out = source.parent / "raw"
    with pytest.raises(error, match=pattern) as caught:
        fetch(source, out)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in source.parent.iterdir() if path != source) == []


def samples_fail(folder: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=pattern) as caught:
        samples_of("emoji", folder)
    assert "\n" not in str(caught.value)


# Fetching -----------------------------------------------------------------------------------------


def test_wrong_checksum(drawn):
    data = bytearray((drawn / "real.zip").read_bytes())
    data[100] ^= 1
    (drawn / "real.zip").write_bytes(data)
    fetch_fails(drawn, r"real\.zip has SHA-256 [0-9a-f]{64}, not")


def test_wrong_size(drawn):
    (drawn / "real.zip").write_bytes((drawn / "real.zip").read_bytes()[:-100])
    fetch_fails(drawn, r"real\.zip has [\d,]+ bytes, not [\d,]+")


def test_missing_file(drawn):
    (drawn / "real_test.txt").unlink()
    fetch_fails(drawn, r"real_test\.txt is missing: bring it there")


def test_missing_manifest(drawn):
    (drawn / "manifest.json").unlink()
    fetch_fails(drawn, r"manifest\.json is missing")


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '{"files": [{"file": "a"}]}', '{"files": [7]}', "\x00"])
def test_malformed_manifest(drawn, text):
    (drawn / "manifest.json").write_text(text)
    fetch_fails(drawn, r"manifest\.json is not (a manifest|valid JSON)")


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/passwd", "a/../../b", "..\\b"])
def test_manifest_that_leads_out_of_its_folder(drawn, name):
    (drawn / "manifest.json").write_text(json.dumps({"files": [{"file": name, "bytes": 1, "sha256": "0"}]}))
    fetch_fails(drawn, "do not trust this data set")


def test_a_file_where_the_folder_should_be(drawn):
    out = drawn / "real.zip/raw"
    with pytest.raises(DomixError, match="a file stands where a folder is needed"):
        fetch(drawn, out)


def test_a_failed_fetch_leaves_the_earlier_one(drawn, tmp_path):
    fetch(drawn, tmp_path / "raw")
    (drawn / "real.zip").unlink()
    with pytest.raises(DataError):
        fetch(drawn, tmp_path / "raw")
    assert (tmp_path / "raw/files.json").exists()


# Lists and archives -------------------------------------------------------------------------------


def test_missing_archive(drawn):
    (drawn / "real.zip").unlink()
    samples_fail(drawn, r"the archive .*real\.zip is missing")


def test_missing_list(drawn):
    (drawn / "real_test.txt").unlink()
    samples_fail(drawn, r"the split list .*real_test\.txt is missing")


def test_list_that_names_a_missing_member(drawn):
    replace_members(drawn / "real.zip", {"real/bed/artist0.png": None})
    samples_fail(drawn, r"real_train\.txt, line 3 names real/bed/artist0\.png, which .*real\.zip does not hold")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "is empty"),
        ("real/axe/artist0.png\n", "line 1 is not `real/<class>/<file> <label>`"),
        ("real/axe/artist0.png one\n", "line 1 is not"),
        ("real/axe/artist0.png -1\n", "line 1 is not"),
        ("sketch/axe/artist0.png 0\n", "line 1 is not"),
        ("\n\n", "is empty"),
        ("../axe/artist0.png 0\n", "line 1 is not"),
        ("real/axe/artist0.png 0\nreal/axe/artist0.png 0\n", "line 2 names .* a second time"),
        ("real/axe/artist0.png 0\nreal/axe/artist1.png 1\n", "line 2 gives 'axe' the label 1, and an earlier line 0"),
    ],
)
def test_bad_lists(drawn, text, pattern):
    (drawn / "real_train.txt").write_text(text)
    samples_fail(drawn, pattern)


def test_list_that_is_no_text(drawn):
    (drawn / "real_train.txt").write_bytes(b"\xff\xfe\x00")
    samples_fail(drawn, "is not UTF-8 text")


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 40])
def test_a_file_that_is_no_archive(drawn, data):
    (drawn / "real.zip").write_bytes(data)
    samples_fail(drawn, "is not a whole zip archive")


def test_a_truncated_archive(drawn):
    data = (drawn / "real.zip").read_bytes()
    (drawn / "real.zip").write_bytes(data[: len(data) // 2])
    samples_fail(drawn, "is not a whole zip archive")


def test_a_member_whose_checksum_is_off(drawn):
    data = (drawn / "real.zip").read_bytes()
    with zipfile.ZipFile(drawn / "real.zip") as archive:
        member = archive.read("real/axe/artist1.png")
    place = data.index(member) + len(member) // 2
    (drawn / "real.zip").write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
    samples_fail(drawn, r"real/axe/artist1\.png in .*real\.zip is damaged")


# Hostile archives ---------------------------------------------------------------------------------


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=f"{pattern}.*do not trust this archive"):
        ZipReader(path)


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/passwd", "real/../../x", "..\\evil", "C:\\evil", "C:/evil"])
def test_names_that_lead_out(tmp_path, name):
    write_zip(tmp_path / "a.zip", {name: b"x"})
    refused(tmp_path / "a.zip", "leads out|not a relative path")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(tmp_path, kind):
    info = zipfile.ZipInfo("real/axe/1.png")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "a.zip", "link or a device")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a/b.png", "a/b.png"), ("a/b.png", "A/B.PNG"), ("a/\u00e9.png", "a/e\u0301.png")])
def test_two_members_of_one_name(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    refused(tmp_path / "a.zip", "is there twice")


def test_bombs_by_ratio(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("real/axe/1.png", bytes(4 << 20))
    refused(tmp_path / "a.zip", "unpacks to 4,194,304 bytes from")


def edit_directory(path: Path, offset: int, value: bytes) -> None:
    """Overwrite a field of the first entry of an archive's table of contents."""
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02") + offset
    data[start : start + len(value)] = value
    path.write_bytes(data)


def test_bombs_by_size(tmp_path):
    write_zip(tmp_path / "a.zip", {"real/axe/1.png": b"x"})
    edit_directory(tmp_path / "a.zip", 24, (1 << 30).to_bytes(4, "little"))
    refused(tmp_path / "a.zip", "unpacks to 1,073,741,824 bytes")


def test_encrypted_members(tmp_path):
    write_zip(tmp_path / "a.zip", {"real/axe/1.png": b"x"})
    edit_directory(tmp_path / "a.zip", 8, b"\x01\x00")
    refused(tmp_path / "a.zip", "is encrypted")


def test_unusual_compression(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("real/axe/1.png", b"x")
    refused(tmp_path / "a.zip", "is compressed by method 14")


def test_a_member_longer_than_it_says(tmp_path):
    """The table of contents lies about the length, as bombs do; the rest is not unpacked."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("real/axe/1.png", os.urandom(5000))
    edit_directory(tmp_path / "a.zip", 24, (10).to_bytes(4, "little"))
    with ZipReader(tmp_path / "a.zip") as archive, pytest.raises(DataError, match=r"damaged|not as long"):
        archive.read("real/axe/1.png")


# Killed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_pack_leaves_no_output_and_goes_on(tmp_path, number):
    """Only SIGKILL may leave a hidden temporary folder; the output's own name never appears half-made."""
    make_domainnet_set(tmp_path / "data", classes=[f"class {i}" for i in range(40)])
    text = (ROOT / "params.yaml").read_text().replace("shard_samples: 2048", "shard_samples: 64")
    (tmp_path / "params.yaml").write_text(text)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}

    def stage(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", f"stages.{name}", "emoji"], cwd=tmp_path, env=environment)

    assert stage("fetch").wait() == 0
    process = stage("pack")
    folder = tmp_path / "artifacts/shards"
    while process.poll() is None and not list(tmp_path.glob(".cache/pack/emoji/*/*.json")):
        time.sleep(0.01)
    others = psutil.Process(process.pid).children(recursive=True)  # a fork server, and what it serves
    process.send_signal(number)
    assert process.wait() == (75 if number == signal.SIGTERM else -9)
    assert psutil.wait_procs(others, timeout=20)[1] == []
    assert not (folder / "emoji").exists()
    if number == signal.SIGTERM:
        assert list(folder.iterdir()) == []
    assert stage("pack").wait() == 0
    shutil.copytree(folder / "emoji", tmp_path / "resumed")
    assert not list(tmp_path.glob(".cache/pack/*"))
    assert stage("pack").wait() == 0
    resumed, whole = ({p.name: p.read_bytes() for p in f.iterdir()} for f in (tmp_path / "resumed", folder / "emoji"))
    assert resumed == whole


def test_rewritten_manifest_of_a_changed_set_is_accepted(drawn, tmp_path):
    """The guard is the manifest: it says what the set is."""
    replace_members(drawn / "real.zip", {"real/bed/extra.png": b"x"})
    write_manifest(drawn)
    fetch(drawn, tmp_path / "raw")
    assert (tmp_path / "raw/files.json").exists()
