"""How far one number of a set of models tells another: R^2, slope and correlations, with intervals.

For ID accuracy (by neighbours, zero-shot or by a probe) against AUROC over models (Adaloglou et al. 2024, figure 1),
and as well for a signature of models against their effective robustness, or for a study's mixtures and checkpoints.

    slope     of the line y = slope x + intercept, by least squares
    r2        share of the variance of y that the line explains: the square of Pearson's correlation
    spearman  Pearson's correlation of the ranks, of equal values the mean rank

With a third number z held fixed (`control`) there are partial correlations, too, `partial pearson` and, of the ranks,
`partial spearman`: (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2)).

Intervals are percentiles over resamples: other models of the kind (drawn with replacement), other images for the same
models, or both. Noise of few images lowers a correlation, and resampled images add as much again: an interval over
images lies rather too low.

Shapes: M models, B resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator

Floats = NDArray[np.float64]
STATISTICS = ("r2", "slope", "intercept", "pearson", "spearman")
PARTIAL = ("partial pearson", "partial spearman")
LEAST = 3  # models: through two every line is perfect; one more where a third number is held fixed
WHOLE = 1e-7  # what is left of x and y below this is rounding: 1 - r^2 of a perfect correlation comes to 1e-16
DRAWN = 5  # models of which resamples say something: of four, a third has no line, the rest three points or all four


@dataclass(frozen=True)
class Resampled:
    """An estimate, and its interval by what was resampled: `models`, `images`, `both`; NaN where nothing can be said.

    Those of images are there if values of resampled images were given.
    """

    estimate: float
    intervals: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Correlation:
    """How two numbers of M models go together.

    Attributes:
        statistics: each of STATISTICS, and of PARTIAL where a third number is held fixed.
        without: the estimates with each family of models left out, by family; NaN where too few models are left.
        models: how many there are.
    """

    statistics: Mapping[str, Resampled]
    without: Mapping[str, Mapping[str, float]]
    models: int

    def expected(self, x: ArrayLike) -> Floats:
        """Return what the line says at x."""
        slope, intercept = (self.statistics[name].estimate for name in ("slope", "intercept"))
        return slope * np.asarray(x, dtype=np.float64) + intercept


def correlate(
    x: ArrayLike,
    y: ArrayLike,
    *,
    control: ArrayLike | None = None,
    families: Sequence[str] | None = None,
    x_images: ArrayLike | None = None,
    y_images: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Correlation:
    """Correlate two numbers of models.

    Args:
        x: of each model [M].
        y: likewise.
        control: a third number of each model [M] that is held fixed.
        families: of each model [M], each of which is left out in turn: models of one kind resemble each other.
        x_images: x on resampled images [B, M], the same draw of images for all models of a row. None: x is held.
        y_images: likewise of y, row by row from the draws of `x_images` where both are of the same images.
        confidence: of the intervals.
        resamples: of the models; with values of resampled images as many as these.
        seed: of the draws of models.

    Raises:
        DataError: there are fewer than three models, a value is not finite, all x are equal, or arrays do not fit.
    """
    across, up = _values(x, "x"), _values(y, "y")
    count = len(across)
    if len(up) != count or (families is not None and len(families) != count):
        sizes = f"{count} x, {len(up)} y" + ("" if families is None else f", {len(families)} families")
        raise DataError(f"there are {sizes}: give one of each for every model")
    if count < LEAST:
        raise DataError(f"a correlation needs at least {LEAST} models, but there are {count}: add models")
    if np.ptp(across) == 0:
        raise DataError(f"all {count} models have the same x, {across[0]:.4g}: a correlation needs two that differ")
    by_images = _images(x_images, y_images, across, up)
    third = () if control is None else (_values(control, "control"),)
    if third and len(third[0]) != count:
        raise DataError(f"there are {count} x, but {len(third[0])} numbers held fixed: give one for every model")
    draws: dict[str, tuple[Floats, ...]] = {}
    if by_images is not None:
        draws["images"] = (*by_images, *(np.broadcast_to(held, by_images[0].shape) for held in third))
    number = resamples if by_images is None else len(by_images[0])
    drawn = numpy_generator(seed, "correlation").integers(count, size=(number, count))
    draws["models"] = tuple(values[drawn] for values in (across, up, *third))
    if by_images is not None:
        draws["both"] = tuple(np.take_along_axis(values, drawn, 1) for values in draws["images"])
    few = [] if count >= DRAWN else ["models", "both"]
    found = {what: _intervals(_statistics(*values), confidence, what in few) for what, values in draws.items()}
    estimates = _estimates(across, up, *third)
    return Correlation(
        {name: Resampled(at, {what: ends[name] for what, ends in found.items()}) for name, at in estimates.items()},
        {} if families is None else _without(np.asarray(families, dtype=object), across, up, *third),
        count,
    )


def lines(x: Floats, y: Floats) -> dict[str, Floats]:
    """Return STATISTICS of each row of x and y [B, M], by name, each [B].

    NaN where a row's x are all equal; of correlations also where its y are, or where it has fewer than three points
    that differ, through which every line is perfect.
    """
    dx, dy = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    pearson = _cosine(dx, dy)
    varied = np.ptp(x, axis=1) > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.where(varied, (dx * dy).sum(axis=1) / (dx**2).sum(axis=1), np.nan)
    ranks = [scipy.stats.rankdata(values, axis=1) - (x.shape[1] + 1) / 2 for values in (x, y)]
    enough = _distinct(x, y) >= LEAST
    return {
        "r2": np.where(enough, pearson**2, np.nan),
        "slope": np.where(enough, slope, np.nan),
        "intercept": np.where(enough, y.mean(axis=1) - slope * x.mean(axis=1), np.nan),
        "pearson": np.where(enough, pearson, np.nan),
        "spearman": np.where(enough, _cosine(*ranks), np.nan),
    }


def partial_lines(x: Floats, y: Floats, z: Floats) -> dict[str, Floats]:
    """Return PARTIAL of each row of x and y [B, M] where z [B, M] is held fixed, by name, each [B].

    NaN where a row's x or y vary no further than z tells, or where it has fewer than four points that differ.
    """
    enough = _distinct(x, y) > LEAST
    found = {}
    for name, rows in zip(
        PARTIAL, ((x, y, z), tuple(scipy.stats.rankdata(part, axis=1) for part in (x, y, z))), strict=True
    ):
        a, b, c = (part - part.mean(axis=1, keepdims=True) for part in rows)
        found[name] = np.where(enough, partial_correlation(_cosine(a, b), _cosine(a, c), _cosine(b, c)), np.nan)
    return found


def partial_correlation(xy: ArrayLike, xz: ArrayLike, yz: ArrayLike) -> Floats:
    """Return the correlation of x and y where z is held fixed, from the three correlations.

    What does not vary (NaN) explains nothing; NaN where z tells x or y whole.
    """
    one, other = np.nan_to_num(xz), np.nan_to_num(yz)
    rest = np.sqrt((1 - one**2) * (1 - other**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(rest > WHOLE, (xy - one * other) / rest, np.nan)


def band(
    x: ArrayLike, y: ArrayLike, at: ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return between which values the line lies at places `at` [X] for other draws of models.

    NaN of fewer than five models, and where no draw has a line.

    The draws are those of `correlate`.
    """
    across, up, places = _values(x, "x"), _values(y, "y"), np.asarray(at, dtype=np.float64)
    if len(across) < DRAWN:
        return np.full(places.shape, np.nan), np.full(places.shape, np.nan)
    drawn = numpy_generator(seed, "correlation").integers(len(across), size=(resamples, len(across)))
    found = lines(across[drawn], up[drawn])
    if np.isnan(found["slope"]).all():
        return np.full(places.shape, np.nan), np.full(places.shape, np.nan)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(found["slope"][:, None] * places + found["intercept"][:, None], [tail, 1 - tail], axis=0)
    return low, high


