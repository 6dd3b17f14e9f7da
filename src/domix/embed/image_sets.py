"""What one model makes of a set of images, and of prompts, outside of any run: kept in the cache, made once.

Shapes: N images, K classes, D features or embedding.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.activations.encode import encode
from domix.activations.reducers import Outputs
from domix.data.loading.samples import Reader
from domix.data.store.shards import ShardReader
from domix.embed.clip import ClipSubject
from domix.embed.evaluation_images import open_images
from domix.embed.evaluation_sets import EvaluationSet
from domix.embed.feature_model import FeatureModel
from domix.embed.passes import PACKAGES, ComputeContext
from domix.embed.text_tower import class_prototypes
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import passing
from domix.runtime.files import digest_of
from domix.runtime.kept import Kept

PIXELS = 32 * 224 * 224  # of a batch on a CPU
PROMPTS = 4096  # encoded between two steps of progress: of that many, those of one length fill batches


def embed_images(
    model: FeatureModel,
    what: EvaluationSet,
    context: ComputeContext,
    *,
    advance: Callable[[int], object] = lambda count: None,
) -> NDArray[np.float32]:
    """Return the features of a set's images, as `embed_rows` does."""
    with passing(data=what.shards), ShardReader(what.shards) as reader:
        return embed_rows(model, reader, what.rows, context, name=what.source, advance=advance)


def embed_rows(
    model: FeatureModel,
    reader: Reader,
    rows: pd.DataFrame,
    context: ComputeContext,
    *,
    name: str,
    advance: Callable[[int], object] = lambda count: None,
) -> NDArray[np.float32]:
    """Return the features of images, at length 1 where the model's are, in the order of their rows [N, D].

    Args:
        model: of the features.
        reader: of the image files.
        rows: of an index: `row` and those of samples.IDENTITY.
        context: where images and features are kept, and what computes.
        name: of the images, for the log.
        advance: told how many more images are done, all at once where they are kept.

    Raises:
        DataError: an image is missing or damaged, or the model's training has diverged.
        DomixError: there is no room on the disk.
    """
    preprocess = model.encoder.preprocess
    images = open_images(context.cache / "evaluation", reader, rows, preprocess, threads=context.threads)
    told = 0

    def count(more: int) -> None:
        nonlocal told
        told += more
        advance(more)

    def make(folder: Path) -> None:
        gives = f"model gives {model.encoder.what}"
        outputs = Outputs(folder / "image.npy", len(rows), gives=gives, unit=model.unit, advance=count)
        encode(model.encoder, images.batches(batch_of(model, context)), [outputs])
        outputs.result()

    seen = {"mean": list(preprocess.mean), "std": list(preprocess.std), "images": images.digest}
    home = _kept(context).open(_key("image", model.about, **seen), make, what=f"features of {name}")
    advance(len(rows) - told)
    return np.load(home / "image.npy")


def batch_of(model: FeatureModel, context: ComputeContext) -> int:
    """Return how many images a step takes: on a CPU as many as `PIXELS` are, for larger batches only take memory."""
    height, width = model.encoder.preprocess.size
    return context.batch if context.device != "cpu" else max(1, min(context.batch, PIXELS // (height * width)))


def embed_classes(
    subject: ClipSubject,
    prompts: Sequence[Sequence[str]],
    context: ComputeContext,
    *,
    advance: Callable[[int], object] = lambda count: None,
) -> NDArray[np.float32]:
    """Return one prototype at length 1 for the prompts of each class [K, D].

    Args:
        subject: of the text tower.
        prompts: of each class.
        context: where prototypes are kept, and what computes.
        advance: told how many more prompts are done, all at once where they are kept.

    Raises:
        DataError: an embedding is not finite.
    """
    total = sum(len(texts) for texts in prompts)
    told = 0

    def make(folder: Path) -> None:
        nonlocal told
        classes, parts = max(1, PROMPTS * len(prompts) // max(1, total)), []
        for start in range(0, len(prompts), classes):
            some = prompts[start : start + classes]
            parts.append(class_prototypes(subject.model, subject.tokenizer, some, device=context.device))
            told += (more := sum(len(texts) for texts in some))
            advance(more)
        np.save(folder / "text.npy", np.concatenate(parts))

    about = {"weights": subject.sha256, "model": dict(subject.about)}
    key = _key("text", about, prompts=digest_of(prompts=[list(texts) for texts in prompts]))
    home = _kept(context).open(key, make, what="prototypes")
    advance(total - told)
    return np.load(home / "text.npy")


def _kept(context: ComputeContext) -> Kept:
    return Kept(context.cache / "embeddings")


def _key(what: str, about: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"what": f"{what} of a set", "code": code_digest(__name__), "versions": versions} | dict(about) | parts
