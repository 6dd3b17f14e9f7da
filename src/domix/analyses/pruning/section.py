"""What the report says of pruning: accuracy by the share of directions kept, and effective robustness."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.groups import HEADS, each_group
from domix.evaluate.effective import Fit, clamp, effective_robustness, fit_line
from domix.figures.charts import Line, band, curve
from domix.figures.figure import Figure
from domix.figures.look import Drawing, Look
from domix.figures.panel import panel, percent_labels, round_ticks
from domix.runtime.errors import DataError
from domix.runtime.wording import listed, percent
from domix.study import Study

RUN = ["mixture", "seed"]
ORDERS = ("importance", "singular value", "random")
GROUPS = {
    "held_out": "held-out cells",
    "seen": "other classes of the test domain",
    "natural": "natural images",
    "effective": "effective robustness",
}
LOSS = 0.01  # of accuracy, up to which a head counts as good as the whole one
PLACES = 4
PRUNABLE = {
    "importance.held_out.prunable": "directions, in per cent by importance, that the held-out cells do without",
}
CLAIMED = 80.0  # per cent, that robust models were said to do without
KEY = Markup(
    """<ul class="key"><li><i class="line" style="border-color:var(--accent)"></i> the most important kept</li>
<li><i class="line" style="border-color:var(--hot);border-top-style:dashed"></i> the largest singular values kept</li>
<li><i class="line" style="border-color:var(--mute)"></i> random ones kept (band: least to greatest of the
draws)</li></ul>"""
)
TEXT = Markup(
    """<p>Balanced accuracy on the held-out cells where only some singular directions of the {head} are kept:
