"""The figures of the analyses: CKA by layer, the map of the embedding (UMAP), distances between domains."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from domix.figures import embedding
from domix.figures.figure import Figure
from domix.figures.look import SERIES, Drawing, Look
from domix.report.load.study import Study
from domix.report.tables import summary

Panels = list[tuple[str, Figure]]


def cka(study: Study, kernel: str, classes: str) -> Panels:
    """Return CKA by layer, a figure a mixture: pairs of domains with the test domain against the other pairs."""
    frame = summary.cka_layers(study, kernel, classes)
    if frame.empty:
        return []
    frame = frame.assign(tested=frame["group"] == "test", pair=frame["domain_a"] + " and " + frame["domain_b"])
    limits = (float(frame["value"].min()), float(frame["value"].max()))
    panels = []
    for mixture in study.mixtures:
        mine = frame[frame["mixture"] == mixture]
        if len(mine):
            last = mine[mine["depth"] == mine["depth"].max()].groupby("tested")["value"].mean()
            ends = [f"{last.get(tested, np.nan):.2f}" for tested in (True, False)]
            said = f"at the last layer {ends[0]} for pairs with {study.test_domain}, {ends[1]} for the others"
            draw = partial(embedding.by_layer, table=mine, limits=limits)
            name, title = f"cka-{kernel}-{classes}-{mixture}", f"CKA by layer of {mixture}"
            panels.append((mixture, Figure(name, title, "Thick: means.", f"{title}; {said}.", draw)))
    return panels


def umap_domains(study: Study) -> Panels:
    """Return the map of each mixture's first seed, pictures coloured by domain, the test domain on top."""

    def draw(points: pd.DataFrame, look: Look) -> Drawing:
        colours = look.domain_colours(study.domains, study.test_domain, study.natural_domain)
        shown = points[["x", "y", "domain"]].rename(columns={"domain": "group"})
        return embedding.map_by_group(look, shown, colours, study.test_domain)

    return [_map("domains", mixture, "coloured by domain", partial(draw, points)) for mixture, points in _maps(study)]


def umap_classes(study: Study, chosen: list[str]) -> Panels:
    """Return the map of each mixture's first seed with some test classes in colour.

    A line ties each picture of the test domain (ringed) to the middle of its class in the other domains.
    """

    def draw(points: pd.DataFrame, look: Look) -> Drawing:
        shown = points[["x", "y", "class"]].rename(columns={"class": "group"})
        shown = shown.assign(tested=points["domain"] == study.test_domain)
        return embedding.map_of_stars(look, shown, chosen)

    said = f"{len(chosen)} classes in colour"
    return [_map("classes", mixture, said, partial(draw, points)) for mixture, points in _maps(study)]


def _map(kind: str, mixture: str, said: str, draw: Callable[[Look], Drawing]) -> tuple[str, Figure]:
    title = f"Map of the pictures as {mixture} embeds them"
    return mixture, Figure(f"umap-{kind}-{mixture}", title, "A map (UMAP).", f"{title}, {said}.", draw)


def highlighted(study: Study, most: int = SERIES) -> list[str]:
    """Choose the test classes to highlight: those of which the map holds most pictures, the test domain among them."""
    first = study.first(study.umap)
    first = first[first["mixture"] == study.mixtures[0]]
    first = first[first["class"].isin(study.test_classes)]
    tested = set(first.loc[first["domain"] == study.test_domain, "class"])
    counts = first["class"].value_counts()
    order = sorted(counts.index, key=lambda name: (name not in tested, -int(counts[name]), name))
    return order[:most]


def _maps(study: Study) -> list[tuple[str, pd.DataFrame]]:
    """Return each mixture's map of the first seed, fitted into the panel; an unfinished study lacks some."""
    first = study.first(study.umap)
    maps = [(mixture, first[first["mixture"] == mixture]) for mixture in study.mixtures]
    return [(mixture, embedding.fitted(points)) for mixture, points in maps if len(points)]


def distances(study: Study, kind: str) -> Panels:
    """Return the distances between the domains, a figure a mixture, one scale for all; mean over seeds."""
    rows = study.distances[study.distances["kind"] == kind]
    means = rows.groupby(["mixture", "domain_a", "domain_b"])["distance"].mean()
    most, panels = float(means.max()) if len(means) else 1.0, []
    for mixture in study.mixtures:
        if mixture in set(rows["mixture"]):
            table = _square(means[mixture], study.domains)
            draw = partial(embedding.distances, table=table, most=most, hot=study.test_domain)
            title = f"Distances between domains as {mixture} embeds them"
            panels.append(
                (mixture, Figure(f"distances-{kind}-{mixture}", title, "Mean over seeds.", f"{title}.", draw))
            )
    return panels


def _square(pairs: pd.Series, domains: list[str]) -> pd.DataFrame:
    """Return distances of pairs, which may be written one way only, as a table of every domain with every domain."""
    wide = pairs.unstack().reindex(index=domains, columns=domains)
    return wide.combine_first(wide.T).reindex(index=domains, columns=domains)
