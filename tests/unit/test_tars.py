"""Tar files read in place: parity with Python's `tarfile`, nesting, names."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domix.data.archives.tars import Place, TarReader

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def tar_bytes(members: dict[str, bytes | None], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar archive of files, and directories where the bytes are None."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data or b"")
            info.type = tarfile.REGTYPE if data is not None else tarfile.DIRTYPE
            archive.addfile(info, io.BytesIO(data or b""))
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


words = st.text("abcdefgé猫 -_", min_size=1, max_size=60)
paths = st.lists(words, min_size=1, max_size=4).map("/".join)
contents = st.dictionaries(
    paths.filter(lambda path: path.strip() == path), st.binary(max_size=1500), min_size=1, max_size=8
)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(members=contents)
def test_reads_what_tarfile_reads(tmp_path_factory, form, members):
    """Long and foreign names too, in both formats that have them."""
    path = write(tmp_path_factory.mktemp("tar") / "a.tar", tar_bytes(members, form))
    with tarfile.open(path) as archive:
        expected = {info.name: archive.extractfile(info).read() for info in archive if info.isfile()}
    with TarReader(path) as reader:
        assert list(reader) == list(expected)
        assert {name: reader.read(name) for name in reader} == expected == members


def test_long_names_split_by_ustar(tmp_path):
    name = f"{'d' * 80}/{'e' * 60}/f.png"
    with TarReader(write(tmp_path / "a.tar", tar_bytes({name: b"x"}, tarfile.USTAR_FORMAT))) as reader:
        assert list(reader) == [name]


@pytest.mark.parametrize("form", FORMATS)
def test_an_archive_inside_an_archive(tmp_path, form):
    """As ILSVRC2012_img_train.tar, a tar file of a thousand tar files."""
    inner = tar_bytes({"n1_1.JPEG": b"one", "n1_2.JPEG": b"two" * 300}, form)
    path = write(tmp_path / "outer.tar", tar_bytes({"n0.tar": b"", "n1.tar": inner, "n2.tar": b"x"}, form))
    with TarReader(path) as outer:
        place = outer.place("n1.tar")
    with TarReader(path, place, name="n1.tar") as reader:
        assert list(reader) == ["n1_1.JPEG", "n1_2.JPEG"]
        assert reader.read("n1_2.JPEG") == b"two" * 300
        offset, size = reader.place("n1_1.JPEG")
        assert path.read_bytes()[offset : offset + size] == b"one"


def test_directories_are_no_members_and_dots_before_names_go(tmp_path):
    data = tar_bytes({".": None, "./a": None, "./a/b.png": b"x", "c//d.png": b"y"})
    with TarReader(write(tmp_path / "a.tar", data)) as reader:
        assert list(reader) == ["a/b.png", "c/d.png"]
        assert len(reader) == 2
        assert "a/b.png" in reader
        assert "a" not in reader


def test_empty_archive(tmp_path):
    with TarReader(write(tmp_path / "a.tar", tar_bytes({}))) as reader:
        assert list(reader) == []


def test_large_sizes_in_base_256(tmp_path):
    """GNU tar writes sizes of 8 GiB and more so; any size may be written so."""
    data = bytearray(tar_bytes({"a": b"x" * 700}, tarfile.GNU_FORMAT))
    data[124:136] = b"\x80" + (700).to_bytes(11, "big")
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + sum(data[156:512]) + 256)
    with TarReader(write(tmp_path / "a.tar", bytes(data))) as reader:
        assert reader.place("a") == Place(512, 700)


def test_global_header_that_only_comments(tmp_path):
    """As `git archive` writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "abc"}) as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    with TarReader(write(tmp_path / "a.tar", buffer.getvalue())) as reader:
        assert list(reader) == ["a.png"]
