"""How much of a training set looks like the held-out domain, whatever its labels say.

A linear probe learns from labelled images of several domains to tell the test domain from the rest, and then judges
every training sample. It errs, so the share that it takes for the test domain is corrected: with f the share of other
images that it takes for the test domain and t the share of the test domain's that it does, both measured on classes
that it had not seen, a share q taken means that about (q - f) / (t - f) are (Rogan and Gladen 1978).

f hangs on what the other images are: for samples whose domains are known it is the mean over those domains, and for
all others, a base corpus above all, that of the natural domain. If a corpus differs from it more than its images do
among each other, f is wrong for it, and so is the estimate: look at the images.

Shapes: N images, D embedding, G domains, K classes, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.analyses.probe import can_probe, fit_grouped, fit_ridge
from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RESAMPLES, SEED = 2000, 0
TELLS = 0.1  # t - f below which the probe cannot tell the domains apart, and there is no estimate


@dataclass(frozen=True)
class Probe:
    """A classifier of the test domain against the rest, and what it does to images of classes that it did not see."""

    test: int  # place of the test domain
    natural: int  # place of the natural domain
    weight: Floats  # [F + 1, D] of the classifiers of F folds, and last of the one that learnt from all images
    bias: Floats  # [F + 1]
    fold: Ints  # [K] the classifier that has not seen a class; F where none has
    images: Ints  # [G, K] that it was measured on
    hits: Ints  # [G, K] that it took for the test domain
    taken: Bools  # [N] its verdicts on them

    def takes(self, image: NDArray[np.float32], label: Ints) -> Bools:
        """Tell which images [N, D] of classes [N] (-1: none known) look like the test domain.

        The judge of an image has not learnt from its class, so that the rates hold for it.
        """
        score = image @ self.weight.T.astype(np.float32) + self.bias.astype(np.float32)
        judge = np.where(label < 0, len(self.weight) - 1, self.fold[label])
        return np.take_along_axis(score, judge[:, None], axis=1)[:, 0] > 0

    @property
    def rates(self) -> Floats:
        """Share of each domain's images that it takes for the test domain [G]; NaN where there are none."""
        return _ratio(self.hits.sum(axis=1), self.images.sum(axis=1))


def fit_probe(
    image: NDArray[np.float32],
    domain: Ints,
    label: Ints,
    domains: Sequence[str],
    *,
    classes: int,
    test_domain: str,
    natural: str,
) -> Probe:
    """Fit ridge classifiers that weigh both sides alike, on images [N, D] of `domains` [N] and `classes` labels [N].

    Its rates come from folds that share no class: what it learns of a style must hold for new objects, and no drawing
    is on both sides in two poses.

    Raises:
        DataError: fewer than two classes in the test domain, or in the others.
    """
    test = list(domains).index(test_domain)
    inside = domain == test
    if not can_probe(inside, label):
        raise DataError(
            f"the domain audit needs training images of two classes in {test_domain!r} and in other domains: "
            "add images of them to the data"
        )
    probe = fit_grouped(image, inside, label)
    ridges = [*probe.ridges, fit_ridge(image, inside)]
    fold = np.full(classes, len(probe.held_out))
    for number, held_out in enumerate(probe.held_out):
        fold[label[held_out]] = number
    shape = (len(domains), classes)
    cell = domain * classes + label
    return Probe(
        test=test,
        natural=list(domains).index(natural),
        weight=np.concatenate([np.reshape(ridge.coef_, (1, -1)) for ridge in ridges]).astype(np.float64),
        bias=np.array([np.ravel(ridge.intercept_)[0] for ridge in ridges], dtype=np.float64),
        fold=fold,
        images=np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape),
        hits=np.bincount(cell, weights=probe.taken, minlength=shape[0] * shape[1]).astype(np.int64).reshape(shape),
        taken=probe.taken,
    )


