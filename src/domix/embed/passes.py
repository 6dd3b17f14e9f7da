"""All weights of one model over all sets of images: each set decoded once, each result made once.

The weights pass through one instance of the model, one after the other. What comes of a set and weights is kept by all
that it depends on (domix.runtime.kept): weights, configuration, images, prompts, and the code that computes it; not
by batches and devices, which move results by no more than rounding.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import math
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import DTypeLike, NDArray
from torch import nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from domix.data.store.index import INDEX
from domix.data.store.shards import ShardReader
from domix.embed.embeddings import CHECKPOINTS, SETS, checkpoint_name, write_about
from domix.embed.evaluation_images import EvaluationImages, open_images
from domix.embed.evaluation_sets import EvaluationSet, further_set, ood_set, study_set
from domix.encoders.preprocess import Preprocess
from domix.model.checkpoint import fill, load_tensors
from domix.runtime.arrays import new_array
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import DataError, passing
from domix.runtime.files import atomic_folder, sha256_file
from domix.runtime.kept import Kept

PACKAGES = ("torch", "open_clip_torch", "timm")  # of which results depend on the versions

Advance = Callable[[int], object]  # told how many more images are done

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComputeContext:
    """By what means models are run, which moves results by no more than rounding."""

    cache: Path  # holds what outlives runs: images in evaluation/, results in embeddings/
    batch: int  # images a step
    device: str = "cpu"
    threads: int = 1  # that decode


def here(cache: Path, batch: int) -> ComputeContext:
    """Return the means of this machine: its GPU if it has one, and a thread a core."""
    return ComputeContext(cache, batch, "cuda" if torch.cuda.is_available() else "cpu", os.cpu_count() or 1)


@dataclass(frozen=True)
class Weights:
    """Weights of the model."""

    sha256: str  # of their file
    path: Path | None  # None: the model holds them from the start
    last: bool  # at the end of training


@dataclass(frozen=True)
class Opened:
    """A set of images, ready to be read by the model."""

    what: EvaluationSet
    images: EvaluationImages


@dataclass(frozen=True)
class Job:
    """One result to be made, or found: the files that `make` writes."""

    key: dict[str, Any]
    out: Path
    make: Callable[[Path, Advance], None]
    images: int = 0  # that it reads
    array: str = ""  # the file with what it makes of the images


class Passes(ABC):
    """One instance of a model, through which all its weights pass."""

    def __init__(
        self, model: nn.Module, about: Mapping[str, Any], sha256: str, preprocess: Preprocess, means: ComputeContext
    ) -> None:
        """Take a model that holds its last weights; `about` is all, as JSON, that it is built from."""
        self.about, self.sha256, self.preprocess, self.means = about, sha256, preprocess, means
        self.kept = Kept(means.cache / "embeddings")
        self._instance, self._held = model, sha256
        self._made_by = {
            "code": code_digest(type(self).__module__),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        }

    @abstractmethod
    def jobs(self, opened: Opened, weights: Weights, out: Path, *, of_study: bool) -> list[Job]:
        """Return what is to be made with some weights of a set of images, in `out`."""

    @abstractmethod
    def meta(self, opened: Opened, out: Path, *, of_study: bool) -> dict[str, Any]:
        """Return what meta.json says of a set, after what it says of all."""

    def run(
        self,
        folder: Path,
        *,
        study: Path,
        sets: Sequence[Path],
        ood: Mapping[Path, str | None],
        checkpoints: Mapping[int, Path],
        epochs: int | None,
    ) -> None:
        """Write a run's `folder`: the last weights and the `checkpoints` on all sets of images.

        After how many `epochs` the last weights came is written with them: where one of the checkpoints has the same
        weights, as many as its.
        """
        main = self._open(study_set(study))
        others = [self._open(further_set(shards)) for shards in sets]
        others += [self._open(ood_set(shards, main.what, group)) for shards, group in ood.items()]
        with atomic_folder(folder) as temporary:
            places = [(main, temporary)] + [(other, temporary / SETS / other.what.source) for other in others]
            last = Weights(self.sha256, None, last=True)
            jobs = [job for opened, out in places for job in self.jobs(opened, last, out, of_study=opened is main)]
            for epoch, path in sorted(checkpoints.items()):
                weights = Weights(sha256_file(path), path, last=False)
                epochs = epoch if weights.sha256 == self.sha256 else epochs
                for opened, home in places:
                    out = home / CHECKPOINTS / checkpoint_name(epoch)
                    more = self.jobs(opened, weights, out, of_study=opened is main)
                    jobs += [_from_the_last(job, home) for job in more] if weights.sha256 == self.sha256 else more
            self._do(jobs, folder.name)
            for opened, out in places:
                about: dict[str, Any] = {
                    "model_sha256": self.sha256,
                    "index_sha256": sha256_file(opened.what.shards / INDEX),
                    "source": opened.what.source,
                    "transform": str(self.preprocess),
                }
                meta = about | ({"epochs": epochs} if opened is main else {})
                meta |= self.meta(opened, out, of_study=opened is main)
                meta |= {"groups": opened.what.groups} if opened.what.groups is not None else {}
                write_about(out, opened.what.rows, meta)

    def _open(self, what: EvaluationSet) -> Opened:
        with (
            passing(data=what.shards),
            ShardReader(what.shards) as reader,
            _bar(len(what.rows), f"decode {what.source}") as advance,
        ):
            folder, threads = self.means.cache / "evaluation", self.means.threads
            return Opened(
                what, open_images(folder, reader, what.rows, self.preprocess, threads=threads, advance=advance)
            )

    def _do(self, jobs: Sequence[Job], name: str) -> None:
        new = [job for job in jobs if not self.kept.has(job.key)]
        logger.info("%s: %d of %d results are to be made, the others are kept", name, len(new), len(jobs))
        with _bar(sum(job.images for job in new), name) as advance:
            for job in jobs:
                job.out.mkdir(parents=True, exist_ok=True)
                self.kept.give(job.key, job.out, lambda path, job=job: job.make(path, advance))

    def key(self, what: str, weights: Weights, **parts: Any) -> dict[str, Any]:
        """Return the key of a result: what it is, and all that it depends on."""
        return {"what": what, "weights": weights.sha256, "model": dict(self.about)} | parts | self._made_by

    def seen(self, opened: Opened) -> dict[str, Any]:
        """Return the part of a key that says what the model sees."""
        return {"images": opened.images.digest, "mean": list(self.preprocess.mean), "std": list(self.preprocess.std)}

    def hold(self, weights: Weights) -> None:
        """Put weights into the model, if it holds others.

        Raises:
            DataError: they are missing, damaged or another model's.
        """
        if weights.sha256 == self._held:
            return
        assert weights.path is not None, "the last weights come first"
        logger.info("on to the weights %s", weights.path)
        fill(self._instance, load_tensors(weights.path), f"the weights {weights.path} are", remake=weights.path)
        self._held = weights.sha256


def _from_the_last(job: Job, folder: Path) -> Job:
    """Return a job on the last weights' images that takes what it makes from their `folder`, in half precision."""
    if not job.images:
        return job

    def make(path: Path, advance: Advance) -> None:
        last = np.load(folder / job.array, mmap_mode="r")
        write_batches(path / job.array, iter([last]), len(last), np.float16, lambda count: None)

    return replace(job, make=make, images=0)


