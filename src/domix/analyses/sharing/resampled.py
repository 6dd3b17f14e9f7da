"""How sure the sharing of features is: bootstrap over classes and images, and what chance alone would share.

Two sources of chance. *Bootstrap*: classes are drawn with replacement, and within each drawn class the images of each
domain. A class's images are drawn a limited number of times, and each draw of the class takes one of these. A draw
with replacement has fewer distinct images, which moves sharing as a whole; so the interval is that of the resamples'
deviations from their mean, about the estimate. *Permutation*: within each class the images keep their number a domain,
but the domains are dealt anew. If a domain shares less than that, its images use other features, not just few images.

Shapes: n images of a class, G domains, u units that any of them votes for, R draws of images, P permutations, K
classes, B resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from domix.analyses.sharing.overlap import Votes, histograms, mean_over_classes, sharing, strengths
from domix.runtime.seeds import numpy_generator

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CELLS = 4_000_000  # numbers worked on at a time


@dataclass(frozen=True)
class ClassSharing:
    """The sharing of every class: NaN where a domain has no votes."""

    observed: Floats  # [K, G, G]
    units: Ints  # [K, G]: units in the top 20 of each cell
    images: Ints  # [K, G]: images of each cell
    drawn: NDArray[np.float32]  # [K, R, G, G]
    permuted: NDArray[np.float32]  # [K, P, G, G]


@dataclass(frozen=True)
class Spread:
    """An estimate's interval, what permutations give, and the share of those that give no more."""

    low: Floats
    high: Floats
    null: Floats  # mean of the permutations
    p_value: Floats


def share_classes(
    cast: Votes, label: Ints, domain: Ints, *, classes: int, domains: int, draws: int, permutations: int, seed: int
) -> ClassSharing:
    """Compare the domains in every class, in draws of its images, and in permutations of their domains.

    Args:
        cast: votes of N images.
        label: class of each.
        domain: domain of each.
        classes: K.
        domains: G.
        draws: R.
        permutations: P.
        seed: of both; a class's depend on its number and images alone.
    """
    observed, units = _observed(cast, label * domains + domain, classes, domains)
    images = np.bincount(label * domains + domain, minlength=classes * domains).reshape(classes, domains)
    drawn = np.full((classes, draws, domains, domains), np.nan, np.float32)
    permuted = np.full((classes, permutations, domains, domains), np.nan, np.float32)
    order = np.argsort(label, kind="stable")
    present, first = np.unique(label[order], return_index=True)
    for number, members in zip(present, np.split(order, first[1:]), strict=True):
        own = domain[members]
        generator = numpy_generator(seed, "feature sharing", int(number))
        weights = np.concatenate(
            [_draws(own, domains, draws, generator), _permutations(own, domains, permutations, generator)]
        )
        found = _compare(cast.unit[members], cast.value[members], weights)
        drawn[number], permuted[number] = found[:draws], found[draws:]
    return ClassSharing(observed, units, images, drawn, permuted)


def _observed(cast: Votes, cell: Ints, classes: int, domains: int) -> tuple[Floats, Ints]:
    """Compare the domains by the images as they are; `cell` [N] is class x domain."""
    units = int(cast.unit.max(initial=0)) + 1
    matrices, sizes = [], []
    step = max(1, CELLS // (domains * units))
    for first in range(0, classes, step):
        last = min(first + step, classes)
        here = (cell >= first * domains) & (cell < last * domains)
        some = Votes(cast.unit[here], cast.value[here])
        shape = (last - first, domains, units)
        given = (some, cell[here] - first * domains, shape[0] * domains, units)
        counts, values = (torch.from_numpy(of(*given)).view(shape) for of in (histograms, strengths))
        matrix, size = sharing(counts, values)
        matrices.append(matrix.numpy())
        sizes.append(size.numpy())
    return np.concatenate(matrices), np.concatenate(sizes)


def _compare(unit: Ints, value: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compare domains [X, G, G] that hold the images of a class [n, TOP] as often as `weights` [X, G, n] say."""
    known, place = np.unique(unit[unit >= 0], return_inverse=True)
    if not len(known) or not len(weights):
        return np.full((len(weights), weights.shape[1], weights.shape[1]), np.nan, np.float32)
    image = np.broadcast_to(np.arange(len(unit))[:, None], unit.shape)[unit >= 0]
    count, strength = (np.zeros((len(unit), len(known)), np.float32) for _ in range(2))
    count[image, place], strength[image, place] = 1, value[unit >= 0]
    matrices = []
    for some in np.array_split(weights, max(1, weights[:, :, 0].size * len(known) // CELLS)):
        matrices.append(sharing(torch.from_numpy(some @ count), torch.from_numpy(some @ strength))[0].numpy())
    return np.concatenate(matrices)


def _draws(own: Ints, domains: int, draws: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Draw each domain's images with replacement: how often each came, [R, G, n]."""
    weights = np.zeros((draws, domains, len(own)), np.float32)
    for number in np.unique(own):
        here = np.flatnonzero(own == number)
        picked = here[generator.integers(0, len(here), (draws, len(here)))]
        np.add.at(weights[:, number], (np.arange(draws)[:, None], picked), 1)
    return weights


def _permutations(own: Ints, domains: int, permutations: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Deal the domains among the images anew: which domain has which image, [P, G, n]."""
    dealt = own[generator.random((permutations, len(own))).argsort(axis=1)]
    return (dealt[:, None] == np.arange(domains)[:, None]).astype(np.float32)


def mean_matrices(found: ClassSharing, chosen: NDArray[np.bool_], *, resamples: int, seed: int) -> tuple[Floats, ...]:
    """Average over the chosen classes [K].

    Returns:
        The matrix of the images as they are [G, G], of B resamples [B, G, G], and of the permutations [P, G, G].
    """
    observed = mean_over_classes(found.observed[chosen])
    permuted = mean_over_classes(found.permuted[chosen])
    drawn = found.drawn[chosen]
    generator = numpy_generator(seed, "feature sharing of classes")
    made = np.full((resamples if drawn.size else 0, *observed.shape), np.nan)
    for number in range(len(made)):
        some = generator.integers(0, len(drawn), len(drawn))
        which = generator.integers(0, drawn.shape[1], len(drawn))
        made[number] = mean_over_classes(drawn[some, which])
    return observed, made, permuted


def spread(estimate: Floats, resampled: Floats, permuted: Floats, confidence: float) -> Spread:
    """Return the spread of estimates [...] from their resamples [B, ...] and permutations [P, ...]."""
    nothing = np.full(np.shape(estimate), np.nan)
    low = high = null = p_value = nothing
    if len(resampled):
        tail = (1 - confidence) / 2
        away = resampled - resampled.mean(axis=0)
        low, high = estimate + np.quantile(away, [tail, 1 - tail], axis=0)
    if len(permuted):
        null = permuted.mean(axis=0)
        less = (permuted <= estimate + 1e-12).sum(axis=0)
        p_value = np.where(np.isfinite(estimate), (1 + less) / (1 + len(permuted)), np.nan)
    return Spread(low, high, null, p_value)
