"""What the report says of feature sharing: each domain's score with its interval, and every pair of domains."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.pairs import KEYS, both_ways, class_scores, square
from domix.figures import embedding
from domix.figures.charts import Line, curve, markers, rings
from domix.figures.figure import Figure
from domix.figures.look import Drawing, Look
from domix.figures.panel import gutter, panel, round_ticks
from domix.runtime.wording import listed
from domix.study import Study

PLACES = 4
CELLS = ("test", "seen", "all")
SIGNIFICANT = 0.05
SCORES = Markup(
    """<p>Of the units of a sparse autoencoder that answer most to a class in one domain, the share that also answers
most to it in the others: 1 would be the same features in every style. Bars are {confidence:g}&nbsp;% intervals over
classes and images; rings are what images of the class would share if they were dealt among the domains by chance, as
few as they are. A dot far to the left of its ring: the domain has features of its own. {verdict}</p>"""
)
PAIRS = Markup(
    """<p>Sharing of every two domains, mean over the test classes: the stronger the colour, the more. A pale row and
column for <span class="hot">{test_domain}</span> means that the model reads it by other features.</p>"""
)


def section(results: AnalysisResults, study: Study) -> Section:
    """Show the scores and the matrices on the test classes; other classes are folded away."""
    scores, pairs = mean_over_seeds(results.tables["scores"]), mean_over_seeds(results.tables["pairs"])
    plots = {"shared_features": plot(pairs)}
    if scores.empty:
        return Section("Shared features", (), plots=plots)
    text = SCORES.format(confidence=100 * results.shared.confidence, verdict=verdict(scores, study))
    matrices = {cells: _matrices(pairs, study, cells) for cells in CELLS}
    own = scores[(scores["domain"] == study.test_domain) & (scores["cells"] == "test")]
    metrics = {
        f"{row['mixture']}.{name}": round(float(row[key]), PLACES)
        for row in own.to_dict("records")
        for name, key in (("score", "value"), ("low", "low"), ("high", "high"), ("null", "null"), ("p", "p_value"))
        if not np.isnan(row[key])
    }
    parts = [
        Subsection("How many features a domain shares with the others", text, _scores(scores, study)),
        Subsection(
            "Which domains share features",
            PAIRS.format(test_domain=study.test_domain),
            matrices["test"],
            {f"Sharing, {cells} classes": matrices[cells] for cells in CELLS[1:] if matrices[cells]},
        ),
    ]
    by_class = {"features": class_scores(study, results.tables["classes"])}
    return Section("Shared features", parts, plots=plots, metrics=metrics, scores=by_class)


def plot(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return what every ordered pair of domains shares on the test classes."""
    known = pairs[(pairs["cells"] == "test") & pairs["value"].notna()]
    return both_ways(known[[*KEYS, "value"]]).rename(columns={"value": "likeness"})


def mean_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table's numbers as means over seeds; p values and intervals so are those of single models, averaged."""
    keys = ["mixture", "cells", *(name for name in ("domain", "domain_a", "domain_b") if name in table)]
    return table.drop(columns="seed").groupby(keys, sort=False, as_index=False).mean()


def verdict(scores: pd.DataFrame, study: Study) -> str:
    """Say in which mixtures the test domain shares less than chance would, on the test classes."""
    own = scores[(scores["domain"] == study.test_domain) & (scores["cells"] == "test")].dropna(subset=["p_value"])
    if own.empty:
        return ""
    less = own.loc[own["p_value"] <= SIGNIFICANT, "mixture"].tolist()
    values = listed([f"{row.value:.2f} ({row.mixture})" for row in own.itertuples()])
    if not less:
        return f"{study.test_domain.capitalize()} has {values}: no less than chance would give."
    where = "in every mixture here" if len(less) == len(own) else f"in {listed(less)}"
    return f"{study.test_domain.capitalize()} has {values}: less than chance would give {where}."


def _scores(scores: pd.DataFrame, study: Study) -> dict[str, Figure]:
    known = scores[scores["cells"] == "test"]
    ends = known[["value", "low", "high", "null"]].max().max()
    ticks = round_ticks(0.0, float(ends) if np.isfinite(ends) else 1.0, 5)
    made = {}
    for mixture in study.mixtures:
        mine = known[known["mixture"] == mixture].set_index("domain").reindex(list(study.domains))
        if mine["value"].notna().any():
            title = f"Shared features by domain in {mixture}"
            own = mine.loc[study.test_domain]
            alt = f"{title}; {study.test_domain} has {own['value']:.2f}, by chance {own['null']:.2f}."
            draw = partial(_draw, mine, ticks, study.test_domain)
            made[mixture] = Figure(f"sharing-scores-{mixture}", title, "Test classes, mean over seeds.", alt, draw)
    return made


def _draw(table: pd.DataFrame, ticks: list[float], test_domain: str, look: Look) -> Drawing:
    names, row = [str(name) for name in table.index], 2.4 * look.small
    left = gutter(names, look.small)
    height = row * len(names) + 4.6 * look.small
    made = panel(look, look.panel, height, (left, look.small, look.small, 3.6 * look.small))
    made.limits((ticks[0], ticks[-1]), (len(names), 0))
    made.mark_across(ticks, [f"{tick:g}" for tick in ticks], "shared with the other domains", lines=True)
    for place, (name, values) in enumerate(table.iterrows()):
        y, hot = place + 0.5, name == test_domain
        colour = look.hot if hot else look.accent
        made.label(y, str(name), **({"color": look.hot, "fontweight": 700} if hot else {"color": look.ink}))
        if np.isfinite(values["low"]):
            curve(made, [values["low"], values["high"]], [y, y], Line(colour, 1.5 * look.stroke, alpha=0.55))
        if np.isfinite(values["null"]):
            rings(made, [values["null"]], [y], look.mute, 3 * look.stroke)
        if np.isfinite(values["value"]):
            markers(made, [values["value"]], [y], Line(colour, look.stroke, marker="o"), 3.5 * look.stroke)
    return made.figure


def _matrices(pairs: pd.DataFrame, study: Study, cells: str) -> dict[str, Figure]:
    known = pairs[pairs["cells"] == cells]
    most = float(known["value"].max())
    made = {}
    for mixture in study.mixtures:
        mine = known[known["mixture"] == mixture]
        if mine["value"].notna().any():
            table = square(mine, study.domains)
            title = f"Shared features of every two domains in {mixture}, {cells} classes"
            draw = partial(embedding.distances, table=table, most=most, hot=study.test_domain)
            made[mixture] = Figure(f"sharing-{cells}-{mixture}", title, "Mean over seeds.", f"{title}.", draw)
    return made
