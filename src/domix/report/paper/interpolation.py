"""Between the main mixtures: domain by domain (paper, figures 3, 8), and by the share of held-out cells (figure 13)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import matplotlib.figure
import pandas as pd

from domix.figures.charts import Line, curve, markers
from domix.figures.figure import Figure
from domix.figures.look import MM, Look
from domix.figures.panel import Panel, gutter, percent_labels, round_ticks
from domix.report.figures.learning import draw_curves
from domix.report.paper.collection import PRIMARY, Collection
from domix.report.paper.mixtures import BASELINE, HIGH, LOW
from domix.report.paper.mixtures import Shown as Mixture
from domix.report.paper.sheets import Absent, Shown, handles_of, keyed_sheet, lines_of, panels

ROW = 4.0 * MM  # height of a domain's row in the matrix of domains
ABOVE, NAMES = 44 * MM, 16 * MM  # height of the accuracies, and of the names below the matrix
EXPOSURE = 46 * MM
ENDS = (BASELINE, "leave-out-domain", LOW, HIGH)
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SHOWN, UNSHOWN = "#0072b2", "#d55e00"  # colours of mixtures with and without images of the test domain


def domain_figures(study: Collection) -> Shown:
    """Return accuracy over sets of domains, for each test domain that has mixtures between cg-low and cg-high."""
    found = []
    for domain in study.test_domains:
        rows = _estimates(study, domain)
        names = [n for n, m in study.shown[domain].items() if n in rows.index and (m.is_between or n in ENDS)]
        if any(study.shown[domain][name].is_between for name in names):
            found.append(_domain_figure(study, domain, names, rows))
    why = "No mixture lies between cg-low and cg-high: ask for some, such as cg-low+painting."
    return found or [Absent("domain-interpolation", "Domain interpolation", why)]


def _estimates(study: Collection, domain: str) -> pd.DataFrame:
    """Return the CLIP models' held-out accuracy by mixture."""
    rows = study.rows("mixtures", domain, "clip", domain=domain, cells="held_out", metric=PRIMARY)
    return rows.set_index("mixture")


def _domain_figure(study: Collection, domain: str, names: Sequence[str], rows: pd.DataFrame) -> Figure:
    shown = study.shown[domain]
    names = sorted(names, key=lambda name: (len(shown[name].domains), float(rows.loc[name, "estimate"]), name))
    caption = (
        f"From cg-low to cg-high by domains, test domain {domain}: balanced top-1 accuracy on the held-out cells with"
        f" {study.confidence * 100:g} % intervals over the domains that the mixture shows (filled dots below), fewest"
        " first. Circles: other classes of the test domain are shown, too; diamonds: nothing of it; filled: main"
        " mixtures."
    )
    draw = partial(_draw_domains, study, domain, [shown[name] for name in names], rows.loc[names])
    return Figure(f"domain-interpolation-{domain}", "Domain interpolation", caption, caption, draw)


def _draw_domains(
    study: Collection, domain: str, mixtures: Sequence[Mixture], rows: pd.DataFrame, look: Look
) -> matplotlib.figure.Figure:
    width = look.wide if len(mixtures) > 8 else look.panel
    matrix = ROW * len(study.domains)
    figure, top = keyed_sheet(look, width, ABOVE + matrix + NAMES, (), study.mark)
    left = max(gutter(study.domains, look.small) + 2 * look.small, 6.5 * look.small)
    above = Panel(look, figure, (0, top, width, ABOVE), (left, 2.2 * look.small, look.small, 0.6 * look.small))
    above.title(f"test domain: {domain}")
    y = round_ticks(0, float(rows["high"].max()))
    above.limits((-0.6, len(mixtures) - 0.4), (0, y[-1]))
    above.mark_up(y, percent_labels(y), "balanced top-1 on\nheld-out cells, %")
    for place, (mixture, (_, one)) in enumerate(zip(mixtures, rows.iterrows(), strict=True)):
        tests = domain in mixture.domains
        line = Line(SHOWN if tests else UNSHOWN, 1.2, marker="o" if tests else "D", hollow=mixture.name not in ENDS)
        curve(above, [place] * 2, [one["low"], one["high"]], Line(line.colour, 1.2))
        markers(above, [place], [one["estimate"]], line, 4.6)
    below = Panel(look, figure, (0, top + ABOVE, width, matrix + NAMES), (left, 0, look.small, NAMES))
    below.limits((-0.6, len(mixtures) - 0.4), (-0.6, len(study.domains) - 0.4))
    _matrix(below, study, domain, mixtures)
    return figure


