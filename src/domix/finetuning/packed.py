"""Packed images with their labels, as a fine-tuning reads them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from domix.data.loading.decode import decode_rgb
from domix.data.loading.image_sources import choose_loader
from domix.data.loading.images import ImageSet
from domix.data.loading.packed_images import PackedImages
from domix.data.loading.samples import Reader, decode, sizes_of
from domix.runtime.seeds import numpy_generator


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


class LabelledImages:
    """Images of some rows of a packed source, whole, with their labels: decoded each time that they are asked for."""

    def __init__(self, rows: pd.DataFrame, reader: Reader) -> None:
        """Read the images of `rows`: columns `row`, `key`, `label` of the index."""
        self._rows, self._keys = rows["row"].tolist(), rows["key"].tolist()
        self.labels, self._reader = rows["label"].tolist(), reader

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Image.Image, int]:
        """Return an RGB image and its label.

        Raises:
            DataError: the image is missing or damaged.
        """
        pixels = decode_rgb(self._reader.read(self._rows[place]), self._keys[place])
        return Image.fromarray(pixels), self.labels[place]


def hold_out(rows: pd.DataFrame, share: float, *, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide labelled images into those for training and those that a checkpoint is chosen by, by class.

    Of each class of n images `share` n are held out, rounded half up, but one at least and never all; of a class of one
    image none.

    Args:
        rows: of an index: column `label`.
        share: above 0 and below 1.
        seed: of the choice.

    Returns:
        Both in the order of `rows`.
    """
    held = np.zeros(len(rows), dtype=bool)
    labels = rows["label"].to_numpy()
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        count = min(max(1, int(share * len(mine) + 0.5)), len(mine) - 1)
        held[numpy_generator(seed, "validation", int(label)).permutation(mine)[:count]] = True
    return rows[~held].reset_index(drop=True), rows[held].reset_index(drop=True)
