"""The main result: balanced accuracy on the held-out cells of every test domain, by mixture (paper, figure 2)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import matplotlib.figure
import numpy as np
from matplotlib.lines import Line2D

from domix.figures.charts import Line, curve, markers
from domix.figures.figure import Figure
from domix.figures.look import MM, Look
from domix.figures.panel import Panel, percent_labels, round_ticks
from domix.report.paper.collection import PRIMARY, Collection
from domix.report.paper.sheets import Shown, handles_of, keyed_sheet, lines_of

HEIGHT = 62 * MM
SPREAD = 0.76  # share of a test domain's room in which its mixtures stand
CHANCE = (0, (1, 2))


def figures(study: Collection) -> Shown:
    """Return one figure for each kind of trained models."""
    return [_figure(study, kind) for kind in study.kinds()]


def _figure(study: Collection, kind: str) -> Figure:
    models = "CLIP models" if kind == "clip" else "Supervised classifiers"
    over = ", mean over seeds (small dots: single ones)" if _several(study) else ""
    caption = (
        f"{models}: balanced top-1 accuracy on the held-out cells (test classes in the test domain){over}, with"
        f" {study.confidence * 100:g} % intervals; hollow: upper bounds, which were shown the held-out cells; dotted:"
        " chance."
    )
    name = "main-result" if kind == "clip" else f"main-result-{kind}"
    return Figure(name, "Main result", caption, caption, partial(_draw, study, kind))


def _several(study: Collection) -> bool:
    return bool(study.tables["metrics"]["seed"].nunique() > 1)


def _draw(study: Collection, kind: str, look: Look) -> matplotlib.figure.Figure:
    lines, names, domains = lines_of(study.mixtures, look.stroke), study.main(kind), study.test_domains
    handles = handles_of(look, lines, names, drawn=False)
    if _several(study):
        handles.append(Line2D([], [], color=look.mute, ls="", marker=".", ms=3, label="single seed"))
    handles.append(Line2D([], [], color=look.mute, ls=CHANCE, lw=1, label="chance"))
    width = look.wide if len(domains) * len(names) > 12 else look.panel
    figure, top = keyed_sheet(look, width, HEIGHT, handles, study.mark)
    margins = (6.5 * look.small, look.small, look.small, 3.8 * look.small)
    panel = Panel(look, figure, (0, top, width, HEIGHT), margins)
    rows = study.tables["mixtures"]
    rows = rows[(rows["kind"] == kind) & (rows["cells"] == "held_out") & (rows["metric"] == PRIMARY)]
    rows = rows[rows["mixture"].isin(names)]
    y = round_ticks(0, float(rows["high"].max()))
    panel.limits((-0.5, len(domains) - 0.5), (0, y[-1]))
    panel.mark_up(y, percent_labels(y), "balanced top-1 on\nheld-out cells, %")
    panel.mark_across(range(len(domains)), domains, "test domain")
    for place in range(1, len(domains)):
        curve(panel, [place - 0.5] * 2, [0, y[-1]], Line(look.grid, 0.6, front=0))
    for place, domain in enumerate(domains):
        _domain(panel, study, kind, domain, place, {name: lines[name] for name in names})
    return figure


def _domain(panel: Panel, study: Collection, kind: str, domain: str, place: int, lines: dict[str, Line]) -> None:
    rows = study.rows("mixtures", domain, kind, domain=domain, cells="held_out", metric=PRIMARY)
    seeds = study.rows("metrics", domain, kind, domain=domain, cells="held_out", metric=PRIMARY)
    for (name, line), x in zip(lines.items(), place + _offsets(len(lines)), strict=True):
        row = rows[rows["mixture"] == name]
        if row.empty:
            continue
        one = row.iloc[0]
        curve(panel, [x, x], [one["low"], one["high"]], replace(line, width=1.2, dashes="-", marker="", front=2))
        markers(panel, [x], [one["estimate"]], line, 4.6)
        single = seeds.loc[seeds["mixture"] == name, "estimate"]
        if len(single) > 1:
            beside = np.full(len(single), x + SPREAD / len(lines) * 0.36)
            markers(panel, beside, single, replace(line, marker=".", hollow=False, front=1), 2.0)
    if len(rows):
        chance = float(rows["chance"].iloc[0])
        curve(panel, [place - 0.46, place + 0.46], [chance, chance], Line(panel.look.mute, 1, CHANCE, front=1))


def _offsets(count: int) -> np.ndarray:
    return (np.arange(count) - (count - 1) / 2) * SPREAD / max(count, 1)
