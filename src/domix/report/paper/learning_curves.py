"""Learning curves: accuracy on the held-out cells and on natural images against the samples seen."""

from __future__ import annotations

from functools import partial

import matplotlib.figure
import pandas as pd

from domix.figures.figure import Figure
from domix.figures.look import MM, Look
from domix.figures.panel import percent_labels, round_ticks, ticks_within
from domix.report.figures.learning import draw_curves, over_seeds
from domix.report.paper.collection import PRIMARY, Collection
from domix.report.paper.sheets import Absent, Shown, handles_of, lines_of, panels

HEIGHT = 46 * MM
UNITS = ((2e6, 1e6, ", millions"), (2e3, 1e3, ", thousands"), (0.0, 1.0, ""))  # from, divisor, what it is called


def figures(study: Collection) -> Shown:
    """Return one figure for each kind of trained models and each of both groups of cells."""
    found: list[Figure | Absent] = []
    for kind in study.kinds():
        curves = study.tables["curves"]
        curves = curves[(curves["kind"] == kind) & (curves["metric"] == PRIMARY)]
        checkpoints = curves.groupby(["test_domain", "mixture", "seed"])["checkpoint"].nunique()
        if checkpoints.max() < 2:  # last weights alone, whose epochs differ from mixture to mixture
            why = "No checkpoints were kept and embedded: set train.checkpoints, and embed.checkpoints to true."
            found.append(Absent(_name("learning", kind), "Learning curves", why))
            continue
        found += [_figure(study, kind, group) for group in ("held_out", "natural")]
    return found


def seen(study: Collection, domain: str, kind: str, mixture: str, checkpoints: pd.Series) -> pd.Series:
    """Return the samples that a training had seen at its checkpoints (epochs); the last epoch may be cut short."""
    samples = checkpoints * study.shown[domain][mixture].samples
    total = study.total.get((domain, kind))
    return samples if total is None else samples.clip(upper=total)


def curves_of(study: Collection, domain: str, kind: str, group: str) -> pd.DataFrame:
    """Return the curves of a test domain's mixtures over samples seen, as `over_seeds`."""
    where = (domain, "held_out") if group == "held_out" else (study.natural_domain, "tested")
    rows = study.rows("curves", domain, kind, domain=where[0], cells=where[1], metric=PRIMARY)
    rows = rows[rows["mixture"].isin(study.main(kind))]
    parts = [seen(study, domain, kind, str(name), part["checkpoint"]) for name, part in rows.groupby("mixture")]
    return over_seeds(rows.assign(x=pd.concat(parts) if parts else pd.Series(dtype=float)))


def _figure(study: Collection, kind: str, group: str) -> Figure:
    place = "held-out cells" if group == "held_out" else f"{study.natural_domain} (test classes)"
    models = "CLIP models" if kind == "clip" else "supervised classifiers"
    caption = (
        f"Learning curves ({models}): balanced top-1 accuracy on the {place} against the samples seen, mean over seeds;"
        " the band runs from the least to the greatest seed."
    )
    draw = partial(_draw, study, kind, group, place)
    return Figure(_name(f"learning-{group}", kind), "Learning curves", caption, caption, draw)


def _name(name: str, kind: str) -> str:
    return name if kind == "clip" else f"{name}-{kind}"


def _draw(study: Collection, kind: str, group: str, place: str, look: Look) -> matplotlib.figure.Figure:
    names, lines = study.main(kind), lines_of(study.mixtures, look.stroke)
    curves = {domain: curves_of(study, domain, kind, group) for domain in study.test_domains}
    margins = (6.5 * look.small, 2.2 * look.small, 1.2 * look.small, 3.8 * look.small)
    figure, made = panels(look, study.test_domains, HEIGHT, margins, handles_of(look, lines, names), study.mark)
    most = max(float(curve["x"].max()) for curve in curves.values())
    _, divisor, unit = next(unit for unit in UNITS if most >= unit[0])
    highest = max(float(curve["high"].max()) for curve in curves.values())
    for number, (panel, domain) in enumerate(zip(made, study.test_domains, strict=True)):
        mine = curves[domain].assign(x=curves[domain]["x"] / divisor)
        top = highest if group == "natural" else float(mine["high"].max())
        end = float(mine["x"].max()) or 1.0
        x, y = ticks_within(end), round_ticks(0, top)
        panel.limits((-0.02 * end, end), (0, y[-1]))
        panel.mark_across(x, [f"{value:g}" for value in x], f"samples seen{unit}", lines=True)
        panel.mark_up(y, percent_labels(y), f"balanced top-1, %\n{place}" if number % 3 == 0 else "")
        there = [name for name in names if (mine["mixture"] == name).any()]
        draw_curves(panel, mine, {name: lines[name] for name in there}, banded=there)
    return figure
