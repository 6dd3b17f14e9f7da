"""Whether a score of classes predicts accuracy on them: rank correlation among the classes of each model.

The classes of one model are the units: Spearman's correlation is taken among them and averaged over models, so that
differences between models (a mixture that is better at everything) do not count. All models of one test domain are
measured on the same classes: these are drawn, and shuffled, together for all of them.

Shapes: K classes of a test domain, M its models, B resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from domix.analyses.means import known_mean
from domix.ood.correlation import partial_correlation
from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator

Floats = NDArray[np.float64]
LEAST = 4  # classes: with fewer, ranks say nothing
MODEL = ["mixture", "seed"]
BLOCK = 250  # resamples at a time


@dataclass(frozen=True)
class Association:
    """What the rank correlation is, over all test domains.

    Attributes:
        estimate: mean over models of Spearman's correlation among their classes; NaN where no model has one.
        low: of the interval, from resamples of test domains, classes and seeds.
        high: as `low`.
        p: two-sided, of the permutation test that shuffles scores among the classes of each test domain.
        without: the estimate with each test domain left out, where there are several.
        models: how many models have a correlation.
        classes: how many classes they have, summed over test domains.
    """

    estimate: float
    low: float
    high: float
    p: float
    without: Mapping[str, float]
    models: int
    classes: int


@dataclass(frozen=True)
class _Domain:
    """A test domain's units: dense ranks [M, K] of each, NaN where a model has no such class; `mixtures` [M]."""

    name: str
    score: Floats
    accuracy: Floats
    control: Floats | None
    mixtures: NDArray[np.int64]


def associate(
    units: pd.DataFrame,
    *,
    score: str,
    accuracy: str,
    control: str | None = None,
    confidence: float,
    resamples: int,
    seed: int,
) -> Association:
    """Correlate a score with accuracy among classes.

    Args:
        units: a row a class of a model: test_domain, mixture, seed, class, and the columns named here.
        score: column of the score.
        accuracy: column of the accuracy that it may predict.
        control: column held fixed (partial correlation): of what both might be a mere consequence.
        confidence: of the interval.
        resamples: of the bootstrap, and shuffles of the test.
        seed: of both.

    Raises:
        DataError: a class of a model stands there twice, or no test domain has LEAST classes.
    """
    columns = [score, accuracy, *([control] if control else [])]
    known = units[np.isfinite(units[columns].to_numpy(dtype=np.float64)).all(axis=1)]
    domains = [_arranged(str(name), mine, score, accuracy, control) for name, mine in known.groupby("test_domain")]
    domains = [domain for domain in domains if domain.score.shape[1] >= LEAST]
    if not domains:
        raise DataError(f"no test domain has {LEAST} classes with {' and '.join(columns)}: ask for more classes")
    each = {domain.name: _correlations(domain.score, domain.accuracy, domain.control) for domain in domains}
    estimate = float(known_mean(np.concatenate(list(each.values())), axis=0))
    drawn = _resampled(domains, resamples, numpy_generator(seed, "association", "bootstrap"))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    shuffled = _shuffled(domains, resamples, numpy_generator(seed, "association", "shuffles"))
    extreme = int((abs(shuffled) >= abs(estimate) - 1e-12).sum())
    without = {
        name: float(known_mean(np.concatenate([found for other, found in each.items() if other != name]), axis=0))
        for name in (each if len(each) > 1 else ())
    }
    return Association(
        estimate=estimate,
        low=float(low),
        high=float(high),
        p=(extreme + 1) / (resamples + 1) if np.isfinite(estimate) else float("nan"),
        without=without,
        models=int(sum(np.isfinite(found).sum() for found in each.values())),
        classes=sum(domain.score.shape[1] for domain in domains),
    )


def _arranged(name: str, units: pd.DataFrame, score: str, accuracy: str, control: str | None) -> _Domain:
    """Put the ranks of a test domain's units into arrays [M, K]."""
    if units.duplicated([*MODEL, "class"]).any():
        twice = units[units.duplicated([*MODEL, "class"])].iloc[0]
        raise DataError(
            f"class {twice['class']!r} of {twice['mixture']}, seed {twice['seed']}, test domain {name}, stands there"
            " twice: give each once"
        )

    columns = [score, accuracy, *([control] if control else [])]
    wide = units.pivot(index=MODEL, columns="class", values=columns)
    x, y, *z = (_dense_ranks(wide[column].to_numpy(dtype=np.float64)) for column in columns)
    return _Domain(name, x, y, z[0] if z else None, pd.factorize(wide.index.get_level_values("mixture"))[0])


