"""What the report says of the fine-tuned group: what fine-tuning costs, and what it does to the signature."""

from __future__ import annotations

from functools import partial

import pandas as pd
from markupsafe import Markup

from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.keys import series_key
from domix.analyses.pruning.section import LOSS, prunable
from domix.evaluate.schemas import BALANCED
from domix.figures.figure import Figure
from domix.figures.interpolation import over_share, trade_off
from domix.runtime.wording import listed, percent
from domix.study import Study

PLACES = 4
GROUPS = {
    "held_out": "held-out cells",
    "seen": "other classes of the test domain",
    "natural": "natural images",
}
NUMBERS = {
    "kurtosis": "mean kurtosis of the embedding of natural images",
    "max_to_mean": "largest importance of a direction of the head, by the mean",
    "cka": "CKA of the embedding of natural images with that before fine-tuning",
}
ENDS = {0.0: "zero-shot", 1.0: "fine-tuned"}
TEXT = Markup(
    """<p>Each model's zero-shot classifier was fine-tuned as a whole on the {trained_on:,} natural training images, by
the recipe of WiSE-FT (<cite>Wortsman et al.</cite>, 2022). The curve goes from its weights before (ring) to those after
(large dot), over the weights in between: natural accuracy to the right, accuracy on the held-out cells upwards. Where
it falls, robustness was traded for accuracy. {said}</p>{key}"""
)
SIGNATURE = Markup(
    """<p>Robust zero-shot models were said to have outlier features, of which a large kurtosis tells, and fine-tuned
ones not (<cite>Interpreting CLIP</cite>, 2024). {said}</p>{key}"""
)
PRUNING = Markup(
    """<p>Accuracy on the held-out cells where only the most important directions of the head are kept, before and after
fine-tuning. So many can be pruned at a loss of at most {lost}: {said}</p>{key}"""
)


def section(results: AnalysisResults, study: Study) -> Section:
    """Show accuracy along the way of weights, the signature there, and what pruning leaves at both ends."""
    curve, signature, pruning = (results.tables[name] for name in ("curve", "signature", "pruning"))
    rows = curve[curve["metric"] == BALANCED]
    accuracy = rows.groupby(["mixture", "cells", "alpha"], sort=False, as_index=False)["estimate"].mean()
    names = [mixture for mixture in study.mixtures if (accuracy["mixture"] == mixture).any()]
    if not names:
        return Section("Fine-tuned on natural images", (), plots={"finetuned": _plot(accuracy)})
    numbers = signature.groupby(["mixture", "alpha"], sort=False, as_index=False)[list(NUMBERS)].mean()
    key = series_key(names)
    said, pruned = _said(accuracy, names), _pruned(pruning)
    parts = [
        Subsection(
            "What does fine-tuning on natural images cost?",
            TEXT.format(trained_on=int(signature["trained_on"].max()), said=said, key=key),
            {"All mixtures": _trade_off(accuracy, names)},
            {"Accuracy over the weight of the fine-tuned model": _accuracies(accuracy, names)},
        ),
        Subsection(
            "Does the signature change?",
            SIGNATURE.format(said=_moved(numbers, names), key=key),
            {_capital(what): _number(numbers, column, names) for column, what in NUMBERS.items() if column != "cka"},
            {_capital(NUMBERS["cka"]): {"All mixtures": _number(numbers, "cka", names)}},
        ),
        Subsection(
            "How many directions does the head need?",
            PRUNING.format(lost=percent(LOSS), said=_say_pruned(pruned), key=series_key(list(ENDS.values()))),
            {name: _pruning(pruned, name) for name in names},
        ),
    ]
    return Section(
        "Fine-tuned on natural images",
        parts,
        plots={"finetuned": _plot(accuracy)},
        metrics=_metrics(accuracy, numbers, names),
    )


def at(accuracy: pd.DataFrame, mixture: str, cells: str) -> pd.Series:
    """Return a mixture's accuracy on a group of cells by alpha; empty where the group has no images."""
    mine = accuracy[(accuracy["mixture"] == mixture) & (accuracy["cells"] == cells)]
    return mine.set_index("alpha")["estimate"].sort_index()


def best_alpha(accuracy: pd.Series) -> float:
    """Return the alpha of the greatest accuracy, of equal ones the least."""
    return float(accuracy.index.to_numpy()[int(accuracy.to_numpy().argmax())])


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _said(accuracy: pd.DataFrame, names: list[str]) -> str:
    said = []
    for name in names:
        natural, held_out = at(accuracy, name, "natural"), at(accuracy, name, "held_out")
        if natural.empty or held_out.empty:
            continue
        best = best_alpha(held_out)
        said.append(
            f"{name} goes from {percent(natural.iloc[0])} to {percent(natural.iloc[-1])} on natural images, and from"
            f" {percent(held_out.iloc[0])} to {percent(held_out.iloc[-1])} on held-out cells, where it is best at"
            f" weight {best:g} ({percent(held_out[best])})"
        )
    return f"{'; '.join(said)}." if said else ""


