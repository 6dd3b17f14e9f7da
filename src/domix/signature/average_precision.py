"""Average precision (AP) of every unit for every concept: how well the unit's activation ranks the images that show it.

    AP = sum over thresholds t of (recall_t - recall_before t) * precision_t,

over the distinct activations, falling, as scikit-learn's `average_precision_score` has it: images whose activations
are equal enter together, so that no order among them counts. A unit that says nothing has an AP of the prevalence.

That is the mean, over the images that show the concept, of the precision among all that score as high or higher. So
only those images need be looked at: each unit's images are ranked once, and the ranks of a block of concepts sorted at
once.

Shapes: N images, U units, C concepts, K categories.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Array, Floats, Ints, Rows, blocks
from domix.runtime.errors import DataError

Bools = NDArray[np.bool_]
BLOCK = 1 << 21  # pairs of an image and a concept that it shows, looked at at a time


@dataclass(frozen=True)
class _Part:
    """Pairs of a block of concepts and the images that show them, concept by concept; what no unit changes."""

    concepts: slice
    images: Ints
    heads: NDArray[Any]  # number of the concept in the block, above the bits of an image's place
    mask: int  # of these bits
    starts: Ints  # first pair of each concept
    from_start: Ints  # of each pair: 1 less its concept's first pair
    row: Ints  # of each pair: where its category's counts begin


def concept_ap(
    activations: Rows, concepts: Bools, *, category: Ints | None = None, annotated: Bools | None = None
) -> Floats:
    """Return the average precision [U, C] of activations [N, U], shards may be given one by one, for concepts [N, C].

    Units that are low where a concept is are found with `-activations`. A unit takes about as long as sorting all pairs
    of an image and a concept that it shows; memory holds 40 bytes a pair.

    Args:
        activations: of N images.
        concepts: which images show which concept.
        category: of each concept [C], a column of `annotated`; without it, all images count for every concept.
        annotated: for which categories the images were annotated [N, K]: the others are left out of a concept's
            ranking, since nobody looked whether they show it.

    Raises:
        DataError: shapes do not fit, an activation is not finite, a concept has no image that shows it, or one that was
            not annotated for its category.
    """
    shown, which, ranked = _checked(concepts, category, annotated)
    values = np.concatenate([block for _, block in blocks(activations, "activations", dtype=None)])
    count, units = values.shape
    if count != len(shown):
        raise DataError(f"there are activations of {count} images, but concepts of {len(shown)}: take the same images")
    found = np.empty((units, shown.shape[1]))
    parts = list(_parts(shown, which))
    for unit in range(units):
        last, before = _ranks(values[:, unit], ranked)
        for part in parts:
            found[unit, part.concepts] = _mean_precision(part, last, before)
    return found


def _checked(concepts: Bools, category: Ints | None, annotated: Bools | None) -> tuple[Bools, Ints, Bools]:
    """Return concepts, the category of each, and which images count for each category [N, K]."""
    shown = np.asarray(concepts)
    if shown.ndim != 2 or shown.dtype != np.bool_ or not shown.size:
        raise DataError(f"concepts are {shown.dtype} of shape {shown.shape}: give true or false, [images, concepts]")
    if not (any_ := shown.any(axis=0)).all():
        raise DataError(f"no image shows concept {int((~any_).argmax())}: leave it out")
    if (category is None) != (annotated is None):
        raise DataError(
            "only one of category and annotated is given: give what images are annotated for with the other"
        )
    if category is None or annotated is None:
        return shown, np.zeros(shown.shape[1], dtype=np.int64), np.ones((len(shown), 1), dtype=np.bool_)
    known = np.asarray(annotated, dtype=np.bool_)
    places = np.asarray(category)
    if known.ndim != 2 or len(known) != len(shown) or places.shape != shown.shape[1:]:
        raise DataError(
            f"categories are of shape {places.shape} and annotations of {known.shape}, for concepts of {shown.shape}:"
            " give a category a concept and [images, categories]"
        )
    if places.min() < 0 or places.max() >= known.shape[1]:
        raise DataError(
            f"concepts are of categories {places.min()} to {places.max()}, but {known.shape[1]} are annotated: number"
            " categories by their columns, from 0"
        )
    for concept, place in enumerate(places):
        if (strange := shown[:, concept] & ~known[:, place]).any():
            raise DataError(
                f"image {int(strange.argmax())} shows concept {concept}, but is not annotated for its category:"
                " annotate it, or give no categories"
            )
    return shown, places, known


def _parts(shown: Bools, category: Ints) -> Iterator[_Part]:
    """Yield the pairs in blocks of about BLOCK; a concept is never divided."""
    ends = np.cumsum(shown.sum(axis=0))
    bits = (len(shown) - 1).bit_length()
    start = 0
    while start < shown.shape[1]:
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + BLOCK, side="right")))
        concept, images = np.nonzero(shown[:, start:stop].T)
        starts = np.searchsorted(concept, np.arange(stop - start))
        heads = concept.astype(np.int32 if (stop - start) << bits < 1 << 31 else np.int64) << bits
        row = (category[start:stop] * len(shown))[concept]
        yield _Part(slice(start, stop), images, heads, (1 << bits) - 1, starts, 1 - starts[concept], row)
        start = stop


def _ranks(values: Array, ranked: Bools) -> tuple[NDArray[np.int32], Ints]:
    """Rank the images [N] of a unit.

    Returns:
        The place [N], from 0, of the last image with each one's activation, by falling activation; and how many of the
        images that count for a category stand up to each place [K N].
    """
    order = np.argsort(values)[::-1]
    falling = values[order]
    ends = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(values) - 1)
    last = np.empty(len(values), dtype=np.int32)
    last[order] = np.repeat(ends, np.diff(ends, prepend=-1))
    return last, np.cumsum(ranked[order].T, axis=1, dtype=np.int64).ravel()


def _mean_precision(part: _Part, last: NDArray[np.int32], before: Ints) -> Floats:
    """Return the AP of a block of concepts."""
    keys = np.sort(part.heads | last[part.images])  # by concept, then by place
    same = np.append(np.flatnonzero(keys[1:] != keys[:-1]), len(keys) - 1)
    through = np.arange(len(keys)) if len(same) == len(keys) else np.repeat(same, np.diff(same, prepend=-1))
    precision = (through + part.from_start) / before[part.row + (keys & part.mask)]
    return np.add.reduceat(precision, part.starts) / np.diff(part.starts, append=len(keys))
