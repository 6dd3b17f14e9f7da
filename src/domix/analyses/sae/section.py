"""What the report says of sparse autoencoders: how good they are, whether units belong to a domain, a browser."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.runs import first_seeds
from domix.analyses.template import render
from domix.figures.charts import shaded_table
from domix.figures.figure import Figure
from domix.figures.look import Drawing, Look, domain_slots
from domix.runtime.wording import percent, spaced
from domix.study import Study

PACKAGE = "domix.analyses.sae"

PLACES = 4
METRICS = ("explained_variance", "l0", "dead", "dense", "accuracy_reconstructed", "recovered")
EDGES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)  # of the share of a unit's mean values that its own domain has
BELONGS = Markup(
    """<p>Units that fire, in per cent of each mixture's: down the side the domain in which a unit's mean value is
highest, along the top how much of the sum of all domains' means that domain has, where {even} would be all domains
alike. Units to the right answer to a style, those to the left to what all styles have in common.</p>"""
)


def section(results: AnalysisResults, study: Study) -> Section:
    """Say how good the autoencoders are, and show units; nothing where no run was chosen."""
    quality = results.tables["quality"]
    plots = {"reconstruction": plot(results.tables["domains"])}
    if quality.empty:
        return Section("Sparse autoencoders", (), plots=plots)
    rows = quality_rows(results, study)
    parts = [
        Subsection(
            "How good the sparse autoencoders are",
            render(PACKAGE, "section.html", _facts(results, rows, study)),
        ),
        Subsection(
            "Whether units belong to a domain",
            BELONGS.format(even=percent(1 / len(study.domains))),
            {mixture: _figure(mixture, results.tables["units"], study) for mixture in rows["mixture"]},
        ),
    ]
    if views := browsed(results, study):
        text = render(PACKAGE, "browser.html", {"number": len(views), "units": views})
        parts.append(Subsection("What single units answer to", text))
    metrics = {
        f"{row['mixture']}.{name}": round(float(row[name]), PLACES)
        for row in rows.to_dict("records")
        for name in METRICS
        if not np.isnan(row[name])
    }
    return Section("Sparse autoencoders", parts, plots=plots, metrics=metrics)


def plot(domains: pd.DataFrame) -> pd.DataFrame:
    """Return the quality of each mixture's autoencoders by domain, on the test classes, mean over seeds."""
    names = ["explained_variance", "l0", "accuracy", "accuracy_reconstructed"]
    tested = domains[domains["cells"] == "test"]
    return tested.groupby(["mixture", "domain"], sort=False, as_index=False)[names].mean()


def quality_rows(results: AnalysisResults, study: Study) -> pd.DataFrame:
    """Return the quality of each mixture's autoencoders, mean over seeds, with the test domain's test classes."""
    tested = results.tables["domains"]
    tested = tested[(tested["domain"] == study.test_domain) & (tested["cells"] == "test")]
    means = results.tables["quality"].groupby("mixture", sort=False).mean(numeric_only=True)
    names = ["accuracy", "accuracy_reconstructed", "recovered"]
    return means.join(tested.groupby("mixture", sort=False)[names].mean()).reset_index()


def _facts(results: AnalysisResults, rows: pd.DataFrame, study: Study) -> dict[str, Any]:
    quality = results.tables["quality"]
    site = f"{quality['site'].iloc[0]}, {quality['channels'].iloc[0]} numbers"
    units = f"{quality['units'].iloc[0]:,}"
    of = "of each position of an image" if results.settings.positions == "every" else "of each image"
    return {"x": study.test_domain, "site": site, "of": of, "units": units, "rows": rows.to_dict("records")}


