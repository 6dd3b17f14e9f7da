"""Learning curves: accuracy on the withheld cells and on natural pictures against the samples seen."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from domix.report.paper import ink
from domix.report.paper.collection import PRIMARY, Collection
from domix.report.paper.drawn import Drawn


def draw(study: Collection) -> list[Drawn]:
    """Draw one figure for each kind of trained models and each of both groups of cells."""
    drawn = []
    for kind in study.kinds():
        curves = study.tables["curves"]
        curves = curves[(curves["kind"] == kind) & (curves["metric"] == PRIMARY)]
        checkpoints = curves.groupby(["test_domain", "mixture", "seed"])["checkpoint"].nunique()
        if checkpoints.max() < 2:  # last weights alone, whose epochs differ from mixture to mixture
            why = "No checkpoints were kept and embedded: set train.checkpoints, and embed.checkpoints to true."
            drawn.append(Drawn(_name("learning", kind), "Learning curves", why))
            continue
        for group in ("withheld", "natural"):
            drawn.append(_draw(study, kind, group))
    return drawn


def seen(study: Collection, domain: str, kind: str, mixture: str, checkpoints: pd.Series) -> pd.Series:
    """Return the samples that a training had seen at its checkpoints (epochs); the last epoch may be cut short."""
    samples = checkpoints * study.shown[domain][mixture].samples
    total = study.total.get((domain, kind))
    return samples if total is None else samples.clip(upper=total)


def _draw(study: Collection, kind: str, group: str) -> Drawn:
    place = "withheld cells" if group == "withheld" else f"{study.natural_domain} (test classes)"
    names = study.main(kind)
    styles = ink.looks(study.mixtures)
    figure, axes = ink.panels(study.test_domains, 46, study.mark, sharey=group == "natural")
    unit, divisor = _unit(study, kind)
    for number, (panel, domain) in enumerate(zip(axes, study.test_domains, strict=True)):
        _panel(panel, study, kind, domain, group, names, styles, divisor)
        panel.set_xlabel(f"samples seen{unit}")
        if number % 3 == 0:
            panel.set_ylabel(f"balanced top-1, %\n{place}")
    ink.key(figure, names, styles, lines=True)
    name = _name(f"learning-{group}", kind)
    models = "CLIP models" if kind == "clip" else "supervised classifiers"
    caption = (
        f"Learning curves ({models}): balanced top-1 accuracy on the {place} against the samples seen, mean over seeds;"
        " the band runs from the least to the greatest seed."
    )
    return Drawn(name, "Learning curves", caption, figure)


def _name(name: str, kind: str) -> str:
    return name if kind == "clip" else f"{name}-{kind}"


def _unit(study: Collection, kind: str) -> tuple[str, float]:
    frame = study.tables["curves"]
    frame = frame[frame["kind"] == kind]
    largest = max(
        float(seen(study, str(domain), kind, str(mixture), rows["checkpoint"]).max())
        for (domain, mixture), rows in frame.groupby(["test_domain", "mixture"])
    )
    return (", millions", 1e6) if largest >= 2e6 else (", thousands", 1e3) if largest >= 2e3 else ("", 1.0)


def _panel(
    axes: Axes,
    study: Collection,
    kind: str,
    domain: str,
    group: str,
    names: Sequence[str],
    styles: dict[str, ink.Look],
    divisor: float,
) -> None:
    where = (domain, "withheld") if group == "withheld" else (study.natural_domain, "tested")
    rows = study.rows("curves", domain, kind, domain=where[0], cells=where[1], metric=PRIMARY)
    for name in names:
        one = rows[rows["mixture"] == name].groupby("checkpoint")["estimate"].agg(["mean", "min", "max"]).reset_index()
        if one.empty:
            continue
        x, look = seen(study, domain, kind, name, one["checkpoint"]) / divisor, styles[name]
        axes.fill_between(x, one["min"], one["max"], color=look.colour, alpha=0.15, lw=0)
        axes.plot(x, one["mean"], color=look.colour, ls=look.line, **look.marks(3.0))
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=-0.02 * axes.get_xlim()[1])
    ink.percent_axis(axes.yaxis)
