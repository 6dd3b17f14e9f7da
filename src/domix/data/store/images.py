"""Images: decoded with suspicion, resized, posed, hashed, encoded.

An image here is a PIL image in mode RGB. What cannot be decoded raises `BadImage`, whose reason is one of a few
fixed texts, so that rejects can be counted by reason.
"""

from __future__ import annotations

import functools
import io
import itertools
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

KINDS = {  # the decoders that data of unknown origin may reach, and the suffixes of their files
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}
FORMATS = tuple(KINDS)
SUFFIXES = frozenset(itertools.chain(*KINDS.values()))  # in lower case
LARGEST = 1 << 26  # pixels: 8192 x 8192; greater ones are refused before they are decoded
LONGEST = 100  # times the short side: a longer image is a line, which costs its readers what thousands of others do
HASHED = 128  # pixels, short side: what a perceptual hash needs to see
WHITE = (255, 255, 255)
ORIENTATION = 0x0112  # EXIF tag

TILT, SHRINK, GROW, SHIFT = 15.0, 0.85, 1.15, 0.05  # a pose: degrees, least and greatest size, share of the side


class BadImage(Exception):
    """Bytes that are no usable image; `reason` is one of the texts below."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


EMPTY, UNKNOWN, HUGE, TRUNCATED, DAMAGED = "empty file", "not an image", "too large", "truncated", "damaged"
TINY, LONG = "too small", "too long"

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, OverflowError, IndexError, KeyError, TypeError, struct.error)


def decode(data: bytes) -> Image.Image:
    """Decode an image file to RGB: upright as its EXIF data say, transparency over white, the first frame of several.

    Raises:
        BadImage: the bytes are empty, no image in one of `FORMATS`, greater than `LARGEST` or longer than `LONGEST` by
            their header, cut short, or damaged.
    """
    if not data:
        raise BadImage(EMPTY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata, and on sizes that are checked here
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise BadImage(UNKNOWN) from None
        except Image.DecompressionBombError:
            raise BadImage(HUGE) from None
        except (*_DAMAGE, zlib.error):
            raise BadImage(DAMAGED) from None
        with image:
            if image.width * image.height > LARGEST:
                raise BadImage(HUGE)
            if max(image.size) > LONGEST * min(image.size):
                raise BadImage(LONG)
            return _load(image)


def _load(image: Image.Image) -> Image.Image:
    """Decode an opened image."""
    try:
        image.load()
        return to_rgb(_upright(image))
    except (*_DAMAGE, zlib.error) as error:
        raise BadImage(TRUNCATED if "truncated" in str(error).lower() else DAMAGED) from None


def _upright(image: Image.Image) -> Image.Image:
    """Return a copy, turned as the EXIF orientation says; EXIF data that are damaged count for nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except (*_DAMAGE, ZeroDivisionError):
        return image.copy()


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB; what is transparent becomes white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode == "I":  # 16 bits a pixel, which convert() would clip
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (*WHITE, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def cut_border(image: Image.Image, border: int) -> Image.Image:
    """Cut off `border` pixels at each side.

    Raises:
        BadImage: nothing would be left.
    """
    width, height = image.size
    if min(width, height) <= 2 * border:
        raise BadImage(TINY)
    return image.crop((border, border, width - border, height - border))


def resize_short(image: Image.Image, size: int) -> Image.Image:
    """Shrink an image to a short side of `size` pixels, bicubic with antialiasing; smaller ones stay as they are."""
    short = min(image.size)
    if short <= size:
        return image
    width, height = (max(1, round(side * size / short)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "png") -> bytes:
    """Encode an image.

    Args:
        image: in mode RGB.
        kind: png: lossless, and of the lossless formats the quickest to decode; jpeg: quality 95, colours at full
            resolution, a fourth of the size or less for photographs.
    """
    buffer = io.BytesIO()
    if kind == "jpeg":
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        image.save(buffer, "PNG", compress_level=2)
    return buffer.getvalue()


def plain_kind(data: bytes) -> str | None:
    """Return the extension (jpg, png, webp) of an image that any decoder reads as `decode` does, else None.

    That is: three channels or grey, 8 bits, upright, opaque, one frame. Call it on what `decode` has accepted.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        upright = image.getexif().get(ORIENTATION, 1) == 1
        single = getattr(image, "n_frames", 1) == 1
        if image.mode in ("RGB", "L") and "transparency" not in image.info and upright and single:
            return {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}.get(str(image.format))
    return None


MAGIC = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpg", b"GIF8": "gif", b"BM": "bmp"}
MAGIC |= dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "tif")


def kind_of(data: bytes) -> str | None:
    """Return the extension (png, jpg, webp, gif, bmp, tif) of an image file by its first bytes; None: another."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), None)


def pose(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Mirror (every second time), tilt, scale and shift an image on white by amounts drawn from `generator`.

    Tilt is uniform in +-15 degrees, size in 0.85 .. 1.15, the shift in +-5 % of each side.
    """
    mirrored = generator.random() < 0.5
    angle = np.deg2rad(generator.uniform(-TILT, TILT))
    scale = generator.uniform(SHRINK, GROW)
    shift = generator.uniform(-SHIFT, SHIFT, size=2)
    width, height = image.size
    # Pillow wants the map from output to input: (x, y) -> (a x + b y + c, d x + e y + f), about the image's centre.
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    flip = -1.0 if mirrored else 1.0
    a, b, d, e = flip * cos, flip * sin, -sin, cos
    x, y = width / 2 + shift[0] * width, height / 2 + shift[1] * height
    c, f = width / 2 - a * x - b * y, height / 2 - d * x - e * y
    matrix = tuple(float(value) for value in (a, b, c, d, e, f))
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC, fillcolor=WHITE
    )


@functools.cache
def _cosines(n: int, k: int) -> np.ndarray:
    """Return the first k rows of the DCT-II matrix of n points, float64 [k, n]."""
    return 2 * np.cos(np.pi / n * np.outer(np.arange(k), np.arange(n) + 0.5))


def phash(image: Image.Image) -> str:
    """Return the 64-bit perceptual hash as 16 hexadecimal digits: near-duplicates differ in few bits.

    The signs of the 8 x 8 lowest DCT coefficients of the 32 x 32 grey image about their median, row by row, as the
    package imagehash computes it; images of 256 pixels and more are first averaged over squares, which hardly ever
    turns a bit and takes a fraction of the time.
    """
    grey = image.convert("L")
    if (squares := min(grey.size) // HASHED) > 1:
        grey = grey.reduce(squares)
    grey = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS), dtype=np.float64)
    low = _cosines(32, 8) @ grey @ _cosines(32, 8).T
    low = low.round(6)  # so that what is zero is zero on every machine
    middle = np.sort(low, axis=None)[31:33].mean()  # the median, without np.median's overhead
    bits = np.packbits((low > middle).ravel())
    return bits.tobytes().hex()
