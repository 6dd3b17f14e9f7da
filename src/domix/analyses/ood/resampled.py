"""Metrics of every run with intervals, and differences between mixtures, from one bootstrap of all.

Shapes: N images, B resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from domix.analyses.ood.images import Flags, Floats, Group
from domix.analyses.ood.settings import Settings
from domix.evaluate.statistics import percentile_interval
from domix.ood.metrics import aupr
from domix.ood.resampling import Resampled, bootstrap_scores
from domix.study import Run, Study

METRICS = ("auroc", "fpr95")  # those that are resampled
MEAN = "mean"  # over the sets of a group


class Case(NamedTuple):
    """What is told from what, by which score."""

    score: str
    group: str
    set: str
    known: str


def known_images(known: Flags, groups: Mapping[Group, Flags]) -> dict[str, Flags]:
    """Return the known images [N] without and with those of the test domain (the full spectrum, OpenOOD v1.5)."""
    shifted = next((images for (group, _), images in groups.items() if group == "seen"), None)
    return {"natural": known} | ({} if shifted is None else {"full": known | shifted})


def measure(
    scores: Mapping[Run, Mapping[str, Floats]], known: Flags, groups: Mapping[Group, Flags], settings: Settings
) -> dict[Run, dict[Case, Resampled]]:
    """Resample every group of two images or more against the known images, all runs and scores on the same draws.

    Of a group that several sets are of, their mean is added.
    """
    flat = {(run, name): values for run, mine in scores.items() for name, values in mine.items()}
    keys = {f"{run.name} {name}": (run, name) for run, name in flat}
    measured: dict[Run, dict[Case, Resampled]] = {run: {} for run in scores}
    for which, images in known_images(known, groups).items():
        told = {group: at for group, at in groups.items() if at.sum() > 1 and not (at & images).any()}
        names = {" ".join(group): group for group in told}
        resampled = bootstrap_scores(
            {key: flat[pair][images] for key, pair in keys.items()},
            {name: {key: flat[pair][told[group]] for key, pair in keys.items()} for name, group in names.items()},
            resamples=settings.resamples,
            seed=settings.seed,
            convention=settings.convention,
        )
        for (key, name), found in resampled.items():
            run, score = keys[key]
            measured[run][Case(score, *names[name], which)] = found
    return {run: found | _means(found) for run, found in measured.items()}


def _means(measured: Mapping[Case, Resampled]) -> dict[Case, Resampled]:
    """Return the means over the sets of a group, where there are several."""
    found: dict[Case, list[Resampled]] = {}
    for case, resampled in measured.items():
        found.setdefault(case._replace(set=MEAN), []).append(resampled)
    return {
        case: Resampled(
            float(np.mean([part.auroc for part in parts])),
            float(np.mean([part.fpr95 for part in parts])),
            np.mean([part.aurocs for part in parts], axis=0),
            np.mean([part.fpr95s for part in parts], axis=0),
            min(part.images for part in parts),
        )
        for case, parts in found.items()
        if len(parts) > 1
    }


def metric_rows(
    scores: Mapping[Run, Mapping[str, Floats]],
    known: Flags,
    groups: Mapping[Group, Flags],
    measured: Mapping[Run, Mapping[Case, Resampled]],
    confidence: float,
) -> list[dict[str, Any]]:
    """Return the rows of the table metrics; AUPR has no interval."""
    which, rows = known_images(known, groups), []
    for run, mine in measured.items():
        for case, resampled in mine.items():
            sizes = {"n_known": int(which[case.known].sum()), "n_ood": _size(case, groups)}
            head = {"mixture": run.mixture, "seed": run.seed, **case._asdict()}
            for metric in METRICS:
                interval = resampled.interval(metric, confidence)
                ends = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
                rows.append(head | {"metric": metric} | ends | sizes)
            if case.set != MEAN:
                inside, outside = (
                    scores[run][case.score][at] for at in (which[case.known], groups[case.group, case.set])
                )
                for positive in ("id", "ood"):
                    ends = {"estimate": aupr(inside, outside, positive=positive), "low": np.nan, "high": np.nan}
                    rows.append(head | {"metric": f"aupr_{positive}"} | ends | sizes)
    return rows


def _size(case: Case, groups: Mapping[Group, Flags]) -> int:
    return sum(
        int(at.sum()) for (group, name), at in groups.items() if group == case.group and case.set in (name, MEAN)
    )


def difference_rows(
    study: Study, measured: Mapping[Run, Mapping[Case, Resampled]], confidence: float
) -> list[dict[str, Any]]:
    """Return the rows of the table differences: every two mixtures, mean over the seeds that both have."""
    rows = []
    for before, mixture in combinations(study.mixtures, 2):
        pairs = list(_of_equal_seeds(measured, mixture, before))
        for case in next((found for found, _ in pairs), {}):
            for metric in METRICS:
                ours, theirs = ([pair[side][case] for pair in pairs] for side in (0, 1))
                estimate = np.mean([getattr(a, metric) - getattr(b, metric) for a, b in zip(ours, theirs, strict=True)])
                change = [
                    getattr(a, f"{metric}s") - getattr(b, f"{metric}s") for a, b in zip(ours, theirs, strict=True)
                ]
                interval = percentile_interval(
                    float(estimate),
                    np.mean(change, axis=0),
                    confidence=confidence,
                    classes=ours[0].images,
                    least=-1.0,
                )
                names = {"mixture_a": mixture, "mixture_b": before, **case._asdict(), "metric": metric}
                ends = {"difference": interval.estimate, "low": interval.low, "high": interval.high}
                rows.append(names | ends | {"seeds": len(pairs)})
    return rows


def _of_equal_seeds(
    measured: Mapping[Run, Mapping[Case, Resampled]], mixture: str, before: str
) -> Iterator[tuple[Mapping[Case, Resampled], Mapping[Case, Resampled]]]:
    of_seed = {(run.mixture, run.seed): found for run, found in measured.items()}
    for (name, seed), found in of_seed.items():
        if name == mixture and (before, seed) in of_seed:
            yield found, of_seed[before, seed]
