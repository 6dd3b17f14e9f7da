"""Accuracies with intervals, and paired differences, as forest plots."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from domix.figures import charts
from domix.figures.charts import Bar, Mark
from domix.figures.figure import Figure
from domix.figures.panel import percent_labels
from domix.report.load.study import Results
from domix.report.tables import plot_data, summary, words

CHANCE, BOUND = (1.4, 2.0), (3.0, 2.0)  # dashes of the lines at chance and at a bound


def accuracies(study: Results) -> dict[str, Figure]:
    """Return every mixture's balanced accuracy, with chance and the upper bound, for each panel of `summary.panels`."""
    frame, kinds = plot_data.accuracy(study), _kinds(study)
    found = {}
    for name, domain, cells in summary.panels(study):
        rows = frame[frame["images"] == name]
        if len(rows):
            seeds = study.metrics[(study.metrics["domain"] == domain) & (study.metrics["cells"] == cells)]
            found[name] = _accuracy(study, name, domain, rows, seeds[seeds["metric"] == summary.PRIMARY], kinds)
    return found


def _accuracy(
    study: Results, name: str, domain: str, rows: pd.DataFrame, seeds: pd.DataFrame, kinds: dict[str, str]
) -> Figure:
    bars = []
    for _, row in rows.iterrows():
        single = seeds.loc[seeds["mixture"] == row["mixture"], "estimate"]
        every = tuple(single) if len(single) > 1 else ()
        ends = (row["estimate"], row["low"], row["high"])
        bars.append(Bar(row["mixture"], *ends, kind=kinds[row["mixture"]], seeds=every))
    chance = float(rows["chance"].iloc[0])
    marks = [Mark(chance, f"chance {words.percent(chance)}", CHANCE)]
    upper = rows.loc[rows["mixture"] == study.upper_bound, "estimate"]
    if name == "held_out" and len(upper):
        marks.append(Mark(float(upper.iloc[0]), "upper bound", BOUND))
    title = f"Balanced accuracy on {domain} images ({name})"
    return balanced_accuracies(f"accuracy-{name}", title, bars, marks)


def balanced_accuracies(name: str, title: str, bars: Sequence[Bar], marks: Sequence[Mark] = ()) -> Figure:
    """Return balanced accuracies with intervals as a figure."""
    said = "; ".join(f"{bar.label} {words.percent(bar.estimate)}" for bar in bars)
    draw = partial(charts.forest, bars=bars, marks=marks, write=_plain, unit="balanced accuracy, %")
    return Figure(name, title, "Point: balanced accuracy. Bar: interval.", f"{title}: {said}.", draw)


def _plain(share: float) -> str:
    return words.percent(share).removesuffix(words.UNIT)


def _kinds(study: Results) -> dict[str, str]:
    """Return for each mixture whether it is a lower bound, an upper one (shown held-out cells) or neither."""
    kinds = {mixture: "upper" if study.held_out_samples(mixture) > 0 else "plain" for mixture in study.mixtures}
    return kinds | ({study.baseline: "lower"} if study.baseline else {})


def paired(study: Results) -> Figure | None:
    """Return every mixture's paired difference from the baseline on the held-out cells; None without a baseline."""
    frame = plot_data.differences(study)
    if frame.empty:
        return None
    kinds = _kinds(study)
    bars = [Bar(r["mixture"], r["difference"], r["low"], r["high"], kinds[r["mixture"]]) for _, r in frame.iterrows()]
    title = f"Difference from {study.baseline}"
    said = "; ".join(f"{b.label} {words.points(b.estimate)} points" for b in bars)
    marks = [Mark(0.0, str(study.baseline), BOUND)]
    draw = partial(
        charts.forest,
        bars=bars,
        marks=marks,
        write=words.points,
        unit="percentage points",
        ticks=partial(percent_labels, signed=True),
    )
    return Figure("differences", title, "Point: paired difference. Bar: interval.", f"{title}: {said}.", draw)
