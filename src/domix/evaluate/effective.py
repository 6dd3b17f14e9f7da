"""Effective robustness: how far above the trend of reference models an accuracy under a distribution shift lies.

    ER(f) = 100 (acc_shift(f) - beta(acc_id(f))),   beta(a) = t^-1(slope t(a) + intercept)

with t the logit (or probit, or nothing), and the line fitted to reference models by ordinary least squares (Taori et
al. 2020, section 3; Fang et al. 2022). Accuracies are shares in 0..1, effective robustness is in percentage points.

An accuracy of exactly 0 or 1 has no logit. Where the number of images is known, `clamp` moves it half an image away
from the end; in public tables, which do not say it, such a model stays out of the fit. beta(0) and beta(1) are limits.

Within a study the reference is what training on natural images alone gives: its checkpoints, of all seeds, draw the
curve of accuracy on held-out cells against accuracy on natural images of the same classes.

Shapes: N models or checkpoints, B resamples, X accuracies at which a line is read.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import scipy  # loads its parts when they are first used: special takes a quarter of a second
from numpy.typing import ArrayLike, NDArray

from domix.evaluate.robustness import IMAGENET
from domix.evaluate.schemas import BALANCED, EFFECTIVE, POOLED
from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator

if TYPE_CHECKING:
    from domix.evaluate.outcomes import Plan

Floats = NDArray[np.float64]
Transform = Literal["logit", "probit", "linear"]
TRANSFORMS: tuple[Transform, ...] = ("logit", "probit", "linear")
RESAMPLES = 1000  # of a band, as in the testbed
LEAST = 3  # points of a line: through two every line is perfect
KEYS = ["kind", "mixture", "seed", "checkpoint"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """The line through reference models on transformed axes; `r2`: share of the variance that it explains."""

    transform: Transform
    slope: float
    intercept: float
    r2: float

    def expected(self, accuracy: ArrayLike) -> Floats:
        """Return what the reference models' trend expects of models of this accuracy."""
        return backward(self.slope * forward(accuracy, self.transform) + self.intercept, self.transform)


@dataclass(frozen=True)
class PivotFit:
    """Two lines: ImageNet-A was chosen so that one model gets nothing right, where its curve has a kink."""

    pivot: float  # accuracy from which on the line `above` holds
    below: Fit
    above: Fit

    def expected(self, accuracy: ArrayLike) -> Floats:
        """Return what the reference models' trend expects of models of this accuracy."""
        x = np.asarray(accuracy, dtype=np.float64)
        return np.where(x < self.pivot, self.below.expected(x), self.above.expected(x))


def effective_robustness(acc_id: ArrayLike, acc_shift: ArrayLike, fit: Fit | PivotFit) -> Floats:
    """Return by how many percentage points an accuracy under a shift exceeds what `fit` expects of `acc_id`."""
    return 100 * (np.asarray(acc_shift, dtype=np.float64) - fit.expected(acc_id))


def forward(accuracy: ArrayLike, transform: Transform) -> Floats:
    """Return transformed accuracies; 0 and 1 become infinite but for `linear`."""
    x = np.asarray(accuracy, dtype=np.float64)
    return {"logit": scipy.special.logit, "probit": scipy.special.ndtri, "linear": np.positive}[transform](x)


def backward(value: ArrayLike, transform: Transform) -> Floats:
    """Return the accuracies of transformed ones."""
    y = np.asarray(value, dtype=np.float64)
    return {"logit": scipy.special.expit, "probit": scipy.special.ndtr, "linear": np.positive}[transform](y)


def clamp(accuracy: ArrayLike, images: ArrayLike) -> Floats:
    """Return accuracies at least half an image away from 0 and from 1."""
    half = 0.5 / np.asarray(images, dtype=np.float64)
    return np.clip(np.asarray(accuracy, dtype=np.float64), half, 1 - half)


def fit_line(x: ArrayLike, y: ArrayLike, transform: Transform = "logit") -> Fit:
    """Fit the line through accuracies `x` [N] without the shift and `y` [N] under it.

    Raises:
        DataError: too few points, one that has no transform, or no two that differ in `x`.
    """
    tx, ty = forward(x, transform), forward(y, transform)
    if len(tx) < LEAST:
        raise DataError(f"a fit needs at least {LEAST} points, but there are {len(tx)}: add reference models")
    if not (np.isfinite(tx).all() and np.isfinite(ty).all()):
        raise DataError(f"an accuracy of 0 or 1, or none at all, has no {transform}: leave the model out, or clamp it")
    slope, intercept = (float(part[0]) for part in _lines(tx[None], ty[None]))
    if np.isnan(slope):
        raise DataError(f"all reference models have the accuracy {np.ravel(x)[0]:.4g}: a fit needs two that differ")
    left, whole = ((ty - slope * tx - intercept) ** 2).sum(), ((ty - ty.mean()) ** 2).sum()
    return Fit(transform, slope, intercept, float(1 - left / whole) if np.ptp(ty) > 0 else float("nan"))


