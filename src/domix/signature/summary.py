"""The signature of a model in a dozen numbers: what `domix signature` and `domix zoo` print.

Shapes: N images, D components, K rows of a head.
"""

from __future__ import annotations

from domix.ood.blocks import Array
from domix.signature.directions import Importance, cosines, head_directions, heavy_tail, importance
from domix.signature.kurtosis import activation_kurtosis, summarise
from domix.signature.outliers import outlier_features


def signature_numbers(
    activations: Array, head: Array, *, kind: Importance = "abs_mean", few: bool = False
) -> dict[str, float]:
    """Return the numbers of activations [N, D] and the head [K, D] that reads them.

    Args:
        activations: of images.
        head: of the model.
        kind: of importance, for `top`, `max_to_mean` and `effective_rank`.
        few: leave out what needs at least as many images as the head has directions, where there are fewer.

    Returns:
        `kurtosis` (mean over images), `se`, `median`; `outliers` (how many features), `norm_share`; `top` (importance
        of the first direction), `top_mean_abs` (the same by `mean_abs`), `max_to_mean`, `effective_rank`; `rank` (how
        many directions there are).

    Raises:
        DataError: an activation or the head is not finite or dead, the head is of another width, or there are fewer
            images than directions.
    """
    over, outlying = summarise(activation_kurtosis(activations)), outlier_features(activations)
    directions = head_directions(head)
    rank = len(directions.right)
    numbers = {"kurtosis": over.mean, "median": over.median, "se": over.standard_error}
    numbers |= {"outliers": len(outlying.indices), "norm_share": outlying.norm_share}
    if not few or len(activations) >= rank:
        found = cosines(directions, activations)
        tail = heavy_tail(importance(directions.singular_values, found, kind))
        signed = importance(directions.singular_values, found, "mean_abs")
        numbers |= {"top": tail.top, "top_mean_abs": float(signed.max()), "max_to_mean": tail.max_to_mean}
        numbers["effective_rank"] = tail.effective_rank
    return numbers | {"rank": rank}
