"""The figures of a zoo: each number of the signature against robustness, CKA of models and groups, pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from domix.figures.charts import Line, curve, shaded_table
from domix.figures.figure import Figure
from domix.figures.look import SERIES, Drawing, Look
from domix.figures.panel import panel, percent_labels, round_ticks
from domix.figures.relation import DOT, related
from domix.ood.correlation import band, correlate
from domix.zoo.concepts import Encoded
from domix.zoo.measures import IMPORTANCE
from domix.zoo.relations import SIGNATURE
from domix.zoo.robustness import ACCURACY, ER, ID, MEAN

NUMBERS = {
    "kurtosis": "kurtosis, mean over images",
    "median": "kurtosis, median over images",
    "outliers": "outlier features",
    "norm_share": "outlier features' share of the squared norm",
    "top": "importance of the first direction",
    "top_mean_abs": "importance of the first direction (mean_abs)",
    "max_to_mean": "largest importance by the mean",
    "effective_rank": "effective rank of importances",
    "prunable": "% of directions that can be pruned",
    "unique": "unique concepts",
    "polysemanticity": "concepts a unit that encodes any",
    "units": "units that encode a concept",
    "ap": "mean average precision of concepts",
}
POINTS = 40  # of a line
INCH = 72.0


def figures_of(models: pd.DataFrame, relations: pd.DataFrame, matrices: Mapping[str, pd.DataFrame]) -> list[Figure]:
    """Return the figures of the models that can be shown, relations to the first target first."""
    target = next((name for name in (ER + MEAN, *models) if name.startswith((ER, ACCURACY)) and name in models), ID)
    made = []
    for number in SIGNATURE:
        found = relations[(relations["number"] == number) & (relations["target"] == target)].set_index("statistic")
        if len(found):
            made.append(_relation(models, number, target, found))
    return made + [_likeness(what, matrix) for what, matrix in matrices.items()]


def pruning_figure(pruning: pd.DataFrame, groups: Mapping[str, str]) -> Figure:
    """Return accuracy on the known images by the share of directions kept by importance, a line a model."""
    mine = pruning[(pruning["order"] == IMPORTANCE) & (pruning["set"] == ID)]
    title = "Accuracy of pruned heads"
    words = "Accuracy on the known images where the least important directions of the head are pruned, a line a model."
    ends = [
        f"{name} {rows.set_index('percent')['accuracy'].get(80, np.nan):.3f}" for name, rows in mine.groupby("model")
    ]
    return Figure(
        "zoo-pruning",
        title,
        words,
        f"{title}; at 80 % pruned: {', '.join(ends)}.",
        partial(_pruning, mine=mine, groups=groups),
    )


def axis_title(column: str) -> str:
    """Return what a column of the table of models is called on an axis."""
    if column.startswith(ER):
        return f"effective robustness, {column.removeprefix(ER)} (points)"
    if column.startswith(ACCURACY):
        return f"accuracy under {column.removeprefix(ACCURACY)}"
    return "accuracy on the known images" if column == ID else NUMBERS[column]


def _relation(models: pd.DataFrame, number: str, target: str, found: pd.DataFrame) -> Figure:
    known = models[np.isfinite(models[[number, target]].to_numpy(dtype=np.float64)).all(axis=1)]
    points = known[["name", "group", number, target]].set_axis(["name", "group", "x", "y"], axis=1)
    title = f"{axis_title(number)} and {axis_title(target)}"
    said = f"Spearman's correlation {_with_ends(found.loc['spearman'])}, Pearson's {_with_ends(found.loc['pearson'])}"
    if "partial spearman" in found.index:
        said += f"; at equal accuracy on the known images Spearman's {_with_ends(found.loc['partial spearman'])}"
    draw = partial(_draw_relation, points=points, titles=(axis_title(number), axis_title(target)))
    caption = f"{title[0].upper()}{title[1:]}, a dot a model: {said}, over {len(points)} models."
    return Figure(f"zoo-{number.replace('_', '-')}", title, caption, caption, draw)


def _with_ends(row: pd.Series) -> str:
    ends = "" if np.isnan(row["low"]) else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"{row['estimate']:.2f}{ends}"


def _draw_relation(look: Look, points: pd.DataFrame, titles: tuple[str, str]) -> Drawing:
    at = np.linspace(points["x"].min(), points["x"].max(), POINTS)
    low, high = band(points["x"], points["y"], at, resamples=2000)
    expected = correlate(points["x"], points["y"], resamples=1).expected(at)
    line = pd.DataFrame({"x": at, "low": low, "expected": expected, "high": high})
    colours = _colours(look, points["group"].unique().tolist())
    return _with_key(look, related(look, points, line, colours, titles), colours)


def concept_figures(encoded: Encoded, groups: Mapping[str, str]) -> list[Figure]:
    """Return the unique concepts over the threshold, and the overlap of the concepts of models and of groups."""
    title = "Unique concepts over the threshold"
    words = (
        f"Concepts of {encoded.images} that some unit encodes, over the average precision that counts, a line a model."
    )
    at = encoded.curve[encoded.curve["threshold"] == encoded.curve["threshold"].iloc[0]]
    ends = ", ".join(f"{name} {count}" for name, count in zip(at["model"], at["unique"], strict=True))
    draw = partial(_concepts, curves=encoded.curve, groups=groups)
    said = f"{title}; at {encoded.curve['threshold'].iloc[0]:g}: {ends}."
    made = [Figure("zoo-concepts", title, words, said, draw)]
    for what, matrix in encoded.overlaps.items():
        words = f"Share of the concepts of either that both encode at an average precision of {encoded.threshold:g}."
        if np.isfinite(matrix.to_numpy()).any():
            made.append(_heat_map(f"zoo-overlap-{what}", f"Overlap of concepts between {what}", words, matrix))
    return made


def _likeness(what: str, matrix: pd.DataFrame) -> Figure:
    words = "Unbiased linear CKA by mini-batches on the same images; 1: alike up to rotation and scale."
    if what == "groups":
        words = "Mean unbiased CKA between models of two groups, no model with itself."
    return _heat_map(f"zoo-cka-{what.replace(' ', '-')}", f"CKA between {what}", words, matrix)


def _heat_map(name: str, title: str, words: str, matrix: pd.DataFrame) -> Figure:
    values = [f"{a} and {b} {matrix.at[a, b]:.2f}" for n, a in enumerate(matrix.index) for b in matrix.columns[n + 1 :]]
    return Figure(name, title, words, f"{title}: {', '.join(values)}.", partial(_draw_likeness, matrix=matrix))


def _draw_likeness(look: Look, matrix: pd.DataFrame) -> Drawing:
    def tip(one: str, other: str, share: float) -> str:
        return f"{one} and {other}: {share:.3f}"

    written = "{:.2f}".format
    width = max(look.panel, min(2 * look.wide, look.panel / 2 + 2.6 * look.small * len(matrix)))
    return shaded_table(
        look, width, matrix.clip(lower=0.0), lambda v: written(v).removeprefix("0"), tip, row=2.1 * look.small
    )


def _pruning(look: Look, mine: pd.DataFrame, groups: Mapping[str, str]) -> Drawing:
    table = pd.DataFrame({"model": mine["model"], "x": 100 - mine["percent"], "y": mine["accuracy"]})
    across = ([0, 25, 50, 75, 100], "% of directions kept")
    ticks = round_ticks(0.0, float(table["y"].max()))
    return _lines(look, table, groups, across, (ticks, percent_labels(ticks), "accuracy in %"))


def _concepts(look: Look, curves: pd.DataFrame, groups: Mapping[str, str]) -> Drawing:
    table = pd.DataFrame({"model": curves["model"], "x": curves["threshold"], "y": curves["unique"]})
    ticks = round_ticks(0.0, float(max(table["y"].max(), 1)))
    across = ([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], "average precision that counts")
    return _lines(look, table, groups, across, (ticks, [f"{tick:g}" for tick in ticks], NUMBERS["unique"]))


def _lines(
    look: Look,
    table: pd.DataFrame,
    groups: Mapping[str, str],
    across: tuple[Sequence[float], str],
    up: tuple[Sequence[float], Sequence[str], str],
) -> Drawing:
    """Draw a line a model, of `model, x, y`, in the colour of its group."""
    size, colours = look.small, _colours(look, list(dict.fromkeys(groups.values())))
    made = panel(look, look.wide, 0.62 * look.wide, (5.2 * size, 0.9 * size, 1.6 * size, 3.6 * size))
    made.limits((across[0][0], across[0][-1]), (up[0][0], up[0][-1]))
    made.mark_across(across[0], [f"{tick:g}" for tick in across[0]], across[1])
    made.mark_up(*up)
    for name, rows in table.groupby("model", sort=False):
        curve(made, rows["x"], rows["y"], Line(colours[groups[str(name)]], 0.75 * look.stroke), str(name))
    return _with_key(look, made.figure, colours)


def _colours(look: Look, groups: Sequence[str]) -> dict[str, str]:
    return {group: look.series[place % SERIES] for place, group in enumerate(groups)}


def _with_key(look: Look, figure: Drawing, colours: Mapping[str, str]) -> Drawing:
    """Make room above a figure, whose artists stand in points from its foot, for the names of the groups' colours."""
    width, height = (INCH * side for side in figure.get_size_inches())
    longest = max(look.width_of(name, look.small) for name in colours) + 3 * look.small
    across = max(1, min(len(colours), int(width / longest)))
    rows = -(-len(colours) // across)
    figure.set_size_inches(width / INCH, (height + 1.7 * look.small * rows) / INCH)
    handles = [
        Line2D([], [], color=colour, ls="", marker="o", ms=DOT * look.stroke, mew=0, label=name)
        for name, colour in colours.items()
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        ncols=across,
        borderaxespad=0.1,
        borderpad=0.2,
        handlelength=1,
        columnspacing=1,
    )
    return figure
