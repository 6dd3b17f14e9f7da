"""Arrays that are written to a file piece by piece, and never stand in memory whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

BLOCK = 4096  # rows that are worked on at a time, so that their products fit into memory


def new_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> np.memmap[Any, Any]:
    """Create an .npy file and map it into memory, to be written.

    Its room on the disk is taken at once: a full disk is an OSError here, not a SIGBUS while writing.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, os.fstat(file.fileno()).st_size))
    return array