def estimate_share(probe: Probe, taken: int, counts: Ints, *, confidence: float) -> dict[str, float]:
    """Estimate which share of a set of samples is of the test domain.

    Args:
        taken: samples that the probe takes for the test domain.
        counts: samples of each domain by their labels, and last those of none of these [G + 1].

    Returns:
        `share` taken, `true_positive` and `false_positive` rates, and `estimate` with its interval `low`, `high`:
        percentiles over resampled classes (for the rates) and samples (for the share); NaN where the probe does not
        tell the domains apart.
    """
    total = int(counts.sum())
    true, false = _rates(probe, probe.hits.sum(axis=1), probe.images.sum(axis=1), counts)
    share = taken / total
    result = {"share": share, "true_positive": float(true), "false_positive": float(false)}
    if not true - false >= TELLS:
        return result | {"estimate": np.nan, "low": np.nan, "high": np.nan}
    generator = numpy_generator(SEED, "domain audit")
    classes = probe.images.shape[1]
    times = generator.multinomial(classes, np.full(classes, 1 / classes), size=RESAMPLES)  # [B, K]
    trues, falses = _rates(probe, times @ probe.hits.T, times @ probe.images.T, counts)
    shares = generator.beta(taken + 0.5, total - taken + 0.5, size=RESAMPLES)
    spread = np.clip((shares - falses) / np.maximum(trues - falses, TELLS / 2), 0, 1)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(spread, [tail, 1 - tail])
    estimate = float(np.clip((share - false) / (true - false), 0, 1))
    return result | {"estimate": estimate, "low": min(float(low), estimate), "high": max(float(high), estimate)}


def _rates(probe: Probe, hits: Ints, images: Ints, counts: Ints) -> tuple[Floats, Floats]:
    """Return the true and the false positive rate from hits and images of each domain [..., G]."""
    rates = _ratio(hits, images)
    weight = counts[:-1].astype(np.float64)
    weight[probe.natural] += counts[-1]
    weight[probe.test] = 0.0
    if not weight.any():  # all are labelled as the test domain: then the rest is as the natural domain
        weight[probe.natural] = 1.0
    used = weight > 0
    return rates[..., probe.test], rates[..., used] @ (weight[used] / weight.sum())


def _ratio(part: Ints, whole: Ints) -> Floats:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def audit_table(
    probe: Probe, domains: Sequence[str], shown: dict[tuple[str, str], tuple[Ints, Ints]], *, confidence: float
) -> pd.DataFrame:
    """Tabulate what the probe says of each mixture and source.

    Args:
        shown: (mixture, source) -> samples, and samples taken for the test domain, of each domain and last of none of
            these [G + 1].

    Returns:
        One row for each mixture, source and domain with samples in it, and one for all together (`domain` "all"):
        `mixture, source, domain, n, labelled` (as of the test domain), `taken, share, true_positive, false_positive,
        estimate, low, high`. The estimate is for all samples of a source: of one domain it would be what the rates say.
    """
    names, rows = [*domains, "none"], []
    for (mixture, source), (counts, taken) in shown.items():
        head = {"mixture": mixture, "source": source}
        if not counts.sum():
            continue
        known = estimate_share(probe, int(taken.sum()), counts, confidence=confidence)
        rows.append(head | _row("all", counts.sum(), counts[probe.test], taken.sum()) | known)
        if counts[:-1].any():
            for place in np.flatnonzero(counts):
                labelled = counts[place] if place == probe.test else 0
                share = {"share": taken[place] / counts[place]}
                rows.append(head | _row(names[place], counts[place], labelled, taken[place]) | share)
    columns = ["mixture", "source", "domain", "n", "labelled", "taken", "share", "true_positive", "false_positive"]
    return pd.DataFrame(rows, columns=[*columns, "estimate", "low", "high"])


def _row(domain: str, n: int, labelled: int, taken: int) -> dict[str, object]:
    return {"domain": domain, "n": int(n), "labelled": int(labelled), "taken": int(taken)}