def _matrix(panel: Panel, study: Collection, test_domain: str, mixtures: Sequence[Mixture]) -> None:
    """Draw which domains each mixture shows: a column of dots, joined."""
    look = panel.look
    height = {domain: len(study.domains) - 1 - place for place, domain in enumerate(study.domains)}
    for domain, level in height.items():
        panel.label(level, domain, fontweight=700 if domain == test_domain else 400)
    turned = {"rotation": 30, "rotation_mode": "anchor", "ha": "right", "va": "top", "transform": panel.below}
    for place, mixture in enumerate(mixtures):
        held = [height[domain] for domain in mixture.domains]
        empty = [level for level in height.values() if level not in held]
        markers(panel, [place] * len(empty), empty, Line(look.grid, 0.8, marker="o", hollow=True, front=0), 3.4)
        curve(panel, [place, place], [min(held), max(held)], Line(look.ink, 0.9))
        markers(panel, [place] * len(held), held, Line(look.ink, 0.9, marker="o"), 3.2)
        if mixture.name in ENDS:
            panel.text(place, 0.4 * look.small, mixture.name, **turned)


def exposure_figures(study: Collection) -> Shown:
    """Return accuracy over the share of the held-out cells' samples that training shows."""
    with_parts = [domain for domain in study.test_domains if _has_parts(study, domain)]
    if not with_parts:
        why = "No mixture shows a part of the held-out cells: ask for some, such as cg-high+0.1."
        return [Absent("exposure-interpolation", "Exposure interpolation", why)]
    caption = (
        "Exposure: balanced top-1 accuracy on the held-out cells over the share of their samples that training shows"
        f" (0: cg-low, cg-high; 100: cg-low-all, cg-high-all), with {study.confidence * 100:g} % intervals."
    )
    draw = partial(_draw_exposure, study, with_parts)
    return [Figure("exposure-interpolation", "Exposure interpolation", caption, caption, draw)]


def _has_parts(study: Collection, domain: str) -> bool:
    evaluated = _estimates(study, domain).index
    return any(mixture.is_partial for name, mixture in study.shown[domain].items() if name in evaluated)


def _draw_exposure(study: Collection, domains: Sequence[str], look: Look) -> matplotlib.figure.Figure:
    curves = {domain: exposure_curves(study, domain) for domain in domains}
    every = pd.concat(curves.values())
    lines = lines_of([family for family in (LOW, HIGH) if (every["mixture"] == family).any()], look.stroke)
    margins = (6.5 * look.small, 2.2 * look.small, 1.2 * look.small, 3.8 * look.small)
    figure, made = panels(look, domains, EXPOSURE, margins, handles_of(look, lines, list(lines)), study.mark)
    y = round_ticks(0, float(every["high"].max()))
    for place, (panel, domain) in enumerate(zip(made, domains, strict=True)):
        panel.limits((-0.03, 1.03), (0, y[-1]))
        panel.mark_across(SHARES, percent_labels(SHARES), "share of the held-out cells shown, %", lines=True)
        panel.mark_up(y, percent_labels(y), "balanced top-1 on\nheld-out cells, %" if place % 3 == 0 else "")
        draw_curves(panel, curves[domain], lines, banded=list(lines))
    return figure


def exposure_curves(study: Collection, domain: str) -> pd.DataFrame:
    """Return cg-low's and cg-high's curves over the share shown: `mixture, x, y, low, high`."""
    rows, found = _estimates(study, domain), []
    for family in (LOW, HIGH):
        points = {
            mixture.share: name
            for name, mixture in study.shown[domain].items()
            if name in rows.index and mixture.line == family
        }
        if len(points) > 1:
            for share in sorted(points):
                one = rows.loc[points[share]]
                found.append((family, share, one["estimate"], one["low"], one["high"]))
    return pd.DataFrame(found, columns=["mixture", "x", "y", "low", "high"])
