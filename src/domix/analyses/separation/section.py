"""What the report shows of separation: maps of the embedding, and how far apart the domains lie."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.keys import domain_key, series_key
from domix.analyses.pairs import both_ways, square
from domix.analyses.runs import first_seeds
from domix.analyses.separation.dimension_panels import dimension_parts
from domix.figures import embedding
from domix.figures.figure import Figure
from domix.figures.look import SERIES, Drawing, Look
from domix.runtime.wording import spaced
from domix.study import Study

PLOTTED = ["mixture", "domain", "class", "held_out", "x", "y"]
DOTS = 100  # of a mixture and domain in the data of `dvc plots`, which lie in Git; the page's map has all
BY_DOMAIN = Markup(
    """<p>A map (UMAP) of the image embeddings: images that the model finds alike lie close. Islands of one colour
mean that the model sorts by style first; mixed colours mean that it looks past style. Distances across a map,
and between maps, mean little.</p>
{key}"""
)
BY_CLASS = Markup(
    """<p>The same maps with {number} test classes in colour, {test_domain} images as rings. A line ties each ring to
the middle of its class in the other domains: where the lines are short, the model has put the {test_domain}
image with its class.</p>
{key}"""
)
APART = Markup(
    """<p>Distances between the domains' mean embeddings, measured in the full space and not on the map: the stronger
the colour, the farther. A strong row and column for <span class="hot">{test_domain}</span> means that the model
keeps it apart from the other styles.</p>"""
)
WITHOUT = Markup(
    """<p>The same images without those of {without}, laid out anew: what of the order among the other styles was
crowded out by that one.</p>
{key}"""
)
RING = Markup('<li><i class="ring"></i> {test_domain}</li>')


def section(results: AnalysisResults, study: Study) -> Section:
    """Show the maps by domain and by class, and the distances."""
    umap, distances = results.tables["umap"], results.tables["distances"]
    maps = _maps(study, umap)
    chosen = highlighted(study, umap) if maps else []
    apart = distance_panels(study, distances, "domain")
    within = distance_panels(study, distances, "class")
    parts = [
        Subsection("Where images lie, by domain", BY_DOMAIN.format(key=domain_key(study)), map_panels(study, maps)),
        *_second_map(results, study),
        Subsection(
            "Where images lie, by class", _by_class(study, chosen), class_panels(study, maps, chosen) if chosen else {}
        ),
        Subsection(
            "How far apart the domains lie",
            APART.format(test_domain=study.test_domain),
            apart,
            {"Mean distance between two domains' images of the same class": within} if within else {},
        ),
        *dimension_parts(results.tables["differences"], results.tables["scatter"], study),
    ]
    return Section(
        "Separation",
        [part for part in parts if part.figures],
        plots={"umap": thinned(first_seeds(study, umap))[PLOTTED], "distances": distance_plot(distances)},
    )


def _second_map(results: AnalysisResults, study: Study) -> list[Subsection]:
    """Return the maps without one domain, where they were asked for."""
    maps, without = _maps(study, results.tables["umap_without"]), results.settings.without
    key = domain_key(study)
    text = WITHOUT.format(without=without, key=key)
    if not maps:
        return []
    figures = map_panels(study, maps, "without", f", without {without}")
    return [Subsection(f"Where images lie without {without}", text, figures)]


def _by_class(study: Study, chosen: list[str]) -> Markup:
    key = series_key([spaced(name) for name in chosen], RING.format(test_domain=study.test_domain))
    return BY_CLASS.format(number=len(chosen), test_domain=study.test_domain, key=key)


def distance_plot(distances: pd.DataFrame) -> pd.DataFrame:
    """Return the distances of the domains' means, mean over seeds, every ordered pair once."""
    rows = distances[distances["kind"] == "domain"]
    keys = ["mixture", "domain_a", "domain_b"]
    return both_ways(rows.groupby(keys, sort=False, as_index=False)["distance"].mean())


def map_panels(study: Study, maps: dict[str, pd.DataFrame], kind: str = "domains", more: str = "") -> dict[str, Figure]:
    """Return the map of each mixture's first seed, images coloured by domain, the test domain on top."""

    def draw(points: pd.DataFrame, look: Look) -> Drawing:
        colours = look.domain_colours(study.domains, study.test_domain, study.natural_domain)
        return embedding.map_by_group(look, points.assign(group=points["domain"]), colours, study.test_domain)

    said = f"coloured by domain{more}"
    return {name: _map(kind, name, said, partial(draw, points)) for name, points in maps.items()}


def class_panels(study: Study, maps: dict[str, pd.DataFrame], chosen: list[str]) -> dict[str, Figure]:
    """Return the map of each mixture's first seed with some test classes in colour.

    A line ties each image of the test domain (ringed) to the middle of its class in the other domains.
    """

    def draw(points: pd.DataFrame, look: Look) -> Drawing:
        shown = points.assign(group=points["class"], tested=points["domain"] == study.test_domain)
        return embedding.map_of_stars(look, shown, chosen)

    said = f"{len(chosen)} classes in colour"
    return {name: _map("classes", name, said, partial(draw, points)) for name, points in maps.items()}


def _map(kind: str, mixture: str, said: str, draw: Callable[[Look], Drawing]) -> Figure:
    title = f"Map of the images as {mixture} embeds them"
    return Figure(f"umap-{kind}-{mixture}", title, "A map (UMAP).", f"{title}, {said}.", draw)


def thinned(umap: pd.DataFrame) -> pd.DataFrame:
    """Return about DOTS images of each mixture and domain, evenly from all its classes, at a hundredth of a unit."""
    groups = umap.groupby(["mixture", "domain"], sort=False)
    every = (groups["x"].transform("size") / DOTS).apply(np.ceil)
    return umap[groups.cumcount() % every == 0].round({"x": 2, "y": 2})


def highlighted(study: Study, umap: pd.DataFrame, most: int = SERIES) -> list[str]:
    """Choose the test classes to highlight: those of which the map holds most images, the test domain among them."""
    first = first_seeds(study, umap)
    first = first[first["mixture"] == study.mixtures[0]]
    first = first[first["class"].isin(study.test_classes)]
    tested = set(first.loc[first["domain"] == study.test_domain, "class"])
    counts = first["class"].value_counts()
    order = sorted(counts.index, key=lambda name: (name not in tested, -int(counts[name]), name))
    return order[:most]


def _maps(study: Study, umap: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return each mixture's map of the first seed, fitted into the panel; an unfinished study lacks some."""
    first = first_seeds(study, umap)
    maps = {mixture: first[first["mixture"] == mixture] for mixture in study.mixtures}
    return {mixture: embedding.fitted(points) for mixture, points in maps.items() if len(points)}


def distance_panels(study: Study, distances: pd.DataFrame, kind: str) -> dict[str, Figure]:
    """Return the distances between the domains, a figure a mixture, one scale for all; mean over seeds."""
    rows = distances[distances["kind"] == kind]
    means = rows.groupby(["mixture", "domain_a", "domain_b"])["distance"].mean()
    most = float(means.max()) if len(means) else 1.0
    panels = {}
    for mixture in study.mixtures:
        if mixture in set(rows["mixture"]):
            table = square(means[mixture].reset_index(), study.domains, "distance")
            draw = partial(embedding.distances, table=table, most=most, hot=study.test_domain)
            title = f"Distances between domains as {mixture} embeds them"
            panels[mixture] = Figure(f"distances-{kind}-{mixture}", title, "Mean over seeds.", f"{title}.", draw)
    return panels
