"""Embeddings of any packed images by a trained CLIP, a batch at a time: nothing is kept.

Shapes: N images, B batch, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.data.store.shards import ShardReader
from domix.runtime.ahead import ahead

if TYPE_CHECKING:
    from torch import Tensor


class SourceEncoder:
    """The image side of a model folder, and the packed sources whose images it reads."""

    def __init__(
        self, folder: Path, readers: Mapping[str, ShardReader], *, batch: int, device: str = "cpu", threads: int = 1
    ) -> None:
        """Load the model.

        Raises:
            DataError: a file of the model is missing or damaged.
        """
        from domix.encoders.encoder import clip_encoder
        from domix.encoders.preprocess import square
        from domix.model.checkpoint import load_model
        from domix.model.clip import image_size

        model, config = load_model(folder)
        self.encoder = clip_encoder(model, square(image_size(config["model"])), device=device)
        self.readers, self.batch, self.threads = readers, batch, threads

    def batches(self, source: str, rows: pd.DataFrame) -> Iterator[NDArray[np.float32]]:
        """Yield the L2-normalised embeddings [B, D] of a source's images, `batch` at a time, in the order of `rows`.

        `rows` has the index's columns `row`, `key`, `height`, `width`. Images are read as `embed` reads those of the
        test split.

        Raises:
            DataError: an image cannot be read, or an embedding is not finite.
        """
        from domix.activations.encode import unit_embeddings
        from domix.encoders.cutting import cut_images

        reader = self.readers[source]

        def images(part: pd.DataFrame) -> Tensor:
            numbers = part["row"].tolist()
            return cut_images(
                lambda place: reader.read(numbers[place]), part, self.encoder.preprocess, threads=self.threads
            )

        parts = [rows.iloc[start : start + self.batch] for start in range(0, len(rows), self.batch)]
        return unit_embeddings(self.encoder, ahead(images, parts))

    def all(self, source: str, rows: pd.DataFrame) -> NDArray[np.float32]:
        """Return the embeddings of at least one image together: [N, D]."""
        return np.concatenate(list(self.batches(source, rows)))
