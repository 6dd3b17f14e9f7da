"""Manifests and zip archives that are as they should be; hostile ones are in tests/faults."""

from __future__ import annotations

import pytest

from domix.data.archives.archive import ZipReader, read_manifest
from domix.data.archives.names import left_behind, unsafe_name
from domix.runtime.errors import DataError
from tests.fixtures import make_domainnet_set, write_zip


def test_manifest_lists_size_and_digest(tmp_path):
    entries = {entry.file: entry for entry in read_manifest(make_domainnet_set(tmp_path, domains=["real"]))}
    assert entries["real.zip"].bytes == (tmp_path / "real.zip").stat().st_size
    assert len(entries["real_test.txt"].sha256) == 64


def test_members_are_read_by_name(tmp_path):
    write_zip(tmp_path / "a.zip", {"real/axe/1.png": b"one", "real/axe/2.png": b"two"})
    with ZipReader(tmp_path / "a.zip") as archive:
        assert archive.read("real/axe/2.png") == b"two"
        assert "real/axe/1.png" in archive
        assert "real/axe/3.png" not in archive
        with pytest.raises(DataError, match=r"does not hold real/axe/3\.png"):
            archive.read("real/axe/3.png")


@pytest.mark.parametrize(
    "name",
    [
        "real/axe/1.png",
        "real/ice_cream/",
        "real/t-shirt/a b (1).jpg",
        "real/caf\u00e9.png",
        "at 4\u202fPM.png",
        "写真\u3000.png",
        "at 4:42/c",
    ],
)
def test_ordinary_names_are_safe(name):
    assert unsafe_name(name) is None


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "a/../../b", "a\\b", "C:/a", "a\0b", "a\nb"])
def test_other_names_are_not(name):
    assert unsafe_name(name)


@pytest.mark.parametrize("name", ["a/__MACOSX/b.png", "a/._b.png", "Thumbs.db", "a/THUMBS.DB", ".git/x", "@eaDir/b"])
def test_what_systems_leave_behind(name):
    assert left_behind(name)


@pytest.mark.parametrize("name", ["a/b.png", "./a.png", "../a.png", "..a", "thumbs.png", "recycled.jpg", "lost+/a"])
def test_what_they_do_not(name):
    assert not left_behind(name)
