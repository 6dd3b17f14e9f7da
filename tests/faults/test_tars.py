"""Tar files that are damaged, cut off or hostile: one sentence that names archive and member, and nothing is read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pytest

from domix.data.archives.archive import LARGEST_MEMBER
from domix.data.archives.tars import BLOCK, Place, TarReader
from domix.runtime.errors import DataError


def tar_of(path: Path, *members: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> Path:
    """Write members; a file's bytes are as many `x` as its size says."""
    with tarfile.open(path, "w", format=form) as archive:
        for info in members:
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return path


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, **headers: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.pax_headers = size, kind, headers
    return info


def sign(data: bytearray, start: int = 0) -> bytes:
    """Make the checksum of a header right again."""
    header = data[start : start + BLOCK]
    data[start + 148 : start + 156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * 32)
    return bytes(data)


def fails(path: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=pattern) as caught:
        TarReader(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def refused(path: Path, pattern: str) -> None:
    fails(path, f"holds .*{pattern}.*: do not trust this archive")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "..\\evil", "C:/evil", "a\nb", "\udcff.png"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_that_lead_out_or_are_none(tmp_path, name, form):
    refused(
        tar_of(tmp_path / "a.tar", member(name), form=form), "(leads out|not a relative path|is no file name|refused)"
    )


def test_what_systems_leave_behind_is_not_there(tmp_path):
    left = [member("__MACOSX/a/._b.png", 700), member("a/Icon\r"), member("a/.DS_Store", 5), member("A/.ds_store", 5)]
    with TarReader(tar_of(tmp_path / "a.tar", *left, member("a/b.png", 3), form=tarfile.PAX_FORMAT)) as archive:
        assert list(archive) == ["a/b.png"]
        assert archive.read("a/b.png") == b"xxx"
    refused(tar_of(tmp_path / "b.tar", member("__MACOSX/a", kind=tarfile.SYMTYPE)), "is a symbolic link")


def test_the_sentence_names_archive_and_member(tmp_path):
    path = tar_of(tmp_path / "a.tar", member("good.png"), member("../evil.png"))
    fails(path, rf"^{path} holds '\.\./evil\.png', which leads out of its folder: do not trust this archive$")


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        (tarfile.SYMTYPE, "is a symbolic link"),
        (tarfile.LNKTYPE, "is a hard link"),
        (tarfile.CHRTYPE, "is a device"),
        (tarfile.BLKTYPE, "is a device"),
        (tarfile.FIFOTYPE, "is a named pipe"),
        (tarfile.GNUTYPE_SPARSE, "is a sparse file"),
        (b"V", "is of the unknown kind b'V'"),
        (b"Z", "is of the unknown kind b'Z'"),
    ],
)
def test_links_devices_and_other_kinds(tmp_path, kind, pattern):
    info = member("a.png", kind=kind)
    info.linkname = "/etc/passwd"
    refused(tar_of(tmp_path / "a.tar", info), pattern)


def test_a_link_with_a_long_target(tmp_path):
    info = member("a.png", kind=tarfile.SYMTYPE)
    info.linkname = "x" * 200
    refused(tar_of(tmp_path / "a.tar", info), "is a link")


@pytest.mark.parametrize(
    "names", [("a/b.png", "a/b.png"), ("a/b.png", "A/B.PNG"), ("a/\u00e9", "a/e\u0301"), ("a", "./a")]
)
def test_two_members_of_one_name(tmp_path, names):
    refused(tar_of(tmp_path / "a.tar", *map(member, names)), "is there twice")


def test_huge_members(tmp_path):
    """A sparse file on our disk, so that the archive is as long as it says."""
    path = tar_of(tmp_path / "a.tar", member("a.png"))
    data = bytearray(path.read_bytes())
    data[124:136] = b"%011o\0" % (LARGEST_MEMBER + 1)
    path.write_bytes(sign(data))
    with open(path, "r+b") as file:
        file.truncate(LARGEST_MEMBER + 4096)
    refused(path, r"'a\.png', which has 268,435,457 bytes")


@pytest.mark.parametrize("field", [b"\xff" * 11 + b"\xf0", b"-0000000010\0", b"0000000x010\0"])
def test_sizes_that_are_negative_or_none(tmp_path, field):
    path = tar_of(tmp_path / "a.tar", member("a.png", 5))
    data = bytearray(path.read_bytes())
    data[124:136] = field
    path.write_bytes(sign(data))
    fails(path, r"has -16 bytes: do not trust|is not a whole tar archive \(a header's number is none\)")


def test_a_directory_with_bytes(tmp_path):
    path = tar_of(tmp_path / "a.tar", member("a", 5))
    data = bytearray(path.read_bytes())
    data[156:157] = b"5"
    path.write_bytes(sign(data))
    refused(path, "is a directory of 5 bytes")


# Extended headers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil.png", "/etc/passwd"])
def test_a_name_in_an_extended_header_is_the_one_that_counts(tmp_path, name):
    refused(tar_of(tmp_path / "a.tar", member("good.png", path=name), form=tarfile.PAX_FORMAT), "leads out|relative")


def test_a_global_header_that_renames_all(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"path": "same.png"}) as archive:
        archive.addfile(member("a.png"))
    refused(tmp_path / "a.tar", "it renames or resizes all members")


def test_sparse_files_by_extended_header(tmp_path):
    info = member("a.png", **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})
    refused(tar_of(tmp_path / "a.tar", info, form=tarfile.PAX_FORMAT), "is a sparse file")


