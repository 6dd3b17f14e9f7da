"""Where a training's images come from: memory, a mapped file, shards, or shards that are fetched."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pandas as pd
import torch

from domix.data.loading.image_cache import open_cache
from domix.data.loading.images import ImageSet, Selection
from domix.data.loading.object_store import check_url
from domix.data.loading.packed_images import PackedImages
from domix.data.loading.samples import Opened, Reader, decode, sizes_of
from domix.data.loading.spool import Spool, SpooledReader, remotes
from domix.runtime.errors import ParameterError
from domix.runtime.memory import free_memory

logger = logging.getLogger(__name__)


class Loading(Protocol):
    """Which loader a training is to use, and how: keys of the trainer's settings."""

    @property
    def loader(self) -> str:
        """The loader, or auto."""

    @property
    def devices(self) -> int:
        """Devices of this machine, with a process each."""

    @property
    def decode(self) -> str:
        """Who decodes JPEG files: cpu or gpu."""

    @property
    def shards(self) -> Mapping[str, str]:
        """Source -> URL prefix below which its shards lie."""


def open_images(opened: Opened, trainer: Loading, *, cache: Path, spool: Path, threads: int) -> ImageSet:
    """Return the images of a mixture's samples, from where `trainer.loader` says.

    Args:
        opened: the mixture; opened as `trainer.streamed`.
        trainer: which loader, and what it is to do.
        cache: folder for decoded images, shared by all trainings on this machine.
        spool: folder for shards that are fetched.
        threads: that decode, over all processes of this machine.

    Raises:
        DataError: an image is missing or damaged, of those that are decoded at once.
        ParameterError: a source's URL cannot be used.
        DomixError: a folder cannot be written.
    """
    samples = opened.samples
    loader = choose_loader(trainer.loader, int(sizes_of(samples).prod(dim=1).sum()) * 3, processes=trainer.devices)
    encoded = trainer.decode == "gpu"
    own = max(1, threads // trainer.devices)
    match loader:
        case "resident":
            return decode(samples, opened.readers, threads=own)
        case "cache":
            return _cached(opened, cache, threads)  # one process decodes for all
        case "stream":
            return _streamed(opened, trainer.shards, spool, threads=own, encoded=encoded)
        case _:
            return PackedImages(samples, opened.readers, threads=own, encoded=encoded)


def choose_loader(loader: str, nbytes: int, *, processes: int, free: int | None = None) -> str:
    """Decide `auto`, for images of `nbytes` in all and `processes` on this machine; say what was chosen.

    One process keeps images in memory if half of the free memory (`free`, else measured) holds them; several share
    the mapped file, which the system keeps there just once. Images that are too many are decoded as they are needed.
    """
    if loader != "auto":
        return loader
    free = free_memory() if free is None else free
    fits = nbytes <= free / 2
    chosen = "shards" if not fits else "resident" if processes == 1 else "cache"
    logger.info("trainer.loader: %s (%.1f GB of images, %.1f GB of memory free)", chosen, nbytes / 1e9, free / 1e9)
    return chosen


def _cached(opened: Opened, folder: Path, threads: int) -> Selection:
    source, names = pd.factorize(opened.samples["source"])
    parts = [open_cache(folder, opened.indices[name], opened.readers[name].read, threads=threads) for name in names]
    return Selection(parts, torch.from_numpy(source), torch.tensor(opened.samples["row"].to_numpy()))


def _streamed(opened: Opened, urls: Mapping[str, str], folder: Path, *, threads: int, encoded: bool) -> PackedImages:
    if not urls:
        raise ParameterError(
            "trainer.loader is stream, but trainer.shards names no source: give it a URL, or set shards"
        )
    for url in urls.values():
        check_url(url)
    folders = opened.folders
    spool = Spool(folder, remotes(opened.samples, urls, folders))
    readers: dict[str, Reader] = {
        name: SpooledReader(folders[name], name, spool) if name in urls else opened.readers[name] for name in folders
    }
    return PackedImages(opened.samples, readers, threads=threads, encoded=encoded, spool=spool)
