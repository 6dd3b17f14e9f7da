"""What one model makes of a set of images, and of prompts, outside of any run: kept in the cache, made once.

Shapes: N images, K classes, D features or embedding.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domix.activations.encode import encode
from domix.activations.reducers import Outputs
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


def embed_images(model: FeatureModel, what: EvaluationSet, context: ComputeContext) -> NDArray[np.float32]:
    """Return the features of a set's images, at length 1 where the model's are, in the order of its rows [N, D].

    Raises:
        DataError: a packed image is missing or damaged, or the model's training has diverged.
        DomixError: there is no room on the disk.
    """
    preprocess = model.encoder.preprocess
    with passing(data=what.shards), ShardReader(what.shards) as reader:
        images = open_images(context.cache / "evaluation", reader, what.rows, preprocess, threads=context.threads)

    def make(folder: Path) -> None:
        gives = f"model gives {model.encoder.what}"
        outputs = Outputs(folder / "image.npy", len(what.rows), gives=gives, unit=model.unit)
        encode(model.encoder, images.batches(context.batch), [outputs])
        outputs.result()

    seen = {"mean": list(preprocess.mean), "std": list(preprocess.std), "images": images.digest}
    home = _kept(context).open(_key("image", model.about, **seen), make, what=f"features of {what.source}")
    return np.load(home / "image.npy")


def embed_classes(
    subject: ClipSubject, prompts: Sequence[Sequence[str]], context: ComputeContext
) -> NDArray[np.float32]:
    """Return one prototype at length 1 for the prompts of each class [K, D].

    Raises:
        DataError: an embedding is not finite.
    """

    def make(folder: Path) -> None:
        np.save(folder / "text.npy", class_prototypes(subject.model, subject.tokenizer, prompts, device=context.device))

    about = {"weights": subject.sha256, "model": dict(subject.about)}
    key = _key("text", about, prompts=digest_of(prompts=[list(texts) for texts in prompts]))
    return np.load(_kept(context).open(key, make, what="prototypes") / "text.npy")


def _kept(context: ComputeContext) -> Kept:
    return Kept(context.cache / "embeddings")


def _key(what: str, about: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"what": f"{what} of a set", "code": code_digest(__name__), "versions": versions} | dict(about) | parts
