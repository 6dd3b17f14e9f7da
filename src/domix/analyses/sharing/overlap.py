"""How many features two domains share: the overlap of the units that answer most to a class in either.

The reference study's Algorithms 1 and 2. Each image of a cell (class, domain) votes for the 20 units whose values are
highest, if they are positive: the cell's histogram. The overlap of two cells at K is the share of their top K units
that both have, and their sharing the mean over K = 5, 10, 15, 20.

What the reference's code does besides is a switch each (`Rules`). REFERENCE has all of them: a histogram with fewer
than K units fills its top K with units that nobody voted for, so that two empty ones share everything; which units of
equally many votes come first is torch.topk's whim; and the score is that of the last domain, whichever is asked for.
CORRECTED has none: a cell without votes is missing, a top K holds only units with votes, of equally many votes the
greater sum of values comes first, and the overlap is the share of the larger of two top Ks.

Shapes: N images, F units, G domains, K a number of units, X any leading axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domix.analyses.means import known_mean
from domix.runtime.arrays import BLOCK

KS = (5, 10, 15, 20)
TOP = 20  # units that an image votes for


@dataclass(frozen=True)
class Rules:
    """What to do as the reference's code does it."""

    zero_units: bool = False  # units without votes fill a top K
    ties_by_index: bool = False  # torch.topk settles which of equally many votes come first
    last_domain: bool = False  # the score is the last domain's


CORRECTED = Rules()
REFERENCE = Rules(zero_units=True, ties_by_index=True, last_domain=True)


@dataclass(frozen=True)
class Votes:
    """The units that each image votes for."""

    unit: NDArray[np.int64]  # [N, TOP], from the highest value; -1 where no further one is positive
    value: NDArray[np.float32]  # [N, TOP]; 0 there


def votes(codes: NDArray[np.float32], top: int = TOP) -> Votes:
    """Return the votes of codes [N, F]: the `top` highest positive values of each image."""
    most = min(top, codes.shape[1])
    unit, value = np.full((len(codes), most), -1, np.int64), np.zeros((len(codes), most), np.float32)
    for start in range(0, len(codes), BLOCK):
        found = torch.from_numpy(codes[start : start + BLOCK]).topk(most, dim=1)
        positive = found.values > 0
        unit[start : start + BLOCK] = torch.where(positive, found.indices, -1).numpy()
        value[start : start + BLOCK] = torch.where(positive, found.values, 0.0).numpy()
    return Votes(unit, value)


def histograms(cast: Votes, cell: NDArray[np.int64], cells: int, units: int) -> NDArray[np.float64]:
    """Return how many images of each cell vote for each unit, [cells, F]; `cell` is the cell of each image [N]."""
    return _summed(cast, cell, cells, units, (cast.unit >= 0).astype(np.float64))


def strengths(cast: Votes, cell: NDArray[np.int64], cells: int, units: int) -> NDArray[np.float64]:
    """Return the summed values of these votes, [cells, F]."""
    return _summed(cast, cell, cells, units, cast.value.astype(np.float64))


def _summed(
    cast: Votes, cell: NDArray[np.int64], cells: int, units: int, weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    given = cast.unit >= 0
    place = (cell[:, None] * units + cast.unit)[given]
    summed = np.zeros(cells * units)
    np.add.at(summed, place, weight[given])
    return summed.reshape(cells, units)


def sharing(counts: Tensor, strength: Tensor | None = None, rules: Rules = CORRECTED) -> tuple[Tensor, Tensor]:
    """Compare the histograms of G domains.

    Args:
        counts: [X, G, F], floating.
        strength: summed values of the votes, [X, G, F], which settle ties; None: torch.topk does.
        rules: see above.

    Returns:
        The sharing of every two domains [X, G, G], NaN where one of them has no votes, unless units without votes
        count; and the number of units [X, G] in the top 20 of each.
    """
    key = counts
    if strength is not None and not rules.ties_by_index:
        key = counts + strength / (strength.amax(dim=-1, keepdim=True) + 1)  # less than one vote
    first = key.topk(min(KS[-1], key.shape[-1]), dim=-1).indices
    shares = []
    for k in KS:
        best = key.topk(min(k, key.shape[-1]), dim=-1).indices if rules.ties_by_index else first[..., :k]
        held = torch.ones_like(best, dtype=torch.bool) if rules.zero_units else counts.gather(-1, best) > 0
        mask = torch.zeros_like(key).scatter_(-1, best, held.to(key.dtype))
        size = mask.sum(dim=-1)
        common = mask @ mask.transpose(-1, -2)
        whole = torch.full_like(common, k) if rules.zero_units else torch.maximum(size[..., None], size[..., None, :])
        shares.append(common / whole)
    made = torch.stack(shares).mean(dim=0)
    number = (counts > 0).sum(dim=-1).clamp(max=KS[-1])
    if not rules.zero_units:
        empty = number == 0
        made = made.masked_fill(empty[..., None] | empty[..., None, :], float("nan"))
    return made, number


def sharing_matrix(counts: NDArray[np.floating], rules: Rules = CORRECTED) -> NDArray[np.float64]:
    """Return the sharing [G, G] of the histograms [G, F] of one class."""
    return sharing(torch.from_numpy(np.asarray(counts, dtype=np.float64)), None, rules)[0].numpy()


def mean_over_classes(matrices: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean [X, G, G] of the classes' matrices [K, X, G, G], each pair over the classes that both have."""
    return known_mean(matrices, axis=0)


def score(matrices: NDArray[np.floating], domain: int, rules: Rules = CORRECTED) -> NDArray[np.float64]:
    """Return how much a domain shares with the others: the mean of its row of matrices [X, G, G], itself left out, [X].

    NaN where it can be compared with none.
    """
    own = matrices.shape[-1] - 1 if rules.last_domain else domain
    return known_mean(np.delete(matrices[..., own, :], own, axis=-1), axis=-1)


def reference_results(
    histograms_of: Mapping[str, NDArray[np.floating]], domains: Sequence[str], domain: str, rules: Rules = REFERENCE
) -> dict[str, Any]:
    """Return what the reference study writes into feature-sharing.json.

    Args:
        histograms_of: those of each class, [G, F].
        domains: G names.
        domain: whose score is asked for.
        rules: REFERENCE for its own numbers.
    """
    name = "mpct_shared@20"
    matrices = {label: sharing_matrix(counts, rules) for label, counts in histograms_of.items()}
    average = mean_over_classes(np.stack(list(matrices.values())))
    results: dict[str, Any] = {label: {name: matrix.tolist()} for label, matrix in matrices.items()}
    results["avg"] = {name: average.tolist()}
    results["score"] = {name: float(score(average, list(domains).index(domain), rules))}
    return results
