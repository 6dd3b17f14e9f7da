"""Pseudo-labels: the class whose text is nearest to an image, and how sure CLIP is of it (PLP, step C).

Shapes: N images, d features, D joint space, C classes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domix.data.classes.names import class_text
from domix.ood.blocks import Rows, blocks, check_labels, shape_of, unit
from domix.runtime.errors import DataError


@dataclass(frozen=True)
class PseudoLabels:
    """What CLIP takes each image for."""

    labels: NDArray[np.int64]  # [N]
    confidence: NDArray[np.float32]  # [N] softmax of the similarities at the label
    counts: NDArray[np.int64]  # [C] images that were given each label
    accuracy: float | None  # share of labels that are right, where true ones are known

    @property
    def empty(self) -> list[int]:
        """Return the classes that no image was taken for."""
        return np.flatnonzero(self.counts == 0).tolist()


def pseudo_labels(
    features: Rows,
    text: NDArray,
    *,
    projection: NDArray | None = None,
    bias: NDArray | None = None,
    logit_scale: float = 100.0,
    known: NDArray[np.int64] | None = None,
    parity: bool = False,
) -> PseudoLabels:
    """Label images by the nearest class text: argmax and softmax of logit_scale * cos(x P + b, t_c).

    PLP's code scales x to length one, but not x P: that changes no label (without a bias), but flattens or sharpens
    the confidence. `parity` does the same. Of equal similarities the first class counts.

    Args:
        features: [N, d], or shards of such, of any length: of the tower where there is a projection, else joint
            embeddings.
        text: [C, D] class prototypes, of length one.
        projection: P [d, D], what makes joint embeddings of the tower's features.
        bias: [D] of it (CLIP's ResNets have one).
        logit_scale: the factor itself (100 for OpenAI's models), not its logarithm.
        known: true labels [N], for the accuracy.
        parity: confidences as PLP's code has them.

    Raises:
        DataError: shapes do not fit, or features or texts are not finite.
    """
    (count, dimensions), text = shape_of(features, "the features"), np.asarray(text, np.float32)
    width = dimensions if projection is None else projection.shape[-1]
    if text.ndim != 2 or text.shape[1] != width or (projection is not None and len(projection) != dimensions):
        through = "" if projection is None else f" through a projection {projection.shape[0]} x {projection.shape[1]}"
        raise DataError(f"features of {dimensions} dimensions{through} do not meet texts of shape {text.shape}")
    if not np.isfinite(text).all():
        raise DataError(f"the text of class {int(np.flatnonzero(~np.isfinite(text).all(axis=1))[0])} is not finite")
    if known is not None:
        known = check_labels(known, count, "the known labels")
    labels, confidence = np.empty(count, np.int64), np.empty(count, np.float32)
    for first, block in blocks(features, "the features", dtype=np.float32):
        joint = unit(block) if parity else block
        if projection is not None:
            joint = joint @ np.asarray(projection, np.float32)
        if bias is not None:
            joint = joint + np.asarray(bias, np.float32)
        logits = logit_scale * ((joint if parity else unit(joint)) @ text.T)
        rows, best = slice(first, first + len(block)), logits.argmax(axis=1)
        labels[rows] = best
        top = logits.max(axis=1, keepdims=True).astype(np.float64)
        confidence[rows] = 1 / np.exp(logits - top).sum(axis=1)
    accuracy = None if known is None else float(np.mean(labels == known))
    return PseudoLabels(labels, confidence, np.bincount(labels, minlength=len(text)), accuracy)


def class_texts(names: Sequence[str | None], *, as_given: bool = False) -> list[str]:
    """Return the words that stand for classes in prompts; two classes of the same words could not be told apart.

    Args:
        names: in label order.
        as_given: names as they are, underscores and double ones included, as PLP's code reads them; of two classes
            with the same text the first then gets all pseudo-labels, and the other none.

    Raises:
        DataError: a name is missing, or two classes read the same.
    """
    missing = next((label for label, name in enumerate(names) if not (name or "").strip()), None)
    if missing is not None or not len(names):
        raise DataError(f"class {missing or 0} has no name: pseudo-labels need a name for every class")
    if as_given:
        return [str(name) for name in names]
    texts, first = [class_text(str(name)).strip() for name in names], dict[str, int]()
    for label, text in enumerate(texts):
        other = first.setdefault(unicodedata.normalize("NFC", text).casefold(), label)
        if other != label:
            raise DataError(
                f"classes {other} and {label} are both called {text!r}, so no text tells them apart: give them names"
                " that differ (crane bird, crane machine), or take the names as given"
            )
    return texts