the most important ones, those of the largest singular values, or random ones. It was said of robust models that
{claimed:g} % of the directions can be pruned at no loss. {said}</p>{key}"""
)
ROBUST = Markup("""<p>{what} The same orders, in percentage points.</p>{key}""")


@each_group(PRUNABLE)
def section(results: AnalysisResults, study: Study) -> Section:
    """Show accuracy on the held-out cells, other groups folded away, and effective robustness."""
    curves = results.tables["curves"]
    if curves.empty:
        return Section("Pruning", (), plots={"pruning": _plot(curves)})
    natural = study.named("natural-only")
    fit = trend(results.tables["checkpoints"], natural)
    rows = pd.concat([curves, robustness(curves, fit)], ignore_index=True)
    means = rows.groupby(["mixture", "order", "draw", "percent", "cells"], sort=False, as_index=False)[
        "accuracy"
    ].mean()
    names = [mixture for mixture in study.mixtures if (means["mixture"] == mixture).any()]
    shown = {cells: {name: _figure(means, cells, name) for name in names} for cells in GROUPS}
    parts = [
        Subsection(
            "How many directions does the head need?",
            TEXT.format(head=HEADS[results.kind], claimed=CLAIMED, said=_said(means), key=KEY),
            shown["held_out"],
            {f"Accuracy on {GROUPS[cells]}": shown[cells] for cells in ("seen", "natural")},
        ),
        Subsection(
            "Does pruning cost robustness?", ROBUST.format(what=_measure(fit, natural), key=KEY), shown["effective"]
        ),
    ]
    free = {
        f"{mixture}.{order.replace(' ', '_')}.{cells}.prunable": prunable(mine)
        for (mixture, order, cells), mine in means[means["cells"].isin(("held_out", "natural"))].groupby(
            ["mixture", "order", "cells"], sort=False
        )
    }
    return Section("Pruning", parts, plots={"pruning": _plot(means)}, metrics=free)


def trend(checkpoints: pd.DataFrame, natural: str | None) -> Fit | None:
    """Return the line through all checkpoints of models of natural images alone; None where there is none."""
    rows = checkpoints[checkpoints["mixture"] == natural]
    wide = rows.pivot(index=[*RUN, "checkpoint"], columns="cells", values=["accuracy", "n"])
    try:
        x, y = (clamp(wide["accuracy", cells], wide["n", cells]) for cells in ("natural_tested", "held_out"))
        return fit_line(x, y)
    except (DataError, KeyError):  # too few checkpoints, or no such images
        return None


def robustness(curves: pd.DataFrame, fit: Fit | None) -> pd.DataFrame:
    """Return rows of `curves` of the group `effective`: above the trend; without one, held-out less natural accuracy.

    `accuracy` is then in percentage points, x the natural images of the test classes.
    """
    keys = [*RUN, "order", "draw", "percent", "kept"]
    wide = curves.pivot(index=keys, columns="cells", values=["accuracy", "n"])
    if not {"held_out", "natural_tested"} <= set(wide["accuracy"]):
        return curves.iloc[:0]
    across, up = (wide["accuracy", cells].to_numpy() for cells in ("natural_tested", "held_out"))
    points = 100 * (up - across)
    if fit is not None:
        points = effective_robustness(clamp(across, wide["n", "natural_tested"]), up, fit)
    frame = pd.DataFrame({"accuracy": points, "n": wide["n", "held_out"].astype("int64")}, index=wide.index)
    return frame.reset_index().assign(cells="effective")


def prunable(curves: pd.DataFrame) -> float:
    """Return the largest share in per cent up to which no share costs more than LOSS of accuracy, mean over draws."""
    means = curves.groupby("percent")["accuracy"].mean().sort_index()
    lost = means < means.iloc[0] - LOSS
    return float(means.index[-1] if not lost.any() else means.index[max(int(lost.to_numpy().argmax()) - 1, 0)])


def _said(means: pd.DataFrame) -> str:
    rows = means[means["cells"] == "held_out"]
    said = []
    for order in ORDERS:
        shares = [
            f"{mixture} {prunable(mine):g}"
            for mixture, mine in rows[rows["order"] == order].groupby("mixture", sort=False)
        ]
        said.append(f"{listed(shares)} (by {order})" if order != "random" else f"{listed(shares)} (at random)")
    lost = f"Here the share in per cent that costs at most {percent(LOSS)} of accuracy is {'; '.join(said)}."
    at = rows[(rows["order"] == "importance") & (rows["percent"] == CLAIMED)].set_index("mixture")["accuracy"]
    whole = rows[(rows["order"] == "importance") & (rows["percent"] == 0)].set_index("mixture")["accuracy"]
    both = [f"{name} {percent(value)} of {percent(whole[name])}" for name, value in at.items() if name in whole]
    return lost + (f" With {CLAIMED:g} % pruned by importance there is left: {listed(both)}." if both else "")


def _measure(fit: Fit | None, natural: str | None) -> str:
    if fit is None:
        return (
            "Held-out accuracy less accuracy on natural images of the same classes, since there are too few checkpoints"
            " of a model of natural images alone for a trend, which effective robustness needs. A head that has lost"
            " all comes to 0."
        )
    return f"Effective robustness: how far held-out accuracy lies above the trend of {natural} over its checkpoints."


def _figure(means: pd.DataFrame, cells: str, mixture: str) -> Figure:
    group = means[means["cells"] == cells]
    mine = group[group["mixture"] == mixture]
    title = f"Pruned head of {mixture}: {GROUPS[cells]}"
    ends = mine[(mine["order"] == "importance") & mine["percent"].isin((mine["percent"].min(), mine["percent"].max()))]
    said = "; ".join(f"{row.percent:g} % pruned by importance: {row.accuracy:.3g}" for row in ends.itertuples())
    limits = (min(float(group["accuracy"].min()), 0.0), max(float(group["accuracy"].max()), 0.0))
    draw = partial(_draw, mine=mine, limits=limits, shares=cells != "effective")
    return Figure(f"pruning-{cells}-{mixture}", title, "Mean over seeds.", f"{title}; {said}.", draw)


def _draw(look: Look, mine: pd.DataFrame, limits: tuple[float, float], shares: bool) -> Drawing:
    size = look.small
    made = panel(look, look.panel, 0.62 * look.panel, (3.6 * size, 0.9 * size, 1.1 * size, 3.6 * size))
    ticks = round_ticks(*limits)
    made.limits((0, 100), (ticks[0], ticks[-1]))
    made.mark_across([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100"], "% of directions kept")
    plain = [f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks]
    made.mark_up(ticks, percent_labels(ticks) if shares else plain)
    lines = {
        "random": Line(look.mute, look.stroke),
        "importance": Line(look.accent, 1.5 * look.stroke, front=3),
        "singular value": Line(look.hot, 0.75 * look.stroke, (0, (4, 4)), front=4),
    }
    for order, line in lines.items():
        rows = mine[mine["order"] == order].groupby("percent")["accuracy"].agg(["mean", "min", "max"])
        kept = 100 - rows.index.to_numpy(dtype=np.float64)
        if order == "random":
            band(made, kept, rows["min"], rows["max"], look.mute)
        curve(made, kept, rows["mean"], line, order)
    return made.figure


def _plot(means: pd.DataFrame) -> pd.DataFrame:
    rows = means[means["cells"] == "held_out"]
    found = rows.groupby(["mixture", "order", "percent"], sort=False, as_index=False)["accuracy"].mean()
    found = found.assign(x=1 - found["percent"] / 100).rename(columns={"order": "series", "accuracy": "y"})
    columns = ["mixture", "series", "x", "y"]
    return found[columns].astype({"mixture": "str", "series": "str", "x": "float64", "y": "float64"})
