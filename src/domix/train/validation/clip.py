"""Measurements on test images while CLIP trains: curves to watch, no part of the results.

On images of cells that the mixture shows, with their captions: the contrastive loss of all of them as one batch, and
retrieval, in which captions that read alike count as one, and as a hit for every image that they belong to. On them
and on images of the test cells: zero-shot accuracy with one template, among all classes of the multi-domain source,
and of the test cells also among the test classes alone, as in the study's evaluation. How a number is defined:
docs/tracking.md.

The model is left as it was: weights, running statistics, random numbers, gradients.

Shapes: N images, D embedding, U distinct captions, K classes, B images or captions of one pass.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domix.data.classes.names import class_text
from domix.evaluate.metrics import accuracy, balanced_accuracy
from domix.evaluate.zeroshot import rank_true
from domix.model import clip
from domix.model.loss import contrastive_loss
from domix.model.tokens import tokenise
from domix.train.machine import Precision, choose
from domix.train.session import Row, Validator
from domix.train.validation.measuring import BATCH, apply, evaluating, lowered
from domix.train.validation.subsets import Subset, captions_of, choose_held_out, choose_seen, class_names, prepare

if TYPE_CHECKING:
    from domix.data.loading.samples import Opened
    from domix.train.job import Job
    from domix.train.settings import Validation as Settings

PLACES = (1, 5, 10)  # k of R@k


def make_validator(opened: Opened, captions: Path, job: Job, settings: Settings) -> Validator | None:
    """Return what measures a training on `opened`, the folder of whose sources' captions is `captions`.

    None where `settings` ask for none, or the sources have no test images. `opened` was read with subsets.COLUMNS.
    """
    if settings.every is None:
        return None
    mixture = opened.mixture
    rows = choose_seen(opened, settings.images, job.seed)
    machine: dict[str, Any] = {"size": job.task.size, "threads": os.cpu_count() or 1}
    texts = captions_of(rows, captions, mixture.caption) if len(rows) else None
    seen = prepare(rows, opened.readers, captions=texts, **machine)
    held_out = prepare(choose_held_out(opened, settings.images, job.seed), opened.readers, **machine)
    if seen is None and held_out is None:
        return None
    classes = class_names(opened)
    validation = Validation(
        job.task.describe()["model"],
        seen,
        held_out,
        prompts=[settings.template.replace("{}", class_text(name)) for name in classes],
        test_labels=np.flatnonzero(np.isin(classes, mixture.parameters.get("test_classes", []))),
        precision=choose(job.trainer).precision,
        channels_last=job.trainer.channels_last,
    )
    return Validator(settings.every, validation.measure)


class Validation:
    """What a model is measured on, made ready once."""

    def __init__(
        self,
        config: dict[str, Any],
        seen: Subset | None,
        held_out: Subset | None,
        *,
        prompts: Sequence[str],
        test_labels: NDArray[np.int64],
        precision: Precision = "32-true",
        channels_last: bool = False,
    ) -> None:
        """Measure models of open_clip's configuration `config`.

        Args:
            seen, held out: images; None: there are none.
            prompts: K of them, one a class, in label order; none: no zero-shot accuracy.
            test_labels: rising labels of the test classes.
            precision: with which the towers compute.
        """
        self.config, self.seen, self.held_out = config, seen, held_out
        self.test_labels, self.precision, self.channels_last = test_labels, precision, channels_last
        captions = seen.captions or [] if seen else []
        self._texts = list(dict.fromkeys([*captions, *prompts]))  # each is encoded once
        place = {text: number for number, text in enumerate(self._texts)}
        self._captions = np.array([place[text] for text in captions], dtype=np.int64)
        self._prompts = np.array([place[text] for text in prompts], dtype=np.int64)
        self._tokens = tokenise(clip.tokenizer(config), self._texts) if self._texts else None

    def measure(self, model: Any) -> Row:
        """Return the measurements; one that is not finite is left out."""
        row: Row = {}
        with evaluating(model), torch.no_grad(), lowered(model, self.precision):
            text = self._encode_texts(model)
            if self.seen is not None:
                image = self._encode_images(model, self.seen.images)
                row |= {"n_seen": len(image)}
                if text is not None and len(self._captions):
                    row |= {"loss": self._loss(model, image, text)}
                    row |= retrieval(_unit(image), _unit(text), self._captions)
                row |= {f"seen_{name}": value for name, value in self._zero_shot(self.seen, image, text).items()}
            if self.held_out is not None:
                image = self._encode_images(model, self.held_out.images)
                found = self._zero_shot(self.held_out, image, text, among_test=True)
                row |= {"n_held_out": len(image)} | {f"held_out_{name}": value for name, value in found.items()}
        return {name: value for name, value in row.items() if math.isfinite(value)}

    def _encode_images(self, model: Any, images: Tensor) -> Tensor:
        """Return features float32 [N, D], not normalised."""
        return apply(model.encode_image, images, model, channels_last=self.channels_last)

    def _encode_texts(self, model: Any) -> Tensor | None:
        """Return features float32 of all distinct captions and prompts, not normalised."""
        if self._tokens is None:
            return None
        tokens = clip.shortest_context(model, self._tokens).to(next(model.parameters()).device)
        return torch.cat([clip.encode_text(model, some).float() for some in tokens.split(BATCH)])

    def _loss(self, model: Any, image: Tensor, text: Tensor) -> float:
        matching = text[torch.from_numpy(self._captions).to(text.device)]
        return contrastive_loss(image, matching, model.logit_scale.exp(), model.logit_bias).item()

    def _zero_shot(
        self, subset: Subset, image: Tensor, text: Tensor | None, *, among_test: bool = False
    ) -> dict[str, float]:
        """Return top-1 and balanced accuracy of the images that have a class."""
        known = subset.labels >= 0
        if text is None or not len(self._prompts) or not known.any():
            return {}
        images, classes, label = _unit(image)[known], _unit(text)[self._prompts], subset.labels[known]
        right = rank_true(images, classes, label)[1] == 1
        found = {"top1": accuracy(right), "balanced_top1": balanced_accuracy(label, right)}
        if among_test:
            place = np.searchsorted(self.test_labels, label)
            right = rank_true(images, classes[self.test_labels], place)[1] == 1
            found["balanced_top1_among_test"] = balanced_accuracy(label, right)
        return found


def retrieval(image: NDArray[np.float32], text: NDArray[np.float32], truth: NDArray[np.int64]) -> dict[str, float]:
    """Return R@1, R@5 and R@10 in both directions, as shares.

    An image finds its caption where that is among the k nearest of the distinct captions; a caption finds an image
    where one of those that it belongs to is among the k nearest of all. Ties go against the truth.

    Args:
        image: [N, D], L2-normalised.
        text: [T, D], L2-normalised; captions that read alike are one row.
        truth: [N], the row of each image's caption; rows that no image has are not searched.
    """
    rows, own = np.unique(truth, return_inverse=True)
    scores_NU = image @ text[rows].T
    mine_NU = own[:, None] == np.arange(len(rows))
    true_N1 = scores_NU[np.arange(len(own)), own][:, None]
    best_U = np.where(mine_NU, scores_NU, -np.inf).max(axis=0)
    rank_N = (~(scores_NU < true_N1) & ~mine_NU).sum(axis=1)  # how many stand before the truth; NaN: all
    rank_U = (~(scores_NU < best_U) & ~mine_NU).sum(axis=0)
    found = {}
    for name, rank in (("image_to_text", rank_N), ("text_to_image", rank_U)):
        found |= {f"{name}_r{k}": float((rank < k).mean()) for k in PLACES}
    return found


def _unit(features: Tensor) -> NDArray[np.float32]:
    return F.normalize(features, dim=-1).cpu().numpy()
