"""What the report says of privileged directions: how unequal importances are, and the controlled test."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.controlled import (
    against_domains,
    controlled_metrics,
    controlled_tests,
    mean_metrics,
    say_controlled,
)
from domix.analyses.groups import HEADS, each_group
from domix.analyses.keys import series_key
from domix.figures import embedding
from domix.figures.figure import Figure
from domix.figures.histogram import histogram
from domix.figures.look import Drawing, Look
from domix.runtime.wording import listed
from domix.study import Study

RUN = ["mixture", "seed"]
KINDS = ("abs_mean", "mean_abs")
SIGNATURES = {
    "max_to_mean": "top importance by mean importance",
    "effective_rank": "effective rank of the importances",
}
TAIL = Markup(
    """<p>The {head}, the matrix with a row a class, is a sum of singular directions. One is important where its
singular value is large and what the head reads of {images} images lies along it. A <em>privileged</em> direction stands
far above the others. {said}</p>{key}"""
)
FIRST = Markup(
    """<p>How often a direction has which importance (by the mean of its model; upright: number of directions). A long
tail to the right is what robust models were said to have.</p>"""
)


@each_group(SIGNATURES)
def section(results: AnalysisResults, study: Study) -> Section:
    """Show importances by rank and their histograms, and the controlled test."""
    tables, kind = results.tables, results.settings.importance
    directions = tables["directions"]
    summary = tables["summary"][tables["summary"]["importance"] == kind]
    models = summary.merge(tables["models"], on=RUN)
    if models.empty or directions.empty:
        return Section("Privileged directions", (), plots={"importances": _plot(directions)})
    tests = {name: controlled_tests(models, column, results.shared.confidence) for column, name in SIGNATURES.items()}
    by_column = {column: tests[name] for column, name in SIGNATURES.items()}
    names = [mixture for mixture in study.mixtures if (directions["mixture"] == mixture).any()]
    images = "all" if results.settings.images == "all" else study.natural_domain
    other = next(name for name in KINDS if name != kind)
    parts = [
        Subsection(
            "Is there a privileged direction?",
            TAIL.format(head=HEADS[results.kind], images=images, said=_said(summary), key=series_key(names)),
            {"All mixtures": _ranked(directions, kind, names)},
            {f"The same by {other}": {"All mixtures": _ranked(directions, other, names)}},
        ),
        Subsection("How heavy is the tail?", FIRST, {name: _histogram(directions, kind, name) for name in names}),
        Subsection(
            "Do privileged directions move with the training domains, at equal accuracy?",
            say_controlled(tests, models, study, results.shared.confidence),
            against_domains("directions", models, SIGNATURES, study),
        ),
    ]
    numbers = ["top", "max_to_mean", "kurtosis", "standing_out", "effective_rank", "rank"]
    return Section(
        "Privileged directions",
        parts,
        plots={"importances": _plot(directions)},
        metrics=mean_metrics(summary, numbers) | controlled_metrics(by_column),
        model_scores={
            name: models[[*RUN, column]].rename(columns={column: "score"}) for column, name in SIGNATURES.items()
        },
    )


def by_rank(directions: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return importance by mean importance of a model, largest first, means over seeds: `mixture, rank, value`."""
    groups = directions.groupby(RUN, sort=False)[kind]
    rows = directions[["mixture"]].assign(
        value=directions[kind] / groups.transform("mean"),
        rank=groups.rank(ascending=False, method="first").astype("int64"),
    )
    return rows.groupby(["mixture", "rank"], sort=False, as_index=False)["value"].mean()


def _said(summary: pd.DataFrame) -> str:
    means = summary.groupby("mixture", sort=False).mean(numeric_only=True)
    ratios = listed([f"{mixture} {row['max_to_mean']:.1f}" for mixture, row in means.iterrows()])
    some = means[means["standing_out"] > 0]
    counts = listed([f"{mixture} {row['standing_out']:.3g}" for mixture, row in some.iterrows()])
    standing = (
        f"Privileged are, in number (mean over seeds): {counts}."
        if counts
        else "None stands so far above that it is privileged."
    )
    first = summary[summary["direction"] == 0]
    with_mean = summary["cosine_with_mean"].mean()
    outliers = summary["outlier_component"].dropna()
    along = f" Its largest component along an outlier feature is {outliers.mean():.2f}." if len(outliers) else ""
    return (
        f"The most important one has so many times the mean importance: {ratios}. {standing} In {len(first)} of"
        f" {len(summary)} models it is the direction of the largest singular value; its cosine with the mean activation"
        f" is {with_mean:.2f} on average, its largest component {summary['axis_component'].mean():.2f}.{along}"
    )


def _ranked(directions: pd.DataFrame, kind: str, names: list[str]) -> Figure:
    table = by_rank(directions, kind).rename(columns={"mixture": "group"})
    title = f"Importance of the head's directions ({kind}) by rank"
    tops = listed([f"{row.group} {row.value:.1f}" for row in table[table["rank"] == 1].itertuples()])
    alt = f"{title}; the first has {tops} times the mean."
    return Figure(
        f"directions-{kind}", title, "By mean importance, mean over seeds.", alt, partial(_draw, table, names)
    )


def _draw(table: pd.DataFrame, names: list[str], look: Look) -> Drawing:
    colours = {name: look.series[place % len(look.series)] for place, name in enumerate(names)}
    return embedding.ranked(look, table, colours, "", float(table["value"].max()))


def _histogram(directions: pd.DataFrame, kind: str, mixture: str) -> Figure:
    rows = by_rank(directions, kind)
    values = rows[rows["mixture"] == mixture]["value"]
    title = f"Importances of {mixture}"
    alt = f"{title}: median {values.median():.2f}, largest {values.max():.1f} times the mean."
    draw = partial(_draw_histogram, values=values.to_numpy(), most=float(rows["value"].max()))
    return Figure(f"directions-histogram-{mixture}", title, "Times the mean.", alt, draw)


def _draw_histogram(look: Look, values: NDArray[np.float64], most: float) -> Drawing:
    return histogram(look, values, most, "importance by mean importance")


def _plot(directions: pd.DataFrame) -> pd.DataFrame:
    parts = [by_rank(directions, kind).assign(series=kind) for kind in KINDS]
    frame = pd.concat(parts, ignore_index=True).rename(columns={"rank": "x", "value": "y"})
    frame = frame.sort_values(["mixture", "series", "x"], kind="stable", ignore_index=True)
    return frame.astype({"mixture": "str", "series": "str", "x": "int64", "y": "float64"})
