"""The image side of a model folder over any packed images, as analyses read it: batches, embeddings, activations.

Shapes: N images, B batch, D embedding, C channels.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from domix.activations.encode import encode, unit_embeddings
from domix.activations.store import SHARD, ActivationStore, StoreWriter, open_or_make
from domix.data.loading.image_cache import digest_of_images
from domix.data.loading.samples import Reader
from domix.data.mixtures.mixture import read_mixture
from domix.data.store.index import read_index
from domix.data.store.shards import ShardReader
from domix.embed.passes import PACKAGES, ComputeContext, kept_checkpoints
from domix.encoders.classifiers import load_any_classifier
from domix.encoders.crops import of_classifier_folder
from domix.encoders.cutting import cut_images
from domix.encoders.encoder import ImageEncoder, clip_encoder
from domix.encoders.preprocess import square
from domix.model.checkpoint import WEIGHTS, load_model, load_weights
from domix.model.classifier import build as build_classifier
from domix.model.clip import build as build_clip
from domix.model.clip import image_size
from domix.runs import SUPERVISED
from domix.runtime.ahead import ahead
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import DataError
from domix.runtime.files import digest_of, sha256_file


def open_run_model(folder: Path, kind: str, shards: Mapping[str, Path], context: ComputeContext) -> RunModel:
    """Load the model of a run's `folder`, and open the packed sources by name.

    Raises:
        DataError: a file is missing or damaged.
    """
    return RunModel(folder, kind, {name: ShardReader(home) for name, home in shards.items()}, context)


def training_images(mixture: Path, shards: Path) -> dict[str, pd.DataFrame]:
    """Return the rows of a mixture's images in the indices of their sources below `shards`, in the index's order.

    Raises:
        DataError: the mixture or an index is missing or damaged.
    """
    rows = {}
    for source, samples in read_mixture(mixture).rows.groupby("source"):
        index = read_index(shards / str(source))
        rows[str(source)] = index[index["row"].isin(samples["row"])].reset_index(drop=True)
    return rows


class RunModel:
    """A model trained here, and the packed sources whose images it reads.

    Attributes:
        encoder: the model, for all that is not a plain pass: sites, edits, gradients.
    """

    encoder: ImageEncoder

    def __init__(self, folder: Path, kind: str, readers: Mapping[str, Reader], context: ComputeContext) -> None:
        """Load the model of a `folder`, of a kind of runs (see domix.runs).

        Raises:
            DataError: a file of the model is missing or damaged.
        """
        self.folder, self.kind, self.readers, self.context = folder, kind, readers, context
        model, self._config = load_any_classifier(folder) if kind == SUPERVISED else load_model(folder)
        self.encoder = self._encoder(model)

    def initial(self, seed: int) -> ImageEncoder:
        """Return the model as its training began, with the weights that a run's seed draws."""
        return self._encoder(self._untrained(seed))

    def after(self, epochs: int) -> ImageEncoder:
        """Return the model with the weights that its training kept after so many epochs.

        Raises:
            DataError: none were kept then, or their file is damaged or another model's.
        """
        path = kept_checkpoints(self.folder).get(epochs)
        if path is None:
            raise DataError(f"{self.folder} keeps no weights after {epochs} epochs", remake=self.folder)
        model = self._untrained(0)
        load_weights(model, path)
        return self._encoder(model)

    def _untrained(self, seed: int) -> Any:
        if self.kind == SUPERVISED:
            return build_classifier(self._config["encoder"], outputs=len(self._config["classes"]), seed=seed)
        return build_clip(self._config["model"], seed=seed)

    def _encoder(self, model: Any) -> ImageEncoder:
        """Put an encoder around a CLIP model, or a classifier: its sites are those of its tower, as CLIP's are."""
        device = self.context.device
        if self.kind == SUPERVISED:
            preprocess = of_classifier_folder(self._config)
            return ImageEncoder(model, model.visual, preprocess, output="logits", device=device)
        return clip_encoder(model, square(image_size(self._config["model"])), device=device)

    def batches(self, source: str, rows: pd.DataFrame) -> Iterator[Tensor]:
        """Yield a source's images as the model reads them, uint8 [B, 3, H, W], in the order of `rows`.

        `rows` has the index's columns `row`, `key`, `height`, `width`. Images are read as those of the test split are.

        Raises:
            DataError: an image cannot be read.
        """
        read, batch = self.readers[source].read, self.context.batch

        def images(part: pd.DataFrame) -> Tensor:
            numbers = part["row"].tolist()
            return cut_images(
                lambda place: read(numbers[place]), part, self.encoder.preprocess, threads=self.context.threads
            )

        return ahead(images, [rows.iloc[start : start + batch] for start in range(0, len(rows), batch)])

    def embeddings(self, source: str, rows: pd.DataFrame) -> Iterator[NDArray[np.float32]]:
        """Yield the L2-normalised embeddings [B, D] of a source's images, in the order of `rows`; nothing is kept.

        Raises:
            DataError: an image cannot be read, or an embedding is not finite.
        """
        return unit_embeddings(self.encoder, self.batches(source, rows))

    def activations(
        self, source: str, rows: pd.DataFrame, sites: Sequence[str], *, every_position: bool = False
    ) -> ActivationStore:
        """Return the activations float16 of some sites over a source's images.

        They are kept in the context's cache by all that they depend on: made once, and gone on with after a kill.

        Args:
            source: whose images.
            rows: of them, with the index's columns `row` and those of samples.IDENTITY.
            sites: where they are read.
            every_position: a row a position, [N P, C]; else a row an image, averaged over positions, [N, C].

        Raises:
            DataError: the model lacks a site, gives values that are not finite, or an image cannot be read.
            DomixError: there is no room on the disk.
        """
        key = {
            "weights": sha256_file(self.folder / WEIGHTS),
            "source": source,
            "images": digest_of_images(rows),
            "preprocess": str(self.encoder.preprocess),
            "sites": list(sites),
            "every_position": every_position,
            "code": code_digest(__name__),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        }

        def make(writer: StoreWriter) -> None:
            images = self.batches(source, rows.iloc[writer.begin :])
            encode(self.encoder, images, [writer], first=writer.begin, pooled=not every_position)

        home = self.context.cache / "activations" / digest_of(**key)
        if not every_position:
            return open_or_make(home, sites, len(rows), key=key, make=make)
        positions = self._positions(sites)
        shard = max(1, SHARD // max(positions.values()))
        return open_or_make(home, sites, len(rows), key=key, make=make, shard=shard, positions=positions)

    def _positions(self, sites: Sequence[str]) -> dict[str, int]:
        """Return how many positions each site has in an image, by a pass of an empty one."""
        empty = torch.zeros(1, 3, *self.encoder.preprocess.size)
        return {name: rows.shape[1] for name, rows in self.encoder.forward(empty, sites, flat=True).sites.items()}