def _moved(numbers: pd.DataFrame, names: list[str]) -> str:
    said = []
    for name in names:
        ends = numbers[numbers["mixture"] == name].sort_values("alpha").iloc[[0, -1]]
        before, after = ends["kurtosis"]
        said.append(f"{name} from {before:.2f} to {after:.2f}, at a CKA of {ends['cka'].iloc[-1]:.2f}")
    return f"The kurtosis goes with fine-tuning: {'; '.join(said)}; 3 means none."


def _pruned(pruning: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy on held-out cells where the least important directions are pruned, before and after."""
    rows = pruning[(pruning["order"] == "importance") & (pruning["cells"] == "held_out")]
    rows = rows[rows["alpha"].isin(ENDS)]
    means = rows.groupby(["mixture", "alpha", "percent"], sort=False, as_index=False)["accuracy"].mean()
    return means.assign(series=means["alpha"].map(ENDS))


def _say_pruned(pruned: pd.DataFrame) -> str:
    said = [
        f"{mixture} {listed([f'{prunable(mine):g} % {end}' for end, mine in both.groupby('series', sort=False)])}"
        for mixture, both in pruned.groupby("mixture", sort=False)
    ]
    return f"{'; '.join(said)}." if said else ""


def _trade_off(accuracy: pd.DataFrame, names: list[str]) -> Figure:
    parts = [
        pd.DataFrame({"x": at(accuracy, name, "natural"), "y": at(accuracy, name, "held_out")})
        .rename_axis("alpha")
        .reset_index()
        .assign(series=name)
        for name in names
    ]
    title = "Held-out against natural accuracy, from zero-shot to fine-tuned weights"
    table = pd.concat(parts, ignore_index=True).dropna()
    caption = "Balanced accuracy on held-out cells (upwards); mean over seeds."
    draw = partial(trade_off, table=table, names=names, across="natural images")
    return Figure("finetuned-trade-off", title, caption, f"{title}. {_said(accuracy, names)}", draw)


def _accuracies(accuracy: pd.DataFrame, names: list[str]) -> dict[str, Figure]:
    figures = {}
    for cells, what in GROUPS.items():
        rows = accuracy[accuracy["cells"] == cells].rename(columns={"mixture": "series", "estimate": "y"})
        if len(rows):
            figures[_capital(what)] = _over(f"finetuned-{cells}", f"Balanced accuracy on {what}", rows, names)
    return figures


def _number(numbers: pd.DataFrame, column: str, names: list[str]) -> Figure:
    rows = numbers.rename(columns={"mixture": "series", column: "y"})
    return _over(f"finetuned-{column}", _capital(NUMBERS[column]), rows, names, shares=False)


def _pruning(pruned: pd.DataFrame, mixture: str) -> Figure:
    mine = pruned[pruned["mixture"] == mixture].sort_values(["alpha", "percent"])
    table = mine.assign(x=1 - mine["percent"] / 100, y=mine["accuracy"])
    title = f"Accuracy on held-out cells of {mixture} by the share of directions kept"
    said = "; ".join(f"{row.series}, {row.percent:g} % pruned: {row.y:.3g}" for row in table.itertuples())
    draw = partial(over_share, table=table, names=list(ENDS.values()), across="share of directions kept", shares=True)
    return Figure(f"finetuned-pruning-{mixture}", title, "Mean over seeds.", f"{title}; {said}.", draw)


def _over(name: str, title: str, rows: pd.DataFrame, names: list[str], *, shares: bool = True) -> Figure:
    ends = rows.sort_values("alpha").groupby("series", sort=False)["y"].agg(["first", "last"])
    said = "; ".join(f"{series} from {row['first']:.3g} to {row['last']:.3g}" for series, row in ends.iterrows())
    table = rows[["series", "alpha", "y"]].rename(columns={"alpha": "x"})
    draw = partial(over_share, table=table, names=names, across="weight of the fine-tuned model", shares=shares)
    return Figure(name, title, "Mean over seeds.", f"{title}, before and after fine-tuning: {said}.", draw)


def _metrics(accuracy: pd.DataFrame, numbers: pd.DataFrame, names: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    ends = {alpha: told.replace("-", "_") for alpha, told in ENDS.items()}
    for name in names:
        for cells in ("held_out", "natural"):
            values = at(accuracy, name, cells)
            if len(values):
                found |= {f"{name}.{cells}.{told}": float(values[alpha]) for alpha, told in ends.items()}
                found[f"{name}.{cells}.best"], found[f"{name}.{cells}.best_alpha"] = values.max(), best_alpha(values)
        mine = numbers[numbers["mixture"] == name].set_index("alpha")
        found |= {f"{name}.kurtosis.{told}": float(mine["kurtosis"][alpha]) for alpha, told in ends.items()}
        found[f"{name}.cka"] = float(mine["cka"][1.0])
    return {key: round(float(value), PLACES) for key, value in found.items()}


def _plot(accuracy: pd.DataFrame) -> pd.DataFrame:
    renamed = accuracy.rename(columns={"cells": "series", "alpha": "x", "estimate": "y"})
    return renamed[["mixture", "series", "x", "y"]].astype(
        {"mixture": "str", "series": "str", "x": "float64", "y": "float64"}
    )
