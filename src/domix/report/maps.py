"""The figures of the analyses: CKA by layer, the map of the embedding (UMAP), distances between domains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.report import tables
from domix.report.figures import PANEL
from domix.report.study import Results
from domix.report.style import ACCENT, GRID, HOT, INK, LETTER, MUTE, SMALL, Canvas, domain_colours, scale, ticks

CLASS_COLOURS = ("--d0", "--d1", "--d2", "--d3", "--d4", "--d5", "--d6", "--d7")


def cka(study: Results, kernel: str, classes: str) -> list[tuple[str, Markup]]:
    """Draw CKA by layer, a panel a mixture: pairs of domains with the test domain against the other pairs."""
    frame = tables.cka_layers(study, kernel, classes)
    if frame.empty:
        return []
    grid = ticks(min(0.0, frame["value"].min()), max(frame["value"].max(), 0.1), 6)
    known = [m for m in study.mixtures if m in set(frame["mixture"])]
    return [(m, _cka_panel(study, m, frame[frame["mixture"] == m], grid)) for m in known]


def _cka_panel(study: Results, mixture: str, frame: pd.DataFrame, grid: list[float]) -> Markup:
    layers = frame.drop_duplicates("layer").sort_values("depth")["layer"].tolist()
    left, bottom, right = 34.0, 158.0, PANEL - 12.0
    x = [left + 6 + i * (right - left - 12) / max(len(layers) - 1, 1) for i in range(len(layers))]
    y = scale(grid[0], grid[-1], bottom, 10)
    curves = frame.pivot(index=["group", "domain_a", "domain_b"], columns="layer", values="value")[layers]
    means = curves.groupby("group").mean().reindex(["other", "test"])
    last = means[layers[-1]]
    said = f"{last['test']:.2f} for pairs with {study.test_domain}, {last['other']:.2f} for the others"
    canvas = Canvas(PANEL, 222, f"CKA by layer of {mixture}; at the last layer {said}.")
    for tick in grid:
        canvas.line(left, y(tick), right, y(tick))
        canvas.text(left - 6, y(tick) + 4, f"{tick:g}", text_anchor="end", font_size=SMALL, fill=MUTE)
    every = -(-len(layers) // 10)
    for place, layer in list(zip(x, layers, strict=True))[::-every]:  # the last layer always has its name
        turn = f"rotate(-40 {place:.0f} {bottom + 12:.0f})"
        canvas.text(place + 3, bottom + 14, layer, text_anchor="end", font_size=SMALL, fill=MUTE, transform=turn)
    for (group, a, b), values in zip(curves.index, curves.to_numpy(), strict=True):
        points = _known(x, values, y)
        if points:
            colour = HOT if group == "test" else MUTE
            canvas.curve(points, colour, stroke_width=1, stroke_opacity=0.3, tip=f"{a} and {b}")
    for group, colour, dashes in (("other", MUTE, "7 4"), ("test", HOT, "none")):
        if points := _known(x, means.loc[group].to_numpy(), y):
            canvas.curve(points, colour, stroke_width=3, stroke_dasharray=dashes)
            canvas.dots(points, colour, 6)
    return canvas.render()


def _known(x: list[float], values: np.ndarray, y: Callable[[float], float]) -> list[tuple[float, float]]:
    """Return the points of a curve, without the layers where its value is missing."""
    return [(place, y(value)) for place, value in zip(x, values, strict=True) if not np.isnan(value)]


def umap_domains(study: Results) -> list[tuple[str, Markup]]:
    """Draw the map of each mixture's first seed, pictures coloured by domain, the test domain on top."""
    colours = domain_colours(study.domains, study.test_domain, study.natural_domain)
    panels = []
    for mixture, points in _maps(study):
        canvas = Canvas(PANEL, PANEL, f"Map of the pictures as {mixture} embeds them, coloured by domain.")
        for domain in sorted(study.domains, key=lambda d: d == study.test_domain):
            mine = points[points["domain"] == domain]
            canvas.dots(zip(mine["px"], mine["py"], strict=True), colours[domain], 4.0, stroke_opacity=0.65)
        panels.append((mixture, canvas.render()))
    return panels


def umap_classes(study: Results, chosen: list[str]) -> list[tuple[str, Markup]]:
    """Draw the map of each mixture's first seed with some test classes in colour.

    A line ties each picture of the test domain (ringed) to the middle of its class in the other domains.
    """
    panels = []
    for mixture, points in _maps(study):
        canvas = Canvas(PANEL, PANEL, f"Map of the pictures as {mixture} embeds them; {len(chosen)} classes in colour.")
        rest = points[~points["class"].isin(chosen)]
        canvas.dots(zip(rest["px"], rest["py"], strict=True), GRID, 3.0)
        for position, name in enumerate(chosen):
            mine = points[points["class"] == name]
            _class_star(canvas, mine, study.test_domain, class_colour(position))
        panels.append((mixture, canvas.render()))
    return panels


