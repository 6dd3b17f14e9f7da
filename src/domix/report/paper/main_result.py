"""The main result: balanced accuracy on the withheld cells of every test domain, by mixture (paper, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from domix.report.paper import ink
from domix.report.paper.collection import PRIMARY, Collection
from domix.report.paper.drawn import Drawn

SPREAD = 0.76  # share of a test domain's room in which its mixtures stand


def draw(study: Collection) -> list[Drawn]:
    """Draw one figure for each kind of trained models."""
    return [_draw(study, kind) for kind in study.kinds()]


def _draw(study: Collection, kind: str) -> Drawn:
    styles = ink.looks(study.mixtures)
    names = study.main(kind)
    wide = len(study.test_domains) * len(names) > 12
    figure = ink.sheet(ink.PAGE if wide else ink.COLUMN, 62, study.mark)
    axes = figure.subplots()
    for place, domain in enumerate(study.test_domains):
        _domain(axes, study, kind, domain, place, names)
    axes.set_xticks(range(len(study.test_domains)), study.test_domains)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, len(study.test_domains) - 0.5)
    axes.set_ylim(bottom=0)
    axes.grid(axis="x", visible=False)
    for place in range(1, len(study.test_domains)):
        axes.axvline(place - 0.5, color=ink.GRID, lw=0.6)
    axes.set_xlabel("test domain")
    axes.set_ylabel("balanced top-1 on\nwithheld cells, %")
    ink.percent_axis(axes.yaxis)
    several = study.tables["metrics"]["seed"].nunique() > 1
    extra = [Line2D([], [], color=ink.MUTE, ls=(0, (1, 2)), lw=1, label="chance")]
    if several:
        extra.insert(0, Line2D([], [], color=ink.MUTE, ls="", marker=".", ms=3, label="single seed"))
    ink.key(figure, names, styles, lines=False, extra=extra)
    name = "main-result" if kind == "clip" else f"main-result-{kind}"
    models = "CLIP models" if kind == "clip" else "Supervised classifiers"
    over = ", mean over seeds (small dots: single ones)" if several else ""
    caption = (
        f"{models}: balanced top-1 accuracy on the withheld cells (test classes in the test domain){over}, with"
        f" {study.confidence * 100:g} % intervals; hollow: upper bounds, which were shown the withheld cells; dotted:"
        " chance."
    )
    return Drawn(name, "Main result", caption, figure)


def _domain(axes: Axes, study: Collection, kind: str, domain: str, place: int, names: Sequence[str]) -> None:
    styles = ink.looks(study.mixtures)
    rows = study.rows("mixtures", domain, kind, domain=domain, cells="withheld", metric=PRIMARY)
    seeds = study.rows("metrics", domain, kind, domain=domain, cells="withheld", metric=PRIMARY)
    offsets = (np.arange(len(names)) - (len(names) - 1) / 2) * SPREAD / max(len(names), 1)
    for name, offset in zip(names, offsets, strict=True):
        row, x, look = rows[rows["mixture"] == name], place + offset, styles[name]
        if row.empty:
            continue
        one = row.iloc[0]
        axes.plot([x, x], [one["low"], one["high"]], color=look.colour, lw=1.2, solid_capstyle="butt", zorder=2)
        axes.plot([x], [one["estimate"]], ls="", zorder=3, **look.marks(4.6))
        single = seeds.loc[seeds["mixture"] == name, "estimate"]
        if len(single) > 1:
            beside = np.full(len(single), x + SPREAD / len(names) * 0.36)
            axes.plot(beside, single, ls="", marker=".", ms=2.4, color=look.colour, mew=0, zorder=2)
    if len(rows):
        chance = float(rows["chance"].iloc[0])
        axes.plot([place - 0.46, place + 0.46], [chance, chance], color=ink.MUTE, ls=(0, (1, 2)), lw=1, zorder=1)
