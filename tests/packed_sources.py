"""Two small packed sources in several shards each, a mixture of some of their samples, and trainings on it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from domix.data.loading.image_sources import open_images
from domix.data.loading.images import ImageSet
from domix.data.loading.loader import Augmentation, Batch, Batches, Order
from domix.data.loading.samples import Opened, open_mixture, shard_numbers
from domix.data.mixtures.mixture import Mixture, write_mixture
from domix.data.store.index import make_index, shard_name, write_index
from domix.data.store.shards import ShardWriter, make_block
from domix.runtime.settings import replace
from domix.runtime.tables import write_table
from domix.train.clip_module import ClipTask
from domix.train.job import Job
from tests.tiny import CONFIG, TRAINER, split_changes

KINDS = {"web": "JPEG", "draw": "PNG"}  # source -> format of its images
COUNT, A_SHARD = 15, 3  # samples a source, samples a shard
AUGMENTATION = Augmentation(side=32, scale=(0.6, 1.0), ratio=(0.75, 1.3333), hflip=0.5)


def image(number: int) -> np.ndarray:
    """Return a smooth image of 33 to 48 pixels a side, uint8 [height, width, 3]."""
    generator = np.random.default_rng(number)
    height, width = generator.integers(33, 49, size=2)
    coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((int(width), int(height)), Image.Resampling.BICUBIC))


def encode(pixels: np.ndarray, kind: str) -> bytes:
    """Return an image file."""
    file = io.BytesIO()
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def write_sources(root: Path) -> None:
    """Write the sources, their captions and the mixture `tiny` below `root`, as the stages do below artifacts/."""
    rows, indices = [], {}
    for number, (source, kind) in enumerate(KINDS.items()):
        index = indices[source] = _write_shards(root / "shards" / source, source, kind, first=100 * number)
        texts = [f"image {row} of {source}" for row in index["row"]]
        captions = pd.DataFrame({"key": index["key"], "standard": texts, "aligned": texts})
        write_table(root / f"captions/{source}.parquet", captions)
        kept = [row for row in range(COUNT) if row % 5 != number]
        rows.append(pd.DataFrame({"source": source, "row": kept, "caption": "standard"}))
    mixture = Mixture(
        name="tiny",
        alias="tiny",
        standard_name="tiny",
        caption="standard",
        domains=("real",),
        held_out=None,
        parameters={"source": "draw"},
        samples={source: len(part) for source, part in zip(KINDS, rows, strict=True)},
        rows=pd.concat(rows, ignore_index=True),
    )
    write_mixture(root / "mixtures/tiny.parquet", mixture, indices)


def _write_shards(folder: Path, source: str, kind: str, *, first: int) -> pd.DataFrame:
    folder.mkdir(parents=True)
    described = []
    for shard in range(COUNT // A_SHARD):
        with ShardWriter(folder / shard_name(shard)) as writer:
            for row in range(shard * A_SHARD, (shard + 1) * A_SHARD):
                pixels = image(first + row)
                data = encode(pixels, kind)
                key = f"real/axe/{source}{row}"
                place = writer.add(make_block(key, "jpg" if kind == "JPEG" else "png", data, {}))
                described.append(
                    {"key": key, "source": source, "domain": "real", "class": "axe", "label": 0, "split": "train"}
                    | {"height": pixels.shape[0], "width": pixels.shape[1], "phash": "0" * 16}
                    | {"sha256": hashlib.sha256(data).hexdigest(), **place._asdict()}
                )
    index = make_index(described)
    write_index(folder, index)
    return index


def open_sources(root: Path, *, streamed: tuple[str, ...] = ()) -> Opened:
    """Open the mixture."""
    folders = {"shards": root / "shards", "captions": root / "captions"}
    return open_mixture(root / "mixtures/tiny.parquet", **folders, streamed=streamed)


def images_from(root: Path, loader: str, **changes: Any) -> ImageSet:
    """Return the mixture's images by way of a loader; `changes` are parameters of the trainer."""
    trainer = replace(TRAINER, loader=loader, **changes)
    opened = open_sources(root, streamed=tuple(trainer.streamed))
    return open_images(opened, trainer, cache=root / "cache", spool=root / "spool", threads=2)


def batches_of(root: Path, images: ImageSet, *, window: int | None = 2, **named: Any) -> Batches:
    """Return ten batches of eight samples."""
    opened = open_sources(root, streamed=tuple(KINDS))
    shards = torch.tensor(shard_numbers(opened.samples))
    order = Order(count=len(images), seed=0, shards=shards, window=window)
    tokens = torch.arange(len(images), dtype=torch.int32)[:, None]
    return Batches(images, tokens, AUGMENTATION, order, **{"batch": 8, "total": 10} | named)


def make_job(root: Path, **changes: Any) -> Job:
    """Return a training of 12 steps on the mixture; `changes` are parameters of the recipe or the trainer."""
    recipe, trainer = split_changes({"window": 2} | changes)
    opened = open_sources(root, streamed=tuple(trainer.streamed))
    images = open_images(opened, trainer, cache=root / "cache", spool=root / "spool", threads=2)
    task = ClipTask(name="tiny", config=CONFIG, recipe=recipe, captions=opened.samples["text"].tolist())
    shards = shard_numbers(opened.samples)
    return Job(task=task, recipe=recipe, trainer=trainer, seed=0, images=images, shards=shards)


def equal(one: Batch, other: Batch) -> bool:
    """Tell whether two batches are the same to the last bit."""
    return one.step == other.step and all(torch.equal(a, b) for a, b in zip(one[1:], other[1:], strict=True))
