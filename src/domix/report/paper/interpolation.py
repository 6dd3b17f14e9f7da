"""Between the main mixtures: domain by domain (paper, figures 3, 8), and by the share of withheld cells (figure 13)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from domix.report.paper import ink
from domix.report.paper.collection import PRIMARY, Collection
from domix.report.paper.drawn import Drawn
from domix.report.paper.mixtures import BASELINE, HIGH, LOW, Shown

ROW = 4.0  # height of a domain's row in the matrix of domains, millimetres
ENDS = (BASELINE, "leave-out-domain", LOW, HIGH)


def draw_domains(study: Collection) -> list[Drawn]:
    """Draw accuracy over sets of domains, for each test domain that has mixtures between cg-low and cg-high."""
    drawn = []
    for domain in study.test_domains:
        rows = _estimates(study, domain)
        names = [n for n, m in study.shown[domain].items() if n in rows.index and (m.is_between or n in ENDS)]
        if any(study.shown[domain][name].is_between for name in names):
            drawn.append(_domain_figure(study, domain, names, rows))
    why = "No mixture lies between cg-low and cg-high: ask for some, such as cg-low+painting."
    return drawn or [Drawn("domain-interpolation", "Domain interpolation", why)]


def _estimates(study: Collection, domain: str) -> pd.DataFrame:
    """Return the CLIP models' withheld accuracy by mixture."""
    rows = study.rows("mixtures", domain, "clip", domain=domain, cells="withheld", metric=PRIMARY)
    return rows.set_index("mixture")


def _domain_figure(study: Collection, domain: str, names: Sequence[str], rows: pd.DataFrame) -> Drawn:
    shown = study.shown[domain]
    names = sorted(names, key=lambda name: (len(shown[name].domains), float(rows.loc[name, "estimate"]), name))
    wide = len(names) > 8
    matrix = ROW * len(study.domains)
    figure = ink.sheet(ink.PAGE if wide else ink.COLUMN, 60 + matrix, study.mark)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[40, matrix])
    for place, name in enumerate(names):
        one = rows.loc[name]
        colour = "#0072b2" if domain in shown[name].domains else "#d55e00"
        above.plot([place, place], [one["low"], one["high"]], color=colour, lw=1.2, zorder=2)
        face = colour if name in ENDS else "white"
        marker = "o" if domain in shown[name].domains else "D"
        above.plot([place], [one["estimate"]], ls="", marker=marker, ms=4.6, mfc=face, mec=colour, mew=0.9, zorder=3)
    above.set_ylim(0, float(rows.loc[list(names), "high"].max()) * 1.05)
    above.set_ylabel("balanced top-1 on\nwithheld cells, %")
    above.tick_params(axis="x", length=0)
    above.grid(axis="x", visible=False)
    above.set_title(f"test domain: {domain}")
    ink.percent_axis(above.yaxis)
    _matrix(below, study, domain, [shown[name] for name in names])
    caption = (
        f"From cg-low to cg-high by domains, test domain {domain}: balanced top-1 accuracy on the withheld cells with"
        f" {study.confidence * 100:g} % intervals over the domains that the mixture shows (filled dots below), fewest"
        " first. Circles: other classes of the test domain are shown, too; diamonds: nothing of it; filled: main"
        " mixtures."
    )
    return Drawn(f"domain-interpolation-{domain}", "Domain interpolation", caption, figure)


def _matrix(axes: Axes, study: Collection, test_domain: str, mixtures: Sequence[Shown]) -> None:
    """Draw which domains each mixture shows: a column of dots, joined."""
    height = {domain: len(study.domains) - 1 - place for place, domain in enumerate(study.domains)}
    for place, mixture in enumerate(mixtures):
        held = [height[domain] for domain in mixture.domains]
        empty = [level for level in height.values() if level not in held]
        axes.plot(np.full(len(empty), place), empty, ls="", marker="o", ms=3.4, mfc="white", mec=ink.GRID, mew=0.8)
        axes.plot([place, place], [min(held), max(held)], color=ink.INK, lw=0.9)
        axes.plot(np.full(len(held), place), held, ls="", marker="o", ms=3.6, color=ink.INK)
    axes.set_yticks(list(height.values()), list(height))
    for label in axes.get_yticklabels():
        if label.get_text() == test_domain:
            label.set_fontweight("bold")
    ends = {place: mixture.name for place, mixture in enumerate(mixtures) if mixture.name in ENDS}
    axes.set_xticks(list(ends), list(ends.values()), rotation=30, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(mixtures) - 0.4)
    axes.set_ylim(-0.6, len(height) - 0.4)
    axes.tick_params(axis="both", length=0)
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_ylabel("domains shown")


def draw_exposure(study: Collection) -> list[Drawn]:
    """Draw accuracy over the share of the withheld cells' samples that training shows."""
    with_parts = [domain for domain in study.test_domains if _has_parts(study, domain)]
    if not with_parts:
        why = "No mixture shows a part of the withheld cells: ask for some, such as cg-high+0.1."
        return [Drawn("exposure-interpolation", "Exposure interpolation", why)]
    styles = ink.looks(study.mixtures)
    figure, axes = ink.panels(with_parts, 46, study.mark, sharey=True)
    found = [_exposure(panel, study, domain) for panel, domain in zip(axes, with_parts, strict=True)]
    for place, panel in enumerate(axes):
        panel.set_xlabel("share of the withheld cells shown, %")
        if place % 3 == 0:
            panel.set_ylabel("balanced top-1 on\nwithheld cells, %")
    axes[0].set_ylim(bottom=0)
    families = [family for family in (LOW, HIGH) if any(family in lines for lines in found)]
    ink.key(figure, families, ink.looks(families) | styles, lines=True)
    caption = (
        "Exposure: balanced top-1 accuracy on the withheld cells over the share of their samples that training shows"
        f" (0: cg-low, cg-high; 100: cg-low-all, cg-high-all), with {study.confidence * 100:g} % intervals."
    )
    return [Drawn("exposure-interpolation", "Exposure interpolation", caption, figure)]


def _has_parts(study: Collection, domain: str) -> bool:
    evaluated = _estimates(study, domain).index
    return any(mixture.is_partial for name, mixture in study.shown[domain].items() if name in evaluated)


def _exposure(axes: Axes, study: Collection, domain: str) -> list[str]:
    """Draw one test domain's lines; return the families that it has."""
    rows, found = _estimates(study, domain), []
    for family in (LOW, HIGH):
        points = {
            mixture.share: name
            for name, mixture in study.shown[domain].items()
            if name in rows.index and mixture.line == family
        }
        if len(points) < 2:
            continue
        shares = sorted(points)
        line, look = rows.loc[[points[share] for share in shares]], ink.looks([family])[family]
        axes.fill_between(shares, line["low"], line["high"], color=look.colour, alpha=0.18, lw=0)
        axes.plot(shares, line["estimate"], color=look.colour, ls=look.line, **look.marks(4.0))
        found.append(family)
    ink.percent_axis(axes.xaxis, [0, 0.2, 0.4, 0.6, 0.8, 1])
    ink.percent_axis(axes.yaxis)
    axes.set_xlim(-0.03, 1.03)
    return found
