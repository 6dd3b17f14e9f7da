"""Images decoded batch by batch, in the order asked for, one batch ahead of whoever reads them.

Shapes: B batch, H x W the largest image of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

from domix.data.loading.samples import Reader, sizes_of
from domix.runtime.ahead import ahead

if TYPE_CHECKING:
    from torch import Tensor


def read_batches(reader: Reader, rows: pd.DataFrame, *, batch: int, threads: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Read and decode the images of `rows` (the index's columns `row`, `key`, `height`, `width`), `batch` at a time.

    Yields:
        Images uint8 [B, 3, H, W], padded at the bottom and right, and their sizes int64 [B, 2] (height, width).
    """
    parts = [rows.iloc[start : start + batch] for start in range(0, len(rows), batch)]
    return ahead(lambda part: read_batch(reader, part, threads=threads), parts)


def read_batch(reader: Reader, rows: pd.DataFrame, *, threads: int) -> tuple[Tensor, Tensor]:
    """Return the images of `rows` and their sizes, as `read_batches` yields them."""
    import torch

    from domix.data.loading.images import Images

    numbers, sizes = rows["row"].tolist(), sizes_of(rows)
    images = Images.decode(lambda place: reader.read(numbers[place]), rows["key"].tolist(), sizes, threads=threads)
    return images.cut(torch.arange(len(rows))), sizes