def write_batches(
    path: Path, batches: Iterator[NDArray[np.float32]], count: int, dtype: DTypeLike, advance: Advance
) -> None:
    """Write `count` rows, which come in batches of equal width, to an .npy file."""
    rows, done = None, 0
    for batch in batches:
        rows = new_array(path, (count, batch.shape[1]), dtype) if rows is None else rows
        rows[done : done + len(batch)] = batch
        done += len(batch)
        advance(len(batch))
    assert rows is not None, "a set has images"
    rows.flush()


@contextlib.contextmanager
def _bar(total: int, name: str) -> Generator[Advance]:
    """Show a bar on stderr, counted in images; nothing where stderr is no terminal. The log's lines go above it."""
    options = {"unit": " images", "unit_scale": True, "leave": False, "disable": None}
    with logging_redirect_tqdm(), tqdm(total=total, desc=name, file=sys.stderr, **options) as bar:
        yield bar.update


def kept_checkpoints(model: Path) -> dict[int, Path]:
    """Return the checkpoints in a model folder: epochs -> a file with the weights after as many."""
    paths = (model / "checkpoints").glob("epoch_*.safetensors")
    return {int(path.stem.removeprefix("epoch_")): path for path in sorted(paths)}


def trained_epochs(model: Path) -> int | None:
    """Return after how many epochs the weights of a model folder came, one that was begun counted whole.

    An epoch ends with the first step that has seen all its samples. None where the folder has no log of a training.

    Raises:
        DataError: the log is damaged.
    """
    path = model / "log.csv"
    if not path.is_file():
        return None
    try:
        last = pd.read_csv(path, usecols=["step", "epoch"]).iloc[-1]
        step, epoch = float(last["step"]), float(last["epoch"])
    except (ValueError, IndexError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path} is damaged ({' '.join(str(error).split())})", remake=path) from None
    return int(epoch) if epoch - int(epoch) < epoch / step else math.ceil(epoch)
