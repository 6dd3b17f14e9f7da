"""Bad images: each has a reason, none is decoded that should not be, and none gets into the shards."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from domix.data.store import images
from domix.runtime.errors import DataError, DomixError
from domix.runtime.files import atomic_folder
from tests.fixtures import draw, encoded, make_domainnet_set, replace_members
from tests.packing import pack_set

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size and whose data are a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def cut(kind: str, **options: object) -> bytes:
    data = encoded(NOISE, kind, **options)
    return data[: len(data) // 2]


BAD = {
    "zero bytes": (b"", "empty file"),
    "text named .png": (b"this is a text, whatever its name says\n", "not an image"),
    "a page instead of an image": (b"<!DOCTYPE html><html></html>", "not an image"),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image"),
    "a format that is not allowed": (encoded(NOISE, "PPM"), "not an image"),
    "cut PNG": (cut("PNG"), "truncated"),
    "cut JPEG": (cut("JPEG"), "truncated"),
    "bomb by header": (png_of_size(50_000, 50_000), "too large"),
    "lesser bomb by header": (png_of_size(8193, 8192), "too large"),
    "a line": (png_of_size(60_000, 16), "too long"),
    "an upright line": (png_of_size(1, 101), "too long"),
}


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD.keys())
def test_bad_images_have_a_reason(data, reason):
    with pytest.raises(images.BadImage) as caught:
        images.decode(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_no_cut_and_no_damage_escapes_as_another_error(kind):
    data = encoded(NOISE, kind)
    generator = np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(data[: generator.integers(1, len(data))] if generator.random() < 0.5 else data)
        for place in generator.integers(0, len(broken), 4):
            broken[place] = generator.integers(0, 256)
        try:
            image = images.decode(bytes(broken))
        except images.BadImage as bad:
            assert bad.reason in {"not an image", "too large", "too long", "truncated", "damaged"}
        else:
            assert image.mode == "RGB"


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(images.BadImage, match="too large"):
        images.decode(png_of_size(20_000, 20_000))


def test_largest_image_allowed_passes_the_check():
    with pytest.raises(images.BadImage) as caught:  # its data are a few bytes, so decoding fails, but it was tried
        images.decode(png_of_size(8192, 1024))
    assert caught.value.reason == "truncated"


def test_longest_image_allowed_passes_the_check():
    assert images.decode(encoded(Image.new("RGB", (1600, 16)))).size == (1600, 16)


def test_lines_are_refused_and_counted_with_their_keys(tmp_path):
    folder = make_domainnet_set(tmp_path / "set", domains=["real"], classes=["axe"])
    replace_members(folder / "real.zip", {"real/axe/artist0.png": encoded(Image.new("RGB", (1601, 16)))})
    stats = pack_set(folder, tmp_path / "out", poses=1, max_bad_share=0.5)
    assert stats.rejected == {"too long": {"count": 2, "examples": ["real/axe/artist0-pose1", "real/axe/artist0"]}}


def test_bad_images_in_an_archive_fail_the_stage_in_one_sentence(tmp_path):
    folder = make_domainnet_set(tmp_path / "set", domains=["real"], classes=["axe", "bed"])
    changes = {"real/axe/artist0.png": b"", "real/bed/artist1.png": b"text"}
    replace_members(folder / "real.zip", changes)
    with pytest.raises(DataError) as caught, atomic_folder(tmp_path / "shards") as out:
        pack_set(folder, out, poses=1, staging=tmp_path / "staging")
    message = str(caught.value)
    assert message.startswith("4 of 8 images of toy are bad, more than max_bad_share 0:")
    assert "2 empty file (real/axe/artist0-pose1, real/axe/artist0)" in message
    assert "2 not an image (real/bed/artist1-pose1, real/bed/artist1)" in message
    assert "\n" not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "staging"]


def test_other_images_of_the_batch_are_packed(tmp_path):
    folder = make_domainnet_set(tmp_path / "set", domains=["real"], classes=["axe"])
    replace_members(folder / "real.zip", {"real/axe/artist0.png": encoded(draw("real", "axe", 0))[:-30]})
    stats = pack_set(folder, tmp_path / "out", poses=1, max_bad_share=0.5)
    assert stats.packed == 2
    assert [entry["count"] for entry in stats.rejected.values()] == [2]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    import errno

    from domix.data.store import shards

    def full(self, block):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = make_domainnet_set(tmp_path / "set", domains=["real"], classes=["axe"])
    monkeypatch.setattr(shards.ShardWriter, "add", full)
    with (
        pytest.raises(DomixError, match=r"no space left to write .*free some disk space"),
        atomic_folder(tmp_path / "out") as out,
    ):
        pack_set(folder, out, poses=1, staging=tmp_path / "staging")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "staging"]
