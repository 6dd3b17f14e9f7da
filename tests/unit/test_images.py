"""Images: every colour mode, EXIF, resizing, poses, hashes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from domix.data.store import images
from domix.runtime.seeds import numpy_generator
from tests.fixtures import draw, encoded

RED = (255, 0, 0)


def corner(data: bytes) -> tuple[int, ...]:
    """Return the decoded image's top left pixel."""
    image = images.decode(data)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "expected"),
    [
        ("RGB", RED, "PNG", RED),
        ("L", 128, "PNG", (128,) * 3),
        ("1", 1, "PNG", (255,) * 3),
        ("LA", (0, 0), "PNG", (255,) * 3),
        ("RGBA", (255, 0, 0, 0), "PNG", (255,) * 3),
        ("RGBA", (255, 0, 0, 255), "PNG", RED),
        ("RGBA", (0, 0, 0, 128), "PNG", (127,) * 3),
        ("CMYK", (0, 0, 0, 0), "JPEG", (255,) * 3),
        ("I;16", 128 << 8, "PNG", (128,) * 3),
        ("RGBA", (0, 0, 0, 0), "WEBP", (255,) * 3),
    ],
)
def test_every_colour_mode_becomes_rgb_over_white(mode, colour, kind, expected):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert corner(encoded(Image.new(mode, (4, 4), colour), kind, **options)) == expected


@pytest.mark.parametrize("suffix", sorted(images.SUFFIXES))
def test_what_a_suffix_calls_an_image_is_decoded_and_told_by_its_bytes(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (4, 4), RED).save(path)
    data = path.read_bytes()
    assert corner(data) == pytest.approx(RED, abs=3)
    kind = images.kind_of(data)
    assert f".{kind}" in next(suffixes for suffixes in images.KINDS.values() if suffix in suffixes)
    assert images.plain_kind(data) in (None, kind)


def test_transparent_palette_entries_become_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 255, *RED])
    assert corner(encoded(image, "PNG", transparency=0)) == (255, 255, 255)
    assert corner(encoded(image, "GIF")) == (0, 0, 255)


def test_transparent_colour_of_an_rgb_png_becomes_white():
    assert corner(encoded(Image.new("RGB", (4, 4), RED), "PNG", transparency=RED)) == (255, 255, 255)


def test_first_frame_of_an_animation_is_taken():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 255, 0))]
    assert corner(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == RED


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (8, 4), "white")
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to view"
    upright = images.decode(encoded(image, "PNG", exif=exif))
    assert upright.size == (4, 8)
    assert upright.getpixel((3, 0)) == RED


def test_damaged_exif_data_do_not_cost_the_image():
    data = encoded(Image.new("RGB", (4, 4), RED), "WEBP", lossless=True, exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    assert corner(data) == RED


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [((100, 50), 10, (20, 10)), ((50, 100), 10, (10, 20)), ((8, 8), 10, (8, 8)), ((10, 400), 10, (10, 400))],
)
def test_resizing_sets_the_short_side_and_never_enlarges(size, short, expected):
    assert images.resize_short(Image.new("RGB", size), short).size == expected


def test_encoding_loses_nothing_and_is_repeatable():
    image = draw("real", "apple", 0)
    data = images.encode(image)
    assert data == images.encode(image)
    assert images.decode(data).tobytes() == image.tobytes()


def test_phash_equals_the_published_algorithm():
    """Against scipy's DCT, put together as the package imagehash does it."""
    from scipy.fftpack import dct

    for number in range(8):
        image = draw("sketch", "lion", number, size=40)
        grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS))
        low = dct(dct(grey, axis=0), axis=1)[:8, :8]
        bits = "".join("01"[int(bit)] for bit in (low > np.median(low)).flatten())
        assert images.phash(image) == f"{int(bits, 2):016x}"


def test_phash_is_near_for_a_resized_image_and_far_for_another():
    def distance(a: Image.Image, b: Image.Image) -> int:
        return (int(images.phash(a), 16) ^ int(images.phash(b), 16)).bit_count()

    image, other = draw("real", "apple", 0, size=96), draw("real", "bed", 0, size=96)
    assert distance(image, image.resize((48, 48))) <= 4
    assert distance(image, other) >= 12


def test_phash_of_a_flat_image_is_sixteen_digits():
    assert len(images.phash(Image.new("RGB", (5, 5), "white"))) == 16


def test_pose_depends_on_its_generator_alone():
    image = draw("real", "apple", 0, size=48)
    poses = [images.pose(image, numpy_generator(0, "key", number)).tobytes() for number in (1, 1, 2)]
    assert poses[0] == poses[1] != poses[2]


def test_pose_keeps_the_size_and_fills_with_white():
    black = Image.new("RGB", (60, 40), "black")
    posed = [images.pose(black, numpy_generator(0, number)) for number in range(30)]
    assert {image.size for image in posed} == {(60, 40)}
    assert any(image.getpixel((0, 0)) == (255, 255, 255) for image in posed)
    assert all(image.getpixel((30, 20)) == (0, 0, 0) for image in posed)


def test_poses_stay_within_their_bounds():
    """A dot right of the centre: where it lands tells mirroring, tilt, size and shift."""
    angles, lengths, sides = [], [], []
    image = Image.new("RGB", (100, 100), "white")
    image.paste("black", (78, 48, 83, 53))
    for number in range(200):
        dark = 255.0 - np.asarray(images.pose(image, numpy_generator(0, number)).convert("L"), dtype=float)
        y, x = (np.indices(dark.shape) * dark).sum(axis=(1, 2)) / dark.sum() - 49.5
        angles.append(np.degrees(np.arctan2(y, abs(x))))
        lengths.append(np.hypot(x, y))
        sides.append(x > 0)
    assert np.abs(angles).max() < 15 + 14  # the shift of 5 pixels at 30 may look like 14 degrees more
    assert 30 * 0.85 - 8 < min(lengths) < max(lengths) < 30 * 1.15 + 8
    assert 60 < sum(sides) < 140
    assert np.ptp(angles) > 20


def test_pose_without_change_is_the_identity():
    class Still:
        """Draws: no mirroring, no tilt, size 1, no shift."""

        def random(self) -> float:
            return 0.9

        def uniform(self, low: float, high: float, size: int | None = None) -> float | np.ndarray:
            middle = 1.0 if low > 0 else 0.0
            return middle if size is None else np.full(size, middle)

    image = draw("real", "apple", 0, size=31)
    assert images.pose(image, Still()).tobytes() == image.tobytes()


def test_decoding_leaves_no_open_file():
    data = io.BytesIO(encoded(draw("real", "bed", 1)))
    image = images.decode(data.getvalue())
    assert image.getpixel((0, 0)) == draw("real", "bed", 1).getpixel((0, 0))
