"""Pictures cut and resized to what a model reads: decoded once, for all models of this size and all their weights.

<folder>/<digest>/pixels.npy   uint8 [N, S, S, 3]: central squares, in the order asked for
<folder>/<digest>/about.json   what they were made from

`crop_resize` gives whole grey levels, so that nothing is lost by keeping bytes. The digest stands for the pictures,
their order, the size, and the code that makes them.

Shapes: N pictures, B batch, S the model's side.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from domix.data import augment, pictures
from domix.data.augment import centre_boxes, crop_resize
from domix.data.decoded_batches import read_batch
from domix.data.picture_cache import digest_of_pictures
from domix.data.samples import Reader
from domix.runtime.ahead import ahead
from domix.runtime.arrays import new_array
from domix.runtime.errors import DataError
from domix.runtime.files import atomic_folder, digest_of, explain, read_json, sha256_file, write_json
from domix.runtime.locks import alone

PIXELS, ABOUT = "pixels.npy", "about.json"
MOST, MOST_BYTES = 256, 1 << 26  # pictures resized in one go, and the bytes that they may take when padded

logger = logging.getLogger(__name__)


class ResizedPictures:
    """Pictures in a file that is mapped into memory, and a digest that stands for them."""

    def __init__(self, path: Path, digest: str) -> None:
        """Map the file."""
        self.digest = digest
        self._pixels = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._pixels)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield the pictures uint8 [B, 3, S, S], in order; in memory channels lie innermost."""
        starts = range(0, len(self), size)
        for part in ahead(lambda start: np.array(self._pixels[start : start + size]), starts):
            yield torch.from_numpy(part).permute(0, 3, 1, 2)


def open_resized(
    folder: Path,
    reader: Reader,
    rows: pd.DataFrame,
    size: int,
    *,
    threads: int,
    advance: Callable[[int], object] = lambda count: None,
) -> ResizedPictures:
    """Return the pictures of some rows of a packed source, `size` pixels square; make them where no process ever has.

    Args:
        folder: holds the resized pictures of this machine.
        reader: of the packed pictures.
        rows: of the index, in the order wanted; columns `row` and those of samples.IDENTITY.
        size: in pixels.
        threads: that decode.
        advance: told how many more pictures have been made.

    Raises:
        DataError: a packed picture is missing or damaged.
        DomixError: there is no room for the pictures, or the folder cannot be written.
    """
    code = [sha256_file(Path(str(module.__file__))) for module in (augment, pictures)]
    about: dict[str, Any] = {"pictures": digest_of_pictures(rows), "count": len(rows), "size": size, "code": code}
    home = folder / digest_of(**about)
    with explain(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with alone(home.with_suffix(".lock"), "decoding the same pictures"):
        if home.exists() and not _is_whole(home, about):
            logger.warning("the resized pictures in %s are damaged: they are made again", home)
            shutil.rmtree(home)
        if not home.exists():
            logger.info("decoding %d pictures, once for all models that read %d x %d: %s", len(rows), size, size, home)
            with atomic_folder(home) as temporary:
                _make(temporary / PIXELS, reader, rows, size, threads, advance)
                write_json(temporary / ABOUT, about)
    return ResizedPictures(home / PIXELS, home.name)


def _is_whole(home: Path, about: Mapping[str, object]) -> bool:
    """Tell whether the pictures of a folder are those wanted, and all there."""
    try:
        pixels = np.load(home / PIXELS, mmap_mode="r")
        return read_json(home / ABOUT) == about and pixels.shape == (about["count"], *[about["size"]] * 2, 3)
    except (DataError, OSError, EOFError, ValueError):
        return False


def _make(
    path: Path, reader: Reader, rows: pd.DataFrame, size: int, threads: int, advance: Callable[[int], object]
) -> None:
    pixels = new_array(path, (len(rows), size, size, 3), np.uint8)
    done = 0
    for padded, sizes in ahead(lambda part: read_batch(reader, part, threads=threads), _parts(rows)):
        resized = crop_resize(padded, centre_boxes(sizes), size)
        pixels[done : done + len(padded)] = resized.permute(0, 2, 3, 1).to(torch.uint8).numpy()
        done += len(padded)
        advance(len(padded))
    pixels.flush()


def _parts(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Cut rows into parts of bounded number and memory."""
    start, high, wide = 0, 0, 0
    for place, (height, width) in enumerate(zip(rows["height"].tolist(), rows["width"].tolist(), strict=True)):
        high, wide, count = max(high, height), max(wide, width), place - start + 1
        if count > 1 and (count > MOST or 3 * high * wide * count > MOST_BYTES):
            yield rows.iloc[start:place]
            start, high, wide = place, height, width
    if start < len(rows):
        yield rows.iloc[start:]
