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

from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator

Floats = NDArray[np.float64]
LEAST = 4  # classes: with fewer, ranks say nothing
MODEL = ["mixture", "seed"]


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
    """A test domain's units: each [M, K], NaN where a model has no such class; `seeds` [M] and `mixtures` [M]."""

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
    estimate = _mean(np.concatenate(list(each.values())))
    drawn = _resampled(domains, resamples, numpy_generator(seed, "association", "bootstrap"))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    shuffled = _shuffled(domains, resamples, numpy_generator(seed, "association", "shuffles"))
    extreme = int((abs(shuffled) >= abs(estimate) - 1e-12).sum())
    without = {
        name: _mean(np.concatenate([found for other, found in each.items() if other != name]))
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
    """Put the units of a test domain into arrays [M, K]."""
    if units.duplicated([*MODEL, "class"]).any():
        twice = units[units.duplicated([*MODEL, "class"])].iloc[0]
        raise DataError(
            f"class {twice['class']!r} of {twice['mixture']}, seed {twice['seed']}, test domain {name}, stands there"
            " twice: give each once"
        )

    def table(column: str) -> Floats:
        return units.pivot(index=MODEL, columns="class", values=column).to_numpy(dtype=np.float64)

    models = units.pivot(index=MODEL, columns="class", values=score).index
    mixtures = pd.factorize(models.get_level_values("mixture"))[0]
    return _Domain(name, table(score), table(accuracy), table(control) if control else None, mixtures)


def _correlations(score: Floats, accuracy: Floats, control: Floats | None) -> Floats:
    """Return Spearman's correlation of each row of arrays [..., K], partial on `control`; NaN where it is undefined."""
    known = ~np.isnan(score)
    x, y = _ranks(score, known), _ranks(accuracy, known)
    found = _cosine(x, y)
    if control is None:
        return found
    z = _ranks(control, known)
    one, other = np.nan_to_num(_cosine(x, z)), np.nan_to_num(_cosine(y, z))  # what does not vary explains nothing
    rest = np.sqrt((1 - one**2) * (1 - other**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(rest > 1e-9, (found - one * other) / rest, np.nan)


def _ranks(values: Floats, known: NDArray[np.bool_]) -> Floats:
    """Return mean ranks less their mean along the last axis; 0 where a value is not known."""
    ranks = scipy.stats.rankdata(values, axis=-1, nan_policy="omit")
    ranks = np.where(known, ranks, np.nan)
    return np.nan_to_num(ranks - np.nanmean(ranks, axis=-1, keepdims=True))


def _cosine(x: Floats, y: Floats) -> Floats:
    lengths = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lengths > 0, (x * y).sum(axis=-1) / lengths, np.nan)


def _mean(values: Floats) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _resampled(domains: list[_Domain], resamples: int, generator: np.random.Generator) -> Floats:
    """Draw test domains (where there are several), classes of each, and seeds of each mixture; return estimates [B]."""
    drawn = np.full(resamples, np.nan)
    for number in range(resamples):
        chosen = generator.integers(0, len(domains), len(domains)) if len(domains) > 1 else [0]
        found = []
        for place in chosen:
            domain = domains[place]
            classes = generator.integers(0, domain.score.shape[1], domain.score.shape[1])
            models = _draw_seeds(domain.mixtures, generator)
            cut = np.ix_(models, classes)
            control = None if domain.control is None else domain.control[cut]
            found.append(_correlations(domain.score[cut], domain.accuracy[cut], control))
        drawn[number] = _mean(np.concatenate(found))
    return drawn


def _draw_seeds(mixtures: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw, of each mixture's models, as many as there are."""
    groups = [np.flatnonzero(mixtures == mixture) for mixture in np.unique(mixtures)]
    return np.concatenate([generator.choice(group, len(group)) for group in groups])


def _shuffled(domains: list[_Domain], resamples: int, generator: np.random.Generator) -> Floats:
    """Shuffle scores among the classes of each test domain, alike for all its models; return estimates [B]."""
    drawn = np.full(resamples, np.nan)
    for number in range(resamples):
        found = []
        for domain in domains:
            order = generator.permutation(domain.score.shape[1])
            score = np.where(np.isnan(domain.score), np.nan, domain.score[:, order])
            known = ~np.isnan(score)
            accuracy = np.where(known, domain.accuracy, np.nan)
            control = None if domain.control is None else np.where(known, domain.control, np.nan)
            found.append(_correlations(score, accuracy, control))
        drawn[number] = _mean(np.concatenate(found))
    return drawn
