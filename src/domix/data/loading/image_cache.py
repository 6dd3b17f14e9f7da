"""Images decoded once into a file that all processes of a machine, and all trainings, read by mapping it into memory.

<folder>/<digest>/pixels.bin     the images of a packed source, uint8 [3, height, width] each, in index order
<folder>/<digest>/pixels.json    what they were decoded from, and how many bytes they have

The digest stands for the source's images, so a source that is packed anew gets a file of its own. The operating
system keeps what is read often in memory, once for all processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from pandas.util import hash_pandas_object
from torch import Tensor

from domix.data.loading.decode import decode_all
from domix.data.loading.images import Images
from domix.data.loading.samples import IDENTITY, sizes_of
from domix.runtime.errors import DataError
from domix.runtime.files import atomic_folder, explain, read_json, write_json

PIXELS, ABOUT = "pixels.bin", "pixels.json"

logger = logging.getLogger(__name__)


def open_cache(folder: Path, index: pd.DataFrame, read: Callable[[int], bytes], *, threads: int) -> Images:
    """Return the images of a packed source, in the order of `index`; decode them first where no process ever has.

    Args:
        folder: holds the decoded sources of this machine.
        index: the source's, whole; its columns of IDENTITY.
        read: returns the image file of a row.
        threads: that decode.

    Raises:
        DataError: an image is missing or damaged, or the decoded ones are.
        DomixError: there is no room for them, or the folder cannot be written.
    """
    sizes, digest = sizes_of(index), digest_of_images(index)
    about = {"images": digest, "rows": len(index), "bytes": int(sizes.prod(dim=1).sum()) * 3}
    home = folder / digest[:24]
    if not home.is_dir():
        with explain(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _alone(home.with_suffix(".lock")):
            if not home.is_dir():  # nor has the process that had the lock
                _decode(home, about, sizes, read, index["key"].tolist(), threads)
    _check(home, about)
    return Images(sizes, _mapped(home / PIXELS))


def digest_of_images(index: pd.DataFrame) -> str:
    """Return a digest of a source's images, in order."""
    hashes = hash_pandas_object(index[IDENTITY], index=False)  # ty: ignore[not-callable] (pandas types it late)
    return hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest()


@contextlib.contextmanager
def _alone(path: Path) -> Generator[None]:
    """Be the only process within this block; log where that takes waiting."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("another process is decoding the same images: waiting for it (%s)", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _decode(
    home: Path, about: dict[str, str | int], sizes: Tensor, read: Callable[[int], bytes], names: list[str], threads: int
) -> None:
    nbytes = int(sizes.prod(dim=1).sum()) * 3
    logger.info("decoding %d images, %.1f GB, once for all trainings: %s", len(sizes), nbytes / 1e9, home)
    with atomic_folder(home) as temporary:
        path = temporary / PIXELS
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, nbytes)  # a full disk is told here, not by SIGBUS while decoding
        pixels = np.memmap(path, np.uint8, "r+")
        place = Images(sizes, torch.from_numpy(pixels)).__getitem__
        decode_all(read, names, place, len(sizes), threads=threads)
        pixels.flush()
        write_json(temporary / ABOUT, about)


def _check(home: Path, about: dict[str, str | int]) -> None:
    """Check that what was decoded is whole and of the right images.

    Raises:
        DataError: it is not.
    """
    damaged = f"the decoded images in {home} are damaged: delete this folder and run again"
    try:
        found, size = read_json(home / ABOUT), (home / PIXELS).stat().st_size
    except (DataError, FileNotFoundError) as error:
        raise DataError(damaged) from error
    if found != about or size != about["bytes"]:
        raise DataError(damaged)


def _mapped(path: Path) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nor is it written
        return torch.from_numpy(np.memmap(path, np.uint8, "r"))
