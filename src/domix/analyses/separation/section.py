"""What the report shows of separation: maps of the embedding, and how far apart the domains lie."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.contract import Figure, Part, Results, Section
from domix.analyses.runs import first_seeds, mixtures_of
from domix.report.figures.canvas import ACCENT, GRID, HOT, INK, LETTER, SMALL, Canvas, domain_colours
from domix.runtime.wording import spaced
from domix.study import Study

PANEL = 300.0
CLASS_COLOURS = ("--d0", "--d1", "--d2", "--d3", "--d4", "--d5", "--d6", "--d7")
PLOTTED = ["mixture", "domain", "class", "withheld", "x", "y"]
BY_DOMAIN = Markup(
    """<p>A map (UMAP) of the picture embeddings: pictures that the model finds alike lie close. Islands of one colour
mean that the model sorts by style first; mixed colours mean that it looks past style. Distances across a map,
and between maps, mean little.</p>
<ul class="key">{key}</ul>"""
)
BY_CLASS = Markup(
    """<p>The same maps with {number} test classes in colour, {test_domain} pictures as rings. A line ties each ring to
the middle of its class in the other domains: where the lines are short, the model has put the {test_domain}
picture with its class.</p>
<ul class="key">{key}<li><i class="ring"></i> {test_domain}</li></ul>"""
)
APART = Markup(
    """<p>Distances between the domains' mean embeddings, measured in the full space and not on the map: the stronger
the colour, the farther. A strong row and column for <span class="hot">{test_domain}</span> means that the model
keeps it apart from the other styles.</p>"""
)
KEY = Markup('<li><i style="background:{colour}"></i> {name}</li>')


def section(results: Results, study: Study) -> Section:
    """Show the maps by domain and by class, and the distances."""
    umap, distances = results.tables["umap"], results.tables["distances"]
    maps = _maps(study, umap)
    chosen = highlighted(study, umap)
    apart = distance_panels(study, distances, "domain")
    within = distance_panels(study, distances, "class")
    parts = [
        Part("Where pictures lie, by domain", _by_domain(study), map_panels(study, maps)),
        Part("Where pictures lie, by class", _by_class(study, chosen), class_panels(study, maps, chosen)),
        Part(
            "How far apart the domains lie",
            APART.format(test_domain=study.test_domain),
            apart,
            {"Mean distance between two domains' pictures of the same class": within} if within else {},
        ),
    ]
    shown = (bool(maps), bool(chosen), bool(apart))
    return Section(
        "Separation",
        [part for part, has in zip(parts, shown, strict=True) if has],
        plots={"umap": first_seeds(study, umap)[PLOTTED], "distances": distance_plot(distances)},
    )


def _by_domain(study: Study) -> Markup:
    colours = domain_colours(study.domains, study.test_domain, study.natural_domain)
    names = {domain: f"{domain} (tested)" if domain == study.test_domain else domain for domain in colours}
    key = Markup("").join(KEY.format(colour=colour, name=names[domain]) for domain, colour in colours.items())
    return BY_DOMAIN.format(key=key)


def _by_class(study: Study, chosen: list[str]) -> Markup:
    key = Markup("").join(
        KEY.format(colour=class_colour(place), name=spaced(name)) for place, name in enumerate(chosen)
    )
    return BY_CLASS.format(number=len(chosen), test_domain=study.test_domain, key=key)


def distance_plot(distances: pd.DataFrame) -> pd.DataFrame:
    """Return the distances of the domains' means, mean over seeds, every ordered pair once."""
    rows = distances[distances["kind"] == "domain"]
    keys = ["mixture", "domain_a", "domain_b"]
    means = rows.groupby(keys, sort=False, as_index=False)["distance"].mean()
    turned = means.rename(columns={"domain_a": "domain_b", "domain_b": "domain_a"})[means.columns]
    return pd.concat([means, turned], ignore_index=True).drop_duplicates(keys)


def map_panels(study: Study, maps: list[tuple[str, pd.DataFrame]]) -> list[Figure]:
    """Draw the map of each mixture's first seed, pictures coloured by domain, the test domain on top."""
    return [Figure(mixture, partial(_map, study, mixture, points)) for mixture, points in maps]


def _map(study: Study, mixture: str, points: pd.DataFrame) -> Markup:
    colours = domain_colours(study.domains, study.test_domain, study.natural_domain)
    canvas = Canvas(PANEL, PANEL, f"Map of the pictures as {mixture} embeds them, coloured by domain.")
    for domain in sorted(study.domains, key=lambda d: d == study.test_domain):
        mine = points[points["domain"] == domain]
        canvas.dots(zip(mine["px"], mine["py"], strict=True), colours[domain], 4.0, stroke_opacity=0.65)
    return canvas.render()


def class_panels(study: Study, maps: list[tuple[str, pd.DataFrame]], chosen: list[str]) -> list[Figure]:
    """Draw the map of each mixture's first seed with some test classes in colour.

    A line ties each picture of the test domain (ringed) to the middle of its class in the other domains.
    """
    return [Figure(mixture, partial(_class_map, study, mixture, points, chosen)) for mixture, points in maps]


def _class_map(study: Study, mixture: str, points: pd.DataFrame, chosen: list[str]) -> Markup:
    canvas = Canvas(PANEL, PANEL, f"Map of the pictures as {mixture} embeds them; {len(chosen)} classes in colour.")
    rest = points[~points["class"].isin(chosen)]
    canvas.dots(zip(rest["px"], rest["py"], strict=True), GRID, 3.0)
    for position, name in enumerate(chosen):
        _class_star(canvas, points[points["class"] == name], study.test_domain, class_colour(position))
    return canvas.render()


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


def highlighted(study: Study, umap: pd.DataFrame, most: int = len(CLASS_COLOURS)) -> list[str]:
    """Choose the test classes to highlight: those of which the map holds most pictures, the test domain among them."""
    first = first_seeds(study, umap)
    first = first[first["mixture"] == mixtures_of(study)[0]]
    first = first[first["class"].isin(study.test_classes)]
    tested = set(first.loc[first["domain"] == study.test_domain, "class"])
    counts = first["class"].value_counts()
    order = sorted(counts.index, key=lambda name: (name not in tested, -int(counts[name]), name))
    return order[:most]


def _maps(study: Study, umap: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return each mixture's map of the first seed, fitted into the panel without stretching: `px` and `py`."""
    maps, first = [], first_seeds(study, umap)
    for mixture in mixtures_of(study):
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


def distance_panels(study: Study, distances: pd.DataFrame, kind: str) -> list[Figure]:
    """Draw the distances between the domains as a heat map, a panel a mixture, one scale for all; mean over seeds."""
    rows = distances[distances["kind"] == kind]
    if rows.empty:
        return []
    means = rows.groupby(["mixture", "domain_a", "domain_b"])["distance"].mean()
    most = float(means.max()) or 1.0
    known = [m for m in mixtures_of(study) if m in set(rows["mixture"])]
    return [Figure(mixture, partial(_heat, study, mixture, means, most)) for mixture in known]


def _heat(study: Study, mixture: str, means: pd.Series, most: float) -> Markup:
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
