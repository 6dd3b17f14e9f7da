"""Whether what models share between domains predicts what they read, over all test domains of the study."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from domix.figures.charts import Bar
from domix.figures.figure import Figure
from domix.figures.look import Drawing, Look
from domix.report.figures.relations import draw_relations, relation_bars
from domix.report.paper.collection import Collection
from domix.report.paper.rounded import KINDS
from domix.report.paper.sheets import Absent, Shown
from domix.report.paper.typeset import Typeset, p_value, starts
from domix.report.tables.claim import CLASSES, MIXTURES
from domix.runs import CLIP, SUPERVISED

NAME, TITLE = "sharing", "Does sharing predict what is read?"
AMONG = {
    CLASSES: "among the held-out classes of each model",
    MIXTURES: "among the mixtures of each test domain",
}
MODELS = {CLIP: "CLIP model", SUPERVISED: "supervised classifier"}
WAYS = {"plain": "", "partial": ", at equal accuracy elsewhere"}
WHY = (
    "No analysis says what enough classes or mixtures share: have `sharing`, `circuits` or `cka` in the block analyses,"
    " and run the report."
)


def figures(study: Collection) -> Shown:
    """Return a figure for classes and one for mixtures of each group of models: how scores go with accuracy."""
    table = study.relations
    whole = table[(table["left_out"] == "") & table["estimate"].notna()]
    if whole.empty:
        return [Absent(NAME, TITLE, WHY)]
    groups = whole.groupby(["kind", "among"], sort=False)
    return [_figure(study, rows, str(kind), str(among)) for (kind, among), rows in groups]


def _figure(study: Collection, rows: pd.DataFrame, kind: str, among: str) -> Figure:
    bars = relation_bars(rows, [score + WAYS[way] for score, way in zip(rows["score"], rows["way"], strict=True)])
    caption = (
        f"Spearman's rank correlation of what a {MODELS[kind]} shares between the test domain and the others with its"
        f" accuracy on the held-out cells, {AMONG[among]}, with {study.confidence * 100:g} % intervals over test"
        f" domains, {among} and seeds. Test domains: {', '.join(study.test_domains)}."
    )
    name = f"{NAME}-{among}" if kind == CLIP else f"{NAME}-{among}-{kind}"
    return Figure(name, TITLE, caption, caption, partial(_draw, bars, study.mark))


def _draw(bars: Sequence[Bar], mark: str, look: Look) -> Drawing:
    figure = draw_relations(look, bars)
    figure.text(0.995, 0.02, mark, color=look.hot, fontweight="bold", ha="right", va="bottom", fontsize=look.small)
    return figure


def relation_table(study: Collection) -> pd.DataFrame:
    """Return how each score is correlated with accuracy, whole and with each test domain left out."""
    return study.relations


def typeset_relations(study: Collection, frame: pd.DataFrame) -> Typeset:
    """Return the table of correlations."""
    rows = [
        [
            KINDS[row["kind"]],
            row["score"],
            row["among"],
            "accuracy elsewhere" if row["way"] == "partial" else "",
            row["left_out"],
            _two(row["estimate"]),
            "" if row["left_out"] else f"{_two(row['low'])} to {_two(row['high'])}",
            p_value(row["p_holm"]),
            f"{row['units']}" if row["units"] else "",
        ]
        for _, row in frame.iterrows()
    ]
    heads = ["models", "shared", "among", "held fixed", "without", "correlation", "interval", "p (Holm)", "units"]
    caption = (
        "Spearman's rank correlation of what is shared between the test domain and the others with accuracy on the"
        f" held-out cells, with {study.confidence * 100:g} % intervals; p corrected by Holm's method over the scores;"
        " without: the same with one test domain left out."
    )
    right = [False] * 5 + [True] * 4
    return Typeset(
        NAME, TITLE, caption, heads, right, rows, starts(list(zip(frame["kind"], frame["score"], strict=True)))
    )


def _two(value: float) -> str:
    return "" if pd.isna(value) else f"{value:+.2f}"
