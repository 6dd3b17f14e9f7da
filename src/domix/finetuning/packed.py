"""Packed images with their labels, as a fine-tuning reads them."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from domix.data.loading.image_sources import choose_loader
from domix.data.loading.images import ImageSet
from domix.data.loading.packed_images import PackedImages
from domix.data.loading.samples import Reader, decode, sizes_of


def open_labelled(rows: pd.DataFrame, reader: Reader, *, threads: int) -> tuple[ImageSet, Tensor]:
    """Return the images of some rows of a packed source, and their labels int64 [N].

    They are decoded into memory if half of what is free holds them, else as they are needed.

    Args:
        rows: of the index; columns `row`, `key`, `height`, `width`, `label`.
        reader: of the source.
        threads: that decode.

    Raises:
        DataError: an image is missing or damaged, of those that are decoded at once.
    """
    labels = torch.from_numpy(rows["label"].to_numpy("int64", copy=True))
    samples, readers = rows.assign(source=""), {"": reader}
    if rows.empty or choose_loader("auto", int(sizes_of(samples).prod(dim=1).sum()) * 3, processes=1) == "resident":
        return decode(samples, readers, threads=threads), labels
    return PackedImages(samples, readers, threads=threads), labels