def _values(values: ArrayLike, what: str) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1:
        raise DataError(f"{what} is of the shape {found.shape}: give one number a model")
    if not np.isfinite(found).all():
        place = int(np.flatnonzero(~np.isfinite(found))[0])
        raise DataError(f"{what} of model {place} is {found[place]}: leave the model out, or mend the number")
    return found


def _images(
    x_images: ArrayLike | None, y_images: ArrayLike | None, x: Floats, y: Floats
) -> tuple[Floats, Floats] | None:
    """Return both numbers on resampled images [B, M]; None where neither was given."""
    given = [None if values is None else np.asarray(values, dtype=np.float64) for values in (x_images, y_images)]
    known = [values for values in given if values is not None]
    if not known:
        return None
    shape = (len(known[0]), len(x))
    if any(values.shape != shape for values in known):
        shapes = " and ".join(str(values.shape) for values in known)
        raise DataError(f"values of resampled images are of the shape {shapes}: give [resamples, {len(x)} models]")
    if not all(np.isfinite(values).all() for values in known):
        raise DataError("values of resampled images are not all finite: leave these resamples out, of x and y")
    first, second = (
        np.broadcast_to(held, shape) if values is None else values for values, held in zip(given, (x, y), strict=True)
    )
    return first, second


def _statistics(x: Floats, y: Floats, *third: Floats) -> dict[str, Floats]:
    return lines(x, y) | (partial_lines(x, y, *third) if third else {})


def _estimates(*numbers: Floats) -> dict[str, float]:
    return {name: float(values[0]) for name, values in _statistics(*(part[None] for part in numbers)).items()}


def _intervals(found: Mapping[str, Floats], confidence: float, few: bool) -> dict[str, tuple[float, float]]:
    tail = (1 - confidence) / 2
    ends = {}
    for name, values in found.items():
        known = values[np.isfinite(values)]
        low, high = (np.nan, np.nan) if few or len(known) == 0 else np.quantile(known, [tail, 1 - tail])
        ends[name] = (float(low), float(high))
    return ends


def _without(families: NDArray[np.object_], *numbers: Floats) -> dict[str, dict[str, float]]:
    found = {}
    for family in dict.fromkeys(families.tolist()):
        left = families != family
        names = (*STATISTICS, *(PARTIAL if len(numbers) > 2 else ()))
        enough = left.sum() >= LEAST
        found[str(family)] = (
            _estimates(*(part[left] for part in numbers)) if enough else dict.fromkeys(names, float("nan"))
        )
    return found


def _cosine(x: Floats, y: Floats) -> Floats:
    """Return the cosine of each row of x and y, NaN where one is all zeros but for rounding."""
    sizes = [np.sqrt((values**2).sum(axis=1)) for values in (x, y)]
    varied = (np.ptp(x, axis=1) > 0) & (np.ptp(y, axis=1) > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(varied, (x * y).sum(axis=1) / (sizes[0] * sizes[1]), np.nan).clip(-1, 1)


def _distinct(x: Floats, y: Floats) -> NDArray[np.int64]:
    """Return how many different points each row has."""
    points = np.sort(x + 1j * y, axis=1)
    return 1 + (np.diff(points, axis=1) != 0).sum(axis=1)