def belonging(units: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return the share of a mixture's units a domain (rows) and range of that domain's share (columns)."""
    live = units[units["domain"].notna()]
    names = [f"to {end:.0%}".replace("%", "\N{NO-BREAK SPACE}%") for end in EDGES[1:]]
    place = np.digitize(live["domain_share"], EDGES[1:-1])
    counts = pd.crosstab(live["domain"].to_numpy(dtype=object), np.array(names, dtype=object)[place])
    return counts.reindex(index=list(study.domains), columns=names, fill_value=0) / max(1, len(units))


def _figure(mixture: str, units: pd.DataFrame, study: Study) -> Figure:
    table = belonging(units[units["mixture"] == mixture], study)
    title = f"Units of {mixture} by the domain that they prefer"
    own = float(table.iloc[:, EDGES.index(0.5) :].to_numpy().sum())
    alt = f"{title}: {percent(own)} of them have more than half of their value in one domain."
    return Figure(f"sae-domains-{mixture}", title, "All seeds.", alt, partial(_draw, table, study.test_domain))


def _draw(table: pd.DataFrame, test_domain: str, look: Look) -> Drawing:
    most = float(table.to_numpy().max()) or 1.0

    def tip(domain: str, share: str, value: float) -> str:
        return f"{domain}, {share} of the value: {percent(value * most)} of the units"

    def written(value: float) -> str:
        return f"{100 * value * most:.0f}"

    return shaded_table(look, look.panel, table / most, written, tip, row=2.6 * look.small, hot=test_domain)


def browsed(results: AnalysisResults, study: Study) -> list[dict[str, Any]]:
    """Return what the browser shows of each mixture's first seed, at most `browsed` units of all mixtures together."""
    tables = {name: first_seeds(study, results.tables[name]) for name in ("units", "images", "histograms")}
    mixtures = [mixture for mixture in study.mixtures if (tables["histograms"]["mixture"] == mixture).any()]
    views = []
    for mixture in mixtures:
        mine = {name: table[table["mixture"] == mixture] for name, table in tables.items()}
        shown = mine["histograms"]["unit"].drop_duplicates().tolist()[: results.settings.browsed // len(mixtures)]
        facts = mine["units"].set_index("unit")
        views += [_view(mixture, unit, facts.loc[unit], mine, results, study) for unit in shown]
    return views


def _view(
    mixture: str,
    unit: int,
    facts: pd.Series,
    tables: dict[str, pd.DataFrame],
    results: AnalysisResults,
    study: Study,
) -> dict[str, Any]:
    images, counts = (tables[name][tables[name]["unit"] == unit] for name in ("images", "histograms"))
    named = not pd.isna(facts["word"])
    slots = domain_slots(study.domains, study.test_domain, study.natural_domain)
    most = max(1, int(counts.loc[counts["bin"] > 0, "n"].max()))
    words = [mixture, facts["domain"], facts["word"] if named else "", spaced(facts["class"])]
    words += images["class"].map(spaced).tolist()
    said = (
        f"fires on {percent(facts['density'])} of the images; prefers {facts['domain']} "
        f"({percent(facts['domain_share'])} of its value) and {spaced(facts['class'])} "
        f"({percent(facts['class_share'])})"
    )
    name = f", \u201c{facts['word']}\u201d (cosine {facts['cosine']:.2f})" if named else ""
    return {
        "title": f"{mixture}, unit {unit}{name}",
        "said": said,
        "searched": " ".join(dict.fromkeys(words)).lower(),
        "domains": [
            _domain(name, slots[name], images, counts[counts["domain"] == name], most, results)
            for name in study.domains
        ],
    }


def _domain(
    name: str, slot: int, images: pd.DataFrame, counts: pd.DataFrame, most: int, results: AnalysisResults
) -> dict[str, Any]:
    heights = counts.loc[counts["bin"] > 0, "n"].to_numpy() / most * 32
    n, silent = int(counts["n"].sum()), int(counts.loc[counts["bin"] == 0, "n"].sum())
    shown = images[images["domain"] == name].sort_values("place")
    return {
        "name": name,
        "slot": slot,
        "silent": round(silent / max(1, n), 3),
        "heights": heights.tolist(),
        "width": 100 / max(1, len(heights)),
        "said": f"{name}: active on {n - silent:,} of {n:,} images",
        "images": [
            {"uri": results.images.uri(results.source, int(row.row)), "name": f"{spaced(row.label)}, {row.value:.2f}"}
            for row in shown.rename(columns={"class": "label"}).itertuples()
        ],
    }
