"""What the report shows of single dimensions: how unevenly domains differ in them, and images in the two foremost."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.contract import Subsection
from domix.analyses.keys import domain_key
from domix.analyses.runs import first_seeds
from domix.figures import embedding
from domix.figures.figure import Figure
from domix.figures.look import Drawing, Look
from domix.study import Study

DOTS = 100  # of a domain in the panels that are folded away
RANKED = Markup(
    """<p>How far the mean embedding of each domain lies from that of all other images, dimension by dimension, the
greatest difference first. A curve that begins far above the others and falls steeply is a style with a few dimensions
of its own; one that lies low everywhere is mixed with the rest.</p>{key}"""
)
FOREMOST = Markup(
    """<p>Images in the two dimensions in which {test_domain} differs most from the rest. If its cloud stands apart,
those two numbers alone tell the style.</p>{key}"""
)


def dimension_parts(differences: pd.DataFrame, scatter: pd.DataFrame, study: Study) -> list[Subsection]:
    """Return the curves of all domains, and the images in the foremost dimensions, the test domain's shown."""
    key = domain_key(study)
    first, points = first_seeds(study, differences), first_seeds(study, scatter)
    others = [name for name in study.domains if name != study.test_domain]
    folded = {f"Those in which {name} differs most": _scatters(first, points, study, name) for name in others}
    return [
        Subsection("In which dimensions a domain differs", RANKED.format(key=key), _curves(differences, study)),
        Subsection(
            "Images in the dimensions that differ most",
            FOREMOST.format(test_domain=study.test_domain, key=key),
            _scatters(first, points, study, study.test_domain),
            {line: figures for line, figures in folded.items() if figures},
        ),
    ]


def _curves(differences: pd.DataFrame, study: Study) -> dict[str, Figure]:
    """Return sizes of differences by rank, a figure a mixture, mean over seeds."""
    sizes = differences.assign(value=differences["difference"].abs(), group=differences["domain"])
    means = sizes.groupby(["mixture", "group", "rank"], sort=False, as_index=False)["value"].mean()
    figures = {}
    for mixture in (name for name in study.mixtures if (means["mixture"] == name).any()):
        mine = means[means["mixture"] == mixture]
        greatest = mine[mine["rank"] == 1].set_index("group")["value"]
        title = f"Differences of {mixture}'s dimensions between a domain and the rest"
        alt = f"{title}; the greatest: {', '.join(f'{name} {value:.3f}' for name, value in greatest.items())}."
        draw = partial(_draw_curves, table=mine, study=study, most=float(means["value"].max()))
        figures[mixture] = Figure(f"dimensions-{mixture}", title, "Mean over seeds.", alt, draw)
    return figures


def _draw_curves(look: Look, table: pd.DataFrame, study: Study, most: float) -> Drawing:
    return embedding.ranked(look, table, _colours(look, study), study.test_domain, most)


def _scatters(differences: pd.DataFrame, points: pd.DataFrame, study: Study, domain: str) -> dict[str, Figure]:
    """Return images in the two dimensions in which a domain differs most, a figure a mixture, its first seed."""
    foremost = differences[(differences["domain"] == domain) & (differences["rank"] <= 2)]
    mine = points[points["separated"] == domain].assign(group=points["domain"])
    if domain != study.test_domain:
        groups = mine.groupby(["mixture", "domain"], sort=False)
        every = np.ceil(groups["x"].transform("size") / DOTS)
        mine = mine[groups.cumcount() % every == 0]
    figures = {}
    for mixture in (name for name in study.mixtures if (mine["mixture"] == name).any()):
        numbers = foremost[foremost["mixture"] == mixture].sort_values("rank")["dimension"]
        across, up = (f"dimension {number}" for number in numbers)
        title = f"Images in the two dimensions in which {domain} differs most, as {mixture} embeds them"
        draw = partial(
            _draw_scatter, table=mine[mine["mixture"] == mixture], study=study, front=domain, titles=(across, up)
        )
        figures[mixture] = Figure(f"foremost-{domain}-{mixture}", title, "First seed.", f"{title}.", draw)
    return figures


def _draw_scatter(look: Look, table: pd.DataFrame, study: Study, front: str, titles: tuple[str, str]) -> Drawing:
    return embedding.scatter(look, table, _colours(look, study), front, titles)


def _colours(look: Look, study: Study) -> dict[str, str]:
    return look.domain_colours(study.domains, study.test_domain, study.natural_domain)
