"""Images decoded once into a file that all processes of a machine, and all trainings, read by mapping it into memory.

<folder>/<digest>/pixels.bin     the images of a packed source, uint8 [3, height, width] each, in index order

The digest stands for the source's images and the code that decodes them, so a source that is packed anew gets a file
of its own (domix.runtime.kept). The operating system keeps what is read often in memory, once for all processes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pandas.util import hash_pandas_object
from torch import Tensor

from domix.data.loading.decode import decode_all
from domix.data.loading.images import Images
from domix.data.loading.samples import IDENTITY, sizes_of
from domix.runtime.code_digest import code_digest
from domix.runtime.kept import Kept

PIXELS = "pixels.bin"

logger = logging.getLogger(__name__)


def open_cache(folder: Path, index: pd.DataFrame, read: Callable[[int], bytes], *, threads: int) -> Images:
    """Return the images of a packed source, in the order of `index`; decode them first where no process ever has.

    Args:
        folder: holds the decoded sources of this machine.
        index: the source's, whole; its columns of IDENTITY.
        read: returns the image file of a row.
        threads: that decode.

    Raises:
        DataError: an image is missing or damaged.
        DomixError: there is no room for them, or the folder cannot be written.
    """
    sizes, names = sizes_of(index), index["key"].tolist()
    key = {"images": digest_of_images(index), "code": code_digest(__name__)}

    def decode(home: Path) -> None:
        _decode(home / PIXELS, sizes, read, names, threads)

    home = Kept(folder, by_content=False).open(key, decode, what="set of decoded images")
    return Images(sizes, _mapped(home / PIXELS))


def digest_of_images(index: pd.DataFrame) -> str:
    """Return a digest of a source's images, in order."""
    hashes = hash_pandas_object(index[IDENTITY], index=False)  # ty: ignore[not-callable] (pandas types it late)
    return hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest()


def _decode(path: Path, sizes: Tensor, read: Callable[[int], bytes], names: list[str], threads: int) -> None:
    nbytes = int(sizes.prod(dim=1).sum()) * 3
    logger.info("decoding %d images, %.1f GB, once for all trainings: %s", len(sizes), nbytes / 1e9, path.parent)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, nbytes)  # a full disk is told here, not by SIGBUS while decoding
    pixels = np.memmap(path, np.uint8, "r+")
    images = Images(sizes, torch.from_numpy(pixels))
    decode_all(read, names, sizes, lambda row, image: images[row].copy_(image), threads=threads)
    pixels.flush()


def _mapped(path: Path) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nor is it written
        return torch.from_numpy(np.memmap(path, np.uint8, "r"))
