"""Embeddings of any packed pictures by a trained CLIP, a batch at a time: nothing is kept.

Shapes: N pictures, B batch, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.data.decoded_batches import read_batches
from domix.data.shards import ShardReader
from domix.evaluate.image_tower import DIVERGED
from domix.runtime.errors import DataError


class Encoder:
    """The image tower of a model folder, and the packed sources whose pictures it reads."""

    def __init__(
        self, folder: Path, readers: Mapping[str, ShardReader], *, batch: int, device: str = "cpu", threads: int = 1
    ) -> None:
        """Load the model.

        Raises:
            DataError: a file of the model is missing or damaged.
        """
        import torch

        from domix.model.checkpoint import load_model
        from domix.model.clip import image_size

        model, config = load_model(folder)
        self.model = model.to(memory_format=torch.channels_last).to(device).eval()
        self.size = image_size(config["model"])
        self.readers, self.batch, self.device, self.threads = readers, batch, device, threads

    def batches(self, source: str, rows: pd.DataFrame) -> Iterator[NDArray[np.float32]]:
        """Yield the L2-normalised embeddings [B, D] of a source's pictures, `batch` at a time, in the order of `rows`.

        `rows` has the index's columns `row`, `key`, `height`, `width`. Pictures are read as `embed` reads those of the
        test split.

        Raises:
            DataError: a picture cannot be read, or an embedding is not finite.
        """
        import torch
        from torch.nn import functional as F

        from domix.data.augment import centre_boxes, crop_resize, normalise

        coming = read_batches(self.readers[source], rows, batch=self.batch, threads=self.threads)
        for pictures, sizes in coming:
            with torch.inference_mode():
                inputs = normalise(crop_resize(pictures.to(self.device), centre_boxes(sizes), self.size))
                image = F.normalize(self.model.encode_image(inputs).float(), dim=-1).cpu().numpy()
            if not np.isfinite(image).all():
                raise DataError(f"the model gives picture embeddings that are not finite: {DIVERGED}")
            yield image

    def all(self, source: str, rows: pd.DataFrame) -> NDArray[np.float32]:
        """Return the embeddings of at least one picture together: [N, D]."""
        return np.concatenate(list(self.batches(source, rows)))
