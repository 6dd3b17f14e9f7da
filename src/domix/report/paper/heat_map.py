"""Accuracy on every withheld class by mixture, as a heat map for each test domain."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from domix.data.recipes import OWN
from domix.report.paper import ink
from domix.report.paper.collection import Collection
from domix.report.paper.drawn import Drawn

ROW = 3.2  # height of a class, millimetres
IN_A_BLOCK = 50  # classes below each other
MOST_BLOCKS = 4
WRITTEN = 20  # up to so many classes, the numbers are written into the cells
COLOURS = "cividis"  # the same order of lightness for every eye, and in grey


def draw(study: Collection) -> list[Drawn]:
    """Draw one figure for each test domain."""
    return [_draw(study, domain) for domain in study.test_domains]


def class_accuracy(study: Collection, domain: str) -> pd.DataFrame:
    """Return the accuracy on each withheld class [class x mixture], mean over seeds, the easiest class first.

    Easy is what the mixtures read that were not shown the withheld cells; classes alike are sorted by name.
    """
    rows = study.rows("per_class", domain, "clip", domain=domain, withheld=True)
    table = rows.pivot_table(index="class", columns="mixture", values="accuracy", aggfunc="mean")
    table = table[[name for name in study.mixtures if name in table]]
    shown = study.shown[domain]
    blind = [name for name in map(str, table) if shown[name].share == 0 and shown[name].family != OWN] or list(table)
    order = table.assign(ease=table[blind].mean(axis=1)).reset_index()
    return table.loc[order.sort_values(["ease", "class"], ascending=[False, True])["class"]]


def _draw(study: Collection, domain: str) -> Drawn:
    table = class_accuracy(study, domain)
    most = IN_A_BLOCK * MOST_BLOCKS
    cut = len(table) > most
    if cut:
        table = pd.concat([table.iloc[: most // 2], table.iloc[-(most // 2) :]])
    blocks = -(-len(table) // IN_A_BLOCK)
    rows = -(-len(table) // blocks)
    width = ink.COLUMN if blocks == 1 and len(table.columns) <= 8 else ink.PAGE
    heads = max(len(str(name)) for name in table) * ink.LETTER
    figure = ink.sheet(width, ROW * rows + heads + 18, study.mark)
    axes = figure.subplots(1, blocks, squeeze=False)[0]
    images = [_block(panel, table.iloc[n * rows : (n + 1) * rows], rows) for n, panel in enumerate(axes)]
    bar = figure.colorbar(images[0], ax=list(axes), location="bottom", shrink=0.5, aspect=40, pad=0.01)
    bar.set_label("accuracy, %")
    ink.percent_axis(bar.ax.xaxis, [0, 0.25, 0.5, 0.75, 1])
    caption = (
        f"Accuracy on each withheld class, test domain {domain}, mean over seeds; from the class that the mixtures"
        " which were not shown the withheld cells read best, to the worst."
        + (f" Of {len(study.test_classes)} classes the {most // 2} easiest and the {most // 2} hardest." if cut else "")
    )
    return Drawn(f"classes-{domain}", "Accuracy by class", caption, figure)


def _block(axes: Axes, table: pd.DataFrame, rows: int) -> AxesImage:
    values = table.to_numpy(dtype=float)
    image = axes.imshow(np.ma.masked_invalid(values), cmap=COLOURS, vmin=0, vmax=1, aspect="auto")
    axes.set_ylim(rows - 0.5, -0.5)  # a last block with fewer classes keeps their height
    axes.set_xticks(range(len(table.columns)), list(table.columns), rotation=70, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(table)), list(table.index))
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    if rows <= WRITTEN:
        for (y, x), value in np.ndenumerate(values):
            if not np.isnan(value):
                axes.text(
                    x, y, f"{value * 100:.0f}", ha="center", va="center", color="white" if value < 0.55 else "black"
                )
    return image