@pytest.mark.parametrize("size", [b"-5", b"5.0", b"fi", b""])
def test_a_size_in_an_extended_header_that_is_none(tmp_path, size):
    record = b"size=" + size + b"\n"
    length = len(record) + 2 if len(record) < 8 else len(record) + 3
    refused(extended(tmp_path / "a.tar", b"%d %s" % (length, record)), "a size of")


def test_a_size_in_an_extended_header_counts(tmp_path):
    """Members of 8 GiB and more are written so."""
    refused(extended(tmp_path / "a.tar", b"21 size=999999999999\n"), r"'a\.png', which has 999,999,999,999 bytes")
    fails(extended(tmp_path / "b.tar", b"13 size=9999\n"), "is cut off in a.png")


def test_two_extended_headers_for_one_member(tmp_path):
    """Which of the two names holds is another for every program."""
    path = tar_of(tmp_path / "a.tar", member("x", path="good.png"), form=tarfile.PAX_FORMAT)
    data = path.read_bytes()
    path.write_bytes(data[: 2 * BLOCK] + data)
    refused(path, "a member has two of them")


def extended(path: Path, record: bytes) -> Path:
    """Write a member with an extended header of the given bytes."""
    tar_of(path, member("header", len(record)), member("a.png"))
    data = bytearray(path.read_bytes())
    data[156:157] = b"x"
    data[BLOCK : BLOCK + len(record)] = record
    path.write_bytes(sign(data))
    return path


@pytest.mark.parametrize(
    "record",
    [
        b"garbage",
        b"12 path=a\n",
        b"0 path=a\n",
        b"-9 path=a\n",
        b"10 path=aa\n",
        b"11 path:aa\n",
        b"11 path=aa\n11 path=bb\n",
        b"12 path=\xff\xfe\xfd\n",
        b"999999999999 path=a\n",
    ],
)
def test_malformed_extended_headers(tmp_path, record):
    refused(extended(tmp_path / "a.tar", record), "an extended header that is refused")


def test_extended_headers_of_any_length(tmp_path):
    path = tar_of(tmp_path / "a.tar", member("x", path="y" * (2 << 20)), form=tarfile.PAX_FORMAT)
    refused(path, r"an extended header of 2,097,\d+ bytes")


def test_an_extended_header_of_nothing(tmp_path):
    path = extended(tmp_path / "a.tar", b"11 path=aa\n")
    data = path.read_bytes()
    path.write_bytes(data[: 2 * BLOCK] + bytes(2 * BLOCK))
    fails(path, "it ends with an extended header")


# Damage -------------------------------------------------------------------------------------------


def test_missing_archive_and_folder(tmp_path):
    fails(tmp_path / "a.tar", "is missing")
    fails(tmp_path, "is no file")


@pytest.mark.parametrize("data", [b"", b"not a tar", b"\xff" * 2000, b"PK\x03\x04" + b"\0" * 2000])
def test_a_file_that_is_no_archive(tmp_path, data):
    (tmp_path / "a.tar").write_bytes(data)
    fails(tmp_path / "a.tar", "is not a (whole )?tar archive")


@pytest.mark.parametrize(
    ("pack", "method"),
    [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz"), (b"\x28\xb5\x2f\xfd".__add__, "zstd")],
)
def test_packed_archives(tmp_path, pack, method):
    path = tar_of(tmp_path / "a.tar", member("a.png", 2000))
    path.write_bytes(pack(path.read_bytes()))
    fails(path, f"is packed with {method}: unpack it to a plain \\.tar")


@pytest.mark.parametrize("length", [BLOCK, BLOCK + 100, 3 * BLOCK, 3 * BLOCK + 200, 4 * BLOCK, 5 * BLOCK + 1])
def test_every_kind_of_cut(tmp_path, length):
    path = tar_of(tmp_path / "a.tar", member("a.png", 1000), member("b.png", 1000))
    path.write_bytes(path.read_bytes()[:length])
    fails(path, "is cut off")


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path):
    path = tar_of(tmp_path / "a.tar", member("a.png", 100), member("b.png", 100))
    data = bytearray(path.read_bytes())
    data[2 * BLOCK + 3] ^= 1
    path.write_bytes(data)
    fails(path, r"is not a whole tar archive \(wrong checksum of a header\)")


def test_joined_archives(tmp_path):
    path = tar_of(tmp_path / "a.tar", member("a.png", 100))
    path.write_bytes(path.read_bytes() * 2)
    fails(path, "goes on after its end mark")


def test_unknown_members(tmp_path):
    with (
        TarReader(tar_of(tmp_path / "a.tar", member("a.png"))) as reader,
        pytest.raises(DataError, match="does not hold b"),
    ):
        reader.read("b.png")


def test_an_archive_cut_after_its_headers_were_read(tmp_path):
    path = tar_of(tmp_path / "a.tar", member("a.png", 1000))
    with TarReader(path) as reader:
        with open(path, "r+b") as file:
            file.truncate(1000)
        with pytest.raises(DataError, match=r"a\.png in .* is cut off"):
            reader.read("a.png")


def test_an_inner_archive_does_not_reach_beyond_its_place(tmp_path):
    inner = tar_of(tmp_path / "inner.tar", member("a.png", 1000)).read_bytes()
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(BLOCK) + inner)
    with pytest.raises(DataError, match=r"member n1\.tar, is cut off in a\.png"):
        TarReader(path, Place(BLOCK, 2 * BLOCK), name="n1.tar")
    with pytest.raises(DataError, match=r"member n1\.tar, is cut off"):
        TarReader(path, Place(BLOCK, 1 << 20), name="n1.tar")