def band(
    x: ArrayLike,
    y: ArrayLike,
    at: ArrayLike,
    transform: Transform = "logit",
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Return the bootstrap band of a fit: between which accuracies the line lies at `at` [X].

    Reference points are drawn with replacement, and a line is fitted to each draw; a draw whose points all have one x
    has no line and is left out.
    """
    tx, ty = forward(x, transform), forward(y, transform)
    drawn = numpy_generator(seed, "effective robustness").integers(len(tx), size=(resamples, len(tx)))
    slope, intercept = _lines(tx[drawn], ty[drawn])
    known = np.isfinite(slope)
    lines_BX = backward(slope[known, None] * forward(at, transform) + intercept[known, None], transform)
    tail = (1 - confidence) / 2
    low, high = np.quantile(lines_BX, [tail, 1 - tail], axis=0)
    return low, high


def _lines(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Fit a line by least squares to each row of x, y [B, N]; NaN where a row's x are all equal."""
    mean_x, mean_y = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    spread = np.where(np.ptp(x, axis=1) > 0, ((x - mean_x) ** 2).sum(axis=1), np.nan)
    slope = ((x - mean_x) * (y - mean_y)).sum(axis=1) / spread
    return slope, (mean_y[:, 0] - slope * mean_x[:, 0])


def study_rows(curves: pd.DataFrame, plan: Plan, *, reference: str | None) -> pd.DataFrame:
    """Return how far each checkpoint of a study lies from the curve of the mixture `reference`, by each transform.

    Classifiers are measured by the reference's classifiers, all other models by its CLIP models. Without a reference,
    or with fewer than LEAST of its checkpoints that differ, there are no rows; the log says so.

    Args:
        curves: the table curves.parquet.
        plan: y is balanced top-1 accuracy on the held-out cells of its test domain, x that on the cells of the same
            classes in its natural domain, and once more, where it was measured, top-1 accuracy on ImageNet's validation
            images; confidence of the band, and seed of its resamples.
        reference: the study's name of the mixture of natural images alone, if it was trained.

    Returns:
        The table schemas.EFFECTIVE: `expected` is the curve at x, `low` and `high` its bootstrap band (points of the
        reference drawn with replacement), `residual` is y - expected; shares, not percentage points.
    """
    axes = {f"{plan.study.natural_domain} tested {BALANCED}": (plan.study.natural_domain, "tested", BALANCED)}
    if (curves["domain"] == IMAGENET).any():
        axes[f"{IMAGENET} {POOLED}"] = (IMAGENET, "all", POOLED)
    found = [
        _by_curve(_points(curves, plan.study.test_domain, x), plan, reference).assign(x_name=name)
        for name, x in axes.items()
    ]
    names = {"reference": reference, "y_name": f"{plan.study.test_domain} held_out {BALANCED}"}
    return pd.concat(found, ignore_index=True).assign(**names)[EFFECTIVE.names]


def _by_curve(points: pd.DataFrame, plan: Plan, reference: str | None) -> pd.DataFrame:
    """Return the rows of one choice of x, the names of its axes still missing."""
    parts = []
    for kind in ("clip", "supervised"):
        mine = points[(points["kind"] == "supervised") == (kind == "supervised")]
        own = mine[(mine["kind"] == kind) & (mine["mixture"] == reference)]
        if len(mine) == 0:
            continue
        if own["checkpoint"].nunique() < LEAST or own["clamped_x"].nunique() < 2:
            logger.info(
                "no effective robustness of %s models: %d checkpoints of natural images alone, a curve needs %d",
                kind,
                own["checkpoint"].nunique(),
                LEAST,
            )
            continue
        parts += [_residuals(mine, own, transform, plan.confidence, plan.seed) for transform in TRANSFORMS]
    return pd.concat(parts, ignore_index=True) if parts else EFFECTIVE.empty()


def _points(curves: pd.DataFrame, test_domain: str, x: tuple[str, str, str]) -> pd.DataFrame:
    """Return each checkpoint's two accuracies: KEYS, x, y, and both half an image away from 0 and 1."""
    sides = []
    for axis, (domain, cells, metric) in (("x", x), ("y", (test_domain, "held_out", BALANCED))):
        side = curves[(curves["domain"] == domain) & (curves["cells"] == cells) & (curves["metric"] == metric)]
        clamped = clamp(side["estimate"], side["n"])
        sides.append(
            side[[*KEYS, "estimate"]].rename(columns={"estimate": axis}).assign(**{f"clamped_{axis}": clamped})
        )
    return sides[0].merge(sides[1], on=KEYS)


def _residuals(
    points: pd.DataFrame, own: pd.DataFrame, transform: Transform, confidence: float, seed: int
) -> pd.DataFrame:
    """Return the rows of `points` measured by the curve through the reference's points `own`."""
    x, y = own["clamped_x"].to_numpy(), own["clamped_y"].to_numpy()
    expected = fit_line(x, y, transform).expected(points["clamped_x"])
    low, high = band(x, y, points["clamped_x"], transform, confidence=confidence, seed=seed)
    columns = {"expected": expected, "residual": points["y"] - expected, "low": low, "high": high}
    return points[[*KEYS, "x", "y"]].assign(transform=transform, **columns)
