"""How well scores tell in-distribution (ID) images from foreign ones (OOD): AUROC, AUPR, FPR at 95 % TPR.

All take scores of which higher means in-distribution, P of ID images and N of OOD images, and return shares 0..1.

FPR95 has three conventions in use, whose numbers differ, widely where scores are skewed:
    plp      ID is positive; the ROC curve is interpolated linearly at TPR 0.95. Where it runs flat at just 0.95 the
             largest FPR of that stretch counts (as np.interp does in the code of Adaloglou et al. 2024).
    mcm      ID is positive; the threshold whose TPR is closest to 0.95 counts (Ming et al. 2022, and others before).
    openood  OOD is positive; the first threshold with TPR >= 0.95 counts (OpenOOD v1.5, pytorch-ood).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Array, Floats, check_scores
from domix.runtime.errors import ParameterError

CONVENTIONS = ("plp", "mcm", "openood")
RECALL = 0.95


def auroc(id_scores: Array, ood_scores: Array) -> float:
    """Return P(score of ID > score of OOD) + P(equal) / 2.

    Raises:
        DataError: a set is empty, or a score is not finite.
    """
    inside, outside = _checked(id_scores, ood_scores)
    outside.sort()
    below, upto = (np.searchsorted(outside, inside, side=side).sum(dtype=np.int64) for side in ("left", "right"))
    return float(int(below) + int(upto)) / (2 * len(inside) * len(outside))


def fpr95(id_scores: Array, ood_scores: Array, *, convention: str) -> float:
    """Return the false positive rate at a true positive rate of 95 %, in a named convention (see above).

    Raises:
        DataError: a set is empty, or a score is not finite.
        ParameterError: there is no such convention.
    """
    if convention not in CONVENTIONS:
        raise ParameterError(
            f"there is no convention {convention!r} of FPR95, but {', '.join(CONVENTIONS)}", argument="convention"
        )
    inside, outside = _checked(id_scores, ood_scores)
    inside.sort()
    outside.sort()
    return {"plp": _interpolated, "mcm": _closest, "openood": _first}[convention](inside, outside)


def _at_least(ordered: Floats, value: float) -> int:
    return len(ordered) - int(np.searchsorted(ordered, value, side="left"))


def _above(ordered: Floats, value: float) -> int:
    return len(ordered) - int(np.searchsorted(ordered, value, side="right"))


def crossing(count: int) -> int:
    """Return the least number of `count` images whose share is above RECALL, as floats compare."""
    return next(number for number in range(int(RECALL * count), count + 1) if number / count > RECALL)


def reaching(count: int) -> int:
    """Return the least number of `count` images whose share is RECALL or above, as floats compare."""
    return next(number for number in range(int(RECALL * count), count + 1) if number / count >= RECALL)


def _interpolated(inside: Floats, outside: Floats) -> float:
    """Interpolate between the ROC curve's last point with TPR <= 0.95 and the next, at the ID score that crosses it."""
    value = inside[-crossing(len(inside))]
    low, high = _above(inside, value) / len(inside), _at_least(inside, value) / len(inside)
    before, after = _above(outside, value) / len(outside), _at_least(outside, value) / len(outside)
    return (after - before) / (high - low) * (RECALL - low) + before


def _closest(inside: Floats, outside: Floats) -> float:
    """Take the TPR closest to 0.95, the higher of two as close, and of thresholds of that TPR the lowest."""
    value = inside[-crossing(len(inside))]
    low, high = _above(inside, value), _at_least(inside, value)
    if abs(low / len(inside) - RECALL) < abs(high / len(inside) - RECALL):
        return _above(outside, value) / len(outside)
    if high == len(inside):  # the reference ends where all ID images are found
        return _at_least(outside, value) / len(outside)
    return _above(outside, inside[-high - 1]) / len(outside)


def _first(inside: Floats, outside: Floats) -> float:
    """Lower the threshold on -score until 95 % of the OOD images are found; count the ID images found with them."""
    value = outside[reaching(len(outside)) - 1]
    return int(np.searchsorted(inside, value, side="right")) / len(inside)


def aupr(id_scores: Array, ood_scores: Array, *, positive: str, rule: str = "step") -> float:
    """Return the area under the precision-recall curve.

    Args:
        id_scores: of ID images [P].
        ood_scores: of OOD images [N].
        positive: `id` or `ood` (found by low scores).
        rule: `step`, average precision, as scikit-learn advises; or `trapezoid`, which OpenOOD reports.

    Raises:
        DataError: a set is empty, or a score is not finite.
        ParameterError: there is no such class or rule.
    """
    if positive not in ("id", "ood"):
        raise ParameterError(f"the positive images are 'id' or 'ood', not {positive!r}", argument="positive")
    if rule not in ("step", "trapezoid"):
        raise ParameterError(f"the area is taken by 'step' or 'trapezoid', not {rule!r}", argument="rule")
    inside, outside = _checked(id_scores, ood_scores)
    found, other = (inside, outside) if positive == "id" else (-outside, -inside)
    scores = np.concatenate([found, other])
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    true = np.cumsum(order < len(found))[ends]
    precision, recall = true / (ends + 1), true / len(found)
    step = np.diff(recall, prepend=0.0)
    if rule == "step":
        return float(step @ precision)
    return float(step @ (precision + np.concatenate([[1.0], precision[:-1]]))) / 2


def id_accuracy(logits: Array, labels: NDArray[np.int64]) -> float:
    """Return the share of ID images [N] whose highest logit [N, K] is that of their label.

    Raises:
        DataError: there are no images, or not one label an image.
    """
    from domix.evaluate.metrics import accuracy
    from domix.ood.blocks import check_labels, shape_of

    count, _ = shape_of(logits, "the logits")
    return accuracy(np.argmax(logits, axis=1) == check_labels(labels, count, "the labels"))


def _checked(id_scores: Array, ood_scores: Array) -> tuple[Floats, Floats]:
    return check_scores(id_scores, "the scores of the ID images"), check_scores(
        ood_scores, "the scores of the OOD images"
    )