def _class_star(canvas: Canvas, points: pd.DataFrame, test_domain: str, colour: str) -> None:
    hot = points["domain"] == test_domain
    others, tested = points[~hot], points[hot]
    if len(others):
        x, y = others["px"].median(), others["py"].median()
        for px, py in zip(tested["px"], tested["py"], strict=True):
            canvas.line(px, py, x, y, colour, stroke_opacity=0.7)
    canvas.dots(zip(others["px"], others["py"], strict=True), colour, 6.0)
    for px, py in zip(tested["px"], tested["py"], strict=True):
        canvas.add("circle", cx=px, cy=py, r=4.5, fill="var(--paper)", stroke=colour, stroke_width=2.5)


def class_colour(position: int) -> str:
    """Return the colour of the highlighted class at a position."""
    return f"var({CLASS_COLOURS[position % len(CLASS_COLOURS)]})"


def highlighted(study: Results, most: int = len(CLASS_COLOURS)) -> list[str]:
    """Choose the test classes to highlight: those of which the map holds most pictures, the test domain among them."""
    first = study.first(study.umap)
    first = first[first["mixture"] == study.mixtures[0]]
    first = first[first["class"].isin(study.test_classes)]
    tested = set(first.loc[first["domain"] == study.test_domain, "class"])
    counts = first["class"].value_counts()
    order = sorted(counts.index, key=lambda name: (name not in tested, -int(counts[name]), name))
    return order[:most]


def _maps(study: Results) -> list[tuple[str, pd.DataFrame]]:
    """Return each mixture's map of the first seed, fitted into the panel without stretching: `px` and `py`."""
    maps, first = [], study.first(study.umap)
    for mixture in study.mixtures:
        points = first[first["mixture"] == mixture]
        if points.empty:  # an unfinished study
            continue
        middle = points[["x", "y"]].quantile([0.002, 0.998])
        low, high = middle.iloc[0], middle.iloc[1]
        span = max(float(high["x"] - low["x"]), float(high["y"] - low["y"]), 1e-9)
        margin, room = 8.0, PANEL - 16.0
        shift = {axis: (1 - float(high[axis] - low[axis]) / span) / 2 for axis in ("x", "y")}
        px = margin + room * ((points["x"] - low["x"]) / span + shift["x"]).clip(0, 1)
        py = margin + room * (1 - ((points["y"] - low["y"]) / span + shift["y"]).clip(0, 1))
        maps.append((mixture, points.assign(px=px.astype(float), py=py.astype(float))))
    return maps


def distances(study: Results, kind: str) -> list[tuple[str, Markup]]:
    """Draw the distances between the domains as a heat map, a panel a mixture, one scale for all; mean over seeds."""
    rows = study.distances[study.distances["kind"] == kind]
    if rows.empty:
        return []
    means = rows.groupby(["mixture", "domain_a", "domain_b"])["distance"].mean()
    most = float(means.max()) or 1.0
    known = [m for m in study.mixtures if m in set(rows["mixture"])]
    return [(mixture, _heat(study, mixture, means, most)) for mixture in known]


def _heat(study: Results, mixture: str, means: pd.Series, most: float) -> Markup:
    size = SMALL + 1
    left = max(len(d) for d in study.domains) * size * LETTER + 10
    side = (PANEL - left - 20) / len(study.domains)
    top = max(len(d) for d in study.domains) * SMALL * LETTER * 0.62 + 18
    canvas = Canvas(PANEL, top + side * len(study.domains) + 4, f"Distances between domains as {mixture} embeds them.")
    for i, a in enumerate(study.domains):
        bold = {"fill": HOT, "font_weight": 700} if a == study.test_domain else {"fill": INK}
        x, y = left + (i + 0.4) * side, top - 6
        canvas.text(x, y, a, font_size=SMALL, transform=f"rotate(-38 {x:.0f} {y:.0f})", **bold)
        canvas.text(left - 6, top + (i + 0.5) * side + 4, a, text_anchor="end", font_size=size, **bold)
        for j, b in enumerate(study.domains):
            value = _distance(means, mixture, a, b)
            if np.isnan(value) or i == j:
                continue
            share = value / most
            place = {"x": left + j * side, "y": top + i * side, "width": side - 2, "height": side - 2, "rx": 2}
            canvas.add(
                "rect", f"{a} and {b}: {value:.3f}", fill=ACCENT, fill_opacity=f"{0.05 + 0.9 * share:.2f}", **place
            )
            if side > 24:
                colour = "var(--on-accent)" if share > 0.55 else INK
                middle = (place["x"] + side / 2 - 1, place["y"] + side / 2 + 3)
                number = f"{value:.2f}" if most < 10 else f"{value:.0f}"
                canvas.text(*middle, number, text_anchor="middle", font_size=10, fill=colour)
    return canvas.render()


def _distance(means: pd.Series, mixture: str, a: str, b: str) -> float:
    """Return the distance of a pair, which may be written one way only."""
    value = means.get((mixture, a, b), means.get((mixture, b, a), float("nan")))
    return float(value)
