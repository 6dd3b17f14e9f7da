"""Accuracy on every held-out class by mixture, as a table of shades for each test domain."""

from __future__ import annotations

from functools import partial

import matplotlib.figure
import pandas as pd

from domix.data.mixtures.recipes import OWN
from domix.figures.charts import shade, table_height, table_in
from domix.figures.figure import Figure
from domix.figures.look import MM, Look
from domix.figures.panel import Panel
from domix.report.figures.classes import in_percent, tip
from domix.report.paper.collection import Collection
from domix.report.paper.sheets import Absent, Shown, keyed_sheet

ROW = 3.2 * MM  # height of a class
IN_A_BLOCK = 50  # classes below each other
MOST_BLOCKS = 4
KEY = (0.0, 0.25, 0.5, 0.75, 1.0)  # shares whose shades stand below the table


def figures(study: Collection) -> Shown:
    """Return one figure for each test domain."""
    return [_figure(study, domain) for domain in study.test_domains]


def class_accuracy(study: Collection, domain: str) -> pd.DataFrame:
    """Return the accuracy on each held-out class [class x mixture], mean over seeds, the easiest class first.

    Easy is what the mixtures read that were not shown the held-out cells; classes alike are sorted by name.
    """
    rows = study.rows("per_class", domain, "clip", domain=domain, held_out=True)
    table = rows.pivot_table(index="class", columns="mixture", values="accuracy", aggfunc="mean")
    table = table[[name for name in study.mixtures if name in table]]
    shown = study.shown[domain]
    blind = [name for name in map(str, table) if shown[name].share == 0 and shown[name].family != OWN] or list(table)
    order = table.assign(ease=table[blind].mean(axis=1)).reset_index()
    return table.loc[order.sort_values(["ease", "class"], ascending=[False, True])["class"]]


def _figure(study: Collection, domain: str) -> Figure | Absent:
    table, most = class_accuracy(study, domain), IN_A_BLOCK * MOST_BLOCKS
    if table.empty:
        return Absent(f"classes-{domain}", "Accuracy by class", f"No CLIP model was tested on {domain}.")
    cut = len(table) > most
    if cut:
        table = pd.concat([table.iloc[: most // 2], table.iloc[-(most // 2) :]])
    caption = (
        f"Accuracy in per cent on each held-out class, test domain {domain}, mean over seeds; from the class that the"
        " mixtures which were not shown the held-out cells read best, to the worst."
        + (f" Of {len(study.test_classes)} classes the {most // 2} easiest and the {most // 2} hardest." if cut else "")
    )
    draw = partial(_draw, table, study.mark)
    return Figure(f"classes-{domain}", "Accuracy by class", caption, caption, draw)


def _draw(table: pd.DataFrame, mark: str, look: Look) -> matplotlib.figure.Figure:
    blocks = -(-len(table) // IN_A_BLOCK)
    rows = -(-len(table) // blocks)
    width = look.panel if blocks == 1 and len(table.columns) <= 8 else look.wide
    height, foot = table_height(look, table.iloc[:rows], ROW), 4.2 * look.small
    figure, top = keyed_sheet(look, width, height + foot, (), mark)
    for number in range(blocks):
        part, place = table.iloc[number * rows : (number + 1) * rows], (number * width / blocks, top, width / blocks)
        table_in(look, figure, place, part, in_percent, tip, row=ROW)
    key = Panel(look, figure, (0, top + height, width, foot), (0.3 * width, look.small, 0.3 * width, 2.2 * look.small))
    key.limits((0, len(KEY)), (1, 0))
    for place, share in enumerate(KEY):
        shade(key, (place, 0, 0.94, 1), 0.05 + 0.95 * share, in_percent(share))
    key.mark_across([len(KEY) / 2], ["accuracy, %"])
    return figure
