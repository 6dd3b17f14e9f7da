"""The controlled test: does a number of a model move with the domains that it was trained on, at equal ID accuracy?

Among public models, training data, architecture and accuracy differ all at once. The models of a study differ in their
training mixtures alone: so a signature of robustness is held against the number of training domains, and against
accuracy on the held-out cells, in both cases with accuracy on natural images held fixed (partial rank correlation).

Models are the units: those of one mixture with several seeds resemble each other and are no independent draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from domix.analyses.association import LEAST, Association, associate
from domix.analyses.groups import GROUPS
from domix.analyses.keys import series_key
from domix.figures.charts import dots
from domix.figures.figure import Figure
from domix.figures.look import Drawing, Look
from domix.figures.panel import panel, round_ticks
from domix.runtime.wording import MINUS, listed
from domix.study import Study

if TYPE_CHECKING:
    import pandas as pd

TESTS = {"domains": "the number of training domains", "held_out": "accuracy on the held-out cells"}
FEW = 10  # models: fewer say little
PLACES = 4
RESAMPLES = 2000
SEED = 0


def controlled_tests(models: pd.DataFrame, signature: str, confidence: float) -> dict[str, Association]:
    """Hold a number of models against each of TESTS, at equal accuracy on natural images.

    Args:
        models: a row a model: the columns of model_facts.MODELS, and `signature`.
        confidence: of the intervals.

    Returns:
        By the names of TESTS; nothing where fewer than association.LEAST models have all numbers.
    """
    units = models.assign(test_domain="", mixture="", seed=0, **{"class": range(len(models))})
    found = {}
    for test in TESTS:
        columns = [signature, test, "natural"]
        if np.isfinite(models[columns].to_numpy(dtype=np.float64)).all(axis=1).sum() < LEAST:
            continue
        found[test] = associate(
            units,
            score=signature,
            accuracy=test,
            control="natural",
            confidence=confidence,
            resamples=RESAMPLES,
            seed=SEED,
        )
    return found


def say_controlled(
    tests: Mapping[str, Mapping[str, Association]], models: pd.DataFrame, study: Study, confidence: float
) -> Markup:
    """Say what the tests of several signatures, by the words for each, found; with the key of `against_domains`.

    It speaks of the study's one group of models (`Study.kind`), and names it.
    """
    key, group = series_key(study.mixtures), GROUPS[study.kind]
    count, mixtures = len(models), models["mixture"].nunique()
    if not any(tests.values()):
        needs = f"There are {count} models: too few for a correlation, so that nothing is said of {group}."
        return Markup("<p>{}</p>{}").format(needs, key)
    lines = [
        Markup("<li>{}: {}.</li>").format(
            name[:1].upper() + name[1:], "; ".join(_said(test, each) for test, each in found.items())
        )
        for name, found in tests.items()
        if found
    ]
    few = f"{count} points say little: take this for a question, not for an answer. " if count < FEW else ""
    text = (
        f"Rank correlation over {count} models of {mixtures} mixtures, with accuracy on natural images held fixed"
        f" ({100 * confidence:g} % intervals over models, p of a permutation test). {few}"
    )
    said = _moved(tests, group, confidence)
    return Markup("<p>{}</p><p>{}</p><ul>{}</ul>{}").format(said, text, Markup("").join(lines), key)


def mean_metrics(models: pd.DataFrame, numbers: Sequence[str]) -> dict[str, float]:
    """Return numbers of models, columns of a row a model, as means of mixtures: `<mixture>.<number>`."""
    means = models.groupby("mixture", sort=False)[[*numbers]].mean()
    return {
        f"{mixture}.{name}": round(float(value), PLACES)
        for mixture, row in means.iterrows()
        for name, value in row.items()
    }


def controlled_metrics(tests: Mapping[str, Mapping[str, Association]]) -> dict[str, float]:
    """Return the correlations of signatures, by short names, that are known: `controlled.<signature>.<test>`."""
    return {
        f"controlled.{name}.{test}": round(found.estimate, PLACES)
        for name, each in tests.items()
        for test, found in each.items()
        if np.isfinite(found.estimate)
    }


def against_domains(
    analysis: str, models: pd.DataFrame, signatures: Mapping[str, str], study: Study
) -> dict[str, Figure]:
    """Return numbers of models by how many domains these were trained on, a figure a number, by its words.

    Args:
        analysis: leads the figures' names.
        models: a row a model: domains, mixture, and the columns of `signatures`; what never varies has no figure.
        signatures: words by column.
        study: whose mixtures have the colours of `keys.series_key`.
    """
    figures = {}
    for column, words in signatures.items():
        if models[column].nunique() < 2:
            continue
        means = models.groupby("mixture", sort=False)[column].mean()
        title = f"{words[:1].upper()}{words[1:]} by the number of training domains"
        alt = f"{title}: {'; '.join(f'{mixture} {value:.3g}' for mixture, value in means.items())}."
        points = models.rename(columns={"domains": "x", column: "y", "mixture": "group"})[["x", "y", "group"]]
        draw = partial(_draw, points=points, mixtures=study.mixtures)
        figures[f"{words[:1].upper()}{words[1:]}"] = Figure(
            f"{analysis}-{column}-domains", title, "A dot a model, its colour the mixture.", alt, draw
        )
    return figures


def _draw(look: Look, points: pd.DataFrame, mixtures: list[str]) -> Drawing:
    size = look.small
    made = panel(look, look.panel, 0.72 * look.panel, (3.9 * size, 0.9 * size, 1.1 * size, 3.6 * size))
    across, up = (round_ticks(float(points[axis].min()), float(points[axis].max())) for axis in "xy")
    made.limits((across[0] - 0.3, across[-1] + 0.3), (up[0], up[-1]))
    made.mark_across(across, [f"{tick:g}" for tick in across], "training domains")
    made.mark_up(up, [f"{tick:g}".replace("-", MINUS) for tick in up])
    for place, mixture in enumerate(mixtures):
        mine = points[points["group"] == mixture]
        dots(made, mine["x"], mine["y"], look.series[place % len(look.series)], 4 * look.stroke)
    return made.figure


def _moved(tests: Mapping[str, Mapping[str, Association]], group: str, confidence: float) -> str:
    """Say which numbers are shown to move with the training domains: interval and test must both say so."""
    moved: dict[str, list[str]] = {"rising": [], "falling": [], "not shown to move": []}
    for name, each in tests.items():
        if (found := each.get("domains")) is not None:
            sure = found.low * found.high > 0 and found.p < 1 - confidence
            moved[("rising" if found.estimate > 0 else "falling") if sure else "not shown to move"].append(name)
    said = "; ".join(f"{way}: {listed(names)}" for way, names in moved.items() if names)
    return (
        f"What moves with the number of training domains in {group}, at equal accuracy on natural images?"
        f" {said[:1].upper()}{said[1:]}."
    )


def _said(test: str, found: Association) -> str:
    if not np.isfinite(found.estimate):
        return f"nothing to say of {TESTS[test]}, since one of the numbers does not vary"
    low, estimate, high = (f"{value:.2f}".replace("-", MINUS) for value in (found.low, found.estimate, found.high))
    ends = f" [{low}, {high}]" if np.isfinite(found.low) else ""
    return f"{estimate}{ends}, p = {found.p:.2g}, with {TESTS[test]}"