def _dense_ranks(values: Floats) -> Floats:
    """Return the ranks of rows [M, K], from 1, equal ones alike and none left out; NaN of NaN."""
    return np.asarray(scipy.stats.rankdata(values, method="dense", axis=1, nan_policy="omit"), dtype=np.float64)


def _correlations(score: Floats, accuracy: Floats, control: Floats | None) -> Floats:
    """Return Spearman's correlation of each row of arrays [..., K], partial on `control`; NaN where it is undefined."""
    known = ~np.isnan(score)
    x, y = _ranks(score, known), _ranks(accuracy, known)
    found = _cosine(x, y)
    if control is None:
        return found
    z = _ranks(control, known)
    return partial_correlation(found, _cosine(x, z), _cosine(y, z))


def _ranks(values: Floats, known: NDArray[np.bool_]) -> Floats:
    """Return mean ranks less their mean along the last axis, of dense ranks; 0 where a value is not known."""
    codes = np.where(known, values, 0).astype(np.intp)  # so equal ones are counted, and nothing is sorted
    rows = codes.reshape(-1, codes.shape[-1])
    most = int(rows.max(initial=0)) + 1
    places = rows + most * np.arange(len(rows))[:, None]
    equal = np.bincount(places.ravel(), minlength=most * len(rows)).reshape(len(rows), most)
    equal[:, 0] = 0  # the unknown ones, where none looks
    ranks = (equal.cumsum(axis=1) - (equal - 1) / 2).ravel()[places].reshape(codes.shape)
    counts = known.sum(axis=-1, keepdims=True)
    middle = np.where(known, ranks, 0).sum(axis=-1, keepdims=True) / np.maximum(counts, 1)
    return np.where(known, ranks - middle, 0.0)


def _cosine(x: Floats, y: Floats) -> Floats:
    lengths = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lengths > 0, (x * y).sum(axis=-1) / lengths, np.nan)


def _resampled(domains: list[_Domain], resamples: int, generator: np.random.Generator) -> Floats:
    """Draw test domains (where there are several), classes of each, and seeds of each mixture; return estimates [B]."""
    found = [np.full((resamples, 0), np.nan)]
    for _ in domains:  # of which a resample has as many as there are
        chosen = generator.integers(0, len(domains), resamples)
        models = max(len(domain.score) for domain in domains)
        each = np.full((resamples, models), np.nan)
        for place, domain in enumerate(domains):
            for rows in _blocks(np.flatnonzero(chosen == place)):
                each[rows, : len(domain.score)] = _redrawn(domain, len(rows), generator)
        found.append(each)
    return known_mean(np.concatenate(found, axis=1), axis=1)


def _redrawn(domain: _Domain, resamples: int, generator: np.random.Generator) -> Floats:
    """Draw the classes of a test domain, and the seeds of each mixture; return correlations [B, M]."""
    count = domain.score.shape[1]
    classes = generator.integers(0, count, (resamples, 1, count))
    models = np.empty((resamples, len(domain.mixtures), 1), dtype=np.int64)
    for mixture in np.unique(domain.mixtures):
        group = np.flatnonzero(domain.mixtures == mixture)
        models[:, group, 0] = group[generator.integers(0, len(group), (resamples, len(group)))]
    control = None if domain.control is None else domain.control[models, classes]
    return _correlations(domain.score[models, classes], domain.accuracy[models, classes], control)


def _shuffled(domains: list[_Domain], resamples: int, generator: np.random.Generator) -> Floats:
    """Shuffle scores among the classes of each test domain, alike for all its models; return estimates [B]."""
    found = []
    for domain in domains:
        each = np.full((resamples, len(domain.score)), np.nan)
        for rows in _blocks(np.arange(resamples)):
            order = generator.permuted(np.tile(np.arange(domain.score.shape[1]), (len(rows), 1)), axis=1)
            score = np.moveaxis(domain.score[:, order], 1, 0)
            known = ~(np.isnan(score) | np.isnan(domain.accuracy))
            control = None if domain.control is None else np.where(known, domain.control, np.nan)
            each[rows] = _correlations(
                np.where(known, score, np.nan), np.where(known, domain.accuracy, np.nan), control
            )
        found.append(each)
    return known_mean(np.concatenate(found, axis=1), axis=1)


def _blocks(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
