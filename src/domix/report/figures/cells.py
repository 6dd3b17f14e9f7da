"""Each mixture as an image of its cells: how many samples a class it shows of every domain, and what is held out."""

from __future__ import annotations

from functools import partial

import matplotlib.figure
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection

from domix.figures.charts import frame, shade
from domix.figures.figure import Figure
from domix.figures.look import Look
from domix.figures.panel import Panel, gutter, panel
from domix.report.load.study import Results
from domix.report.tables import words

ROW = 2.35  # height of a domain's row, in sizes of small text
GAP = 0.012  # between the blocks of seen and of test classes, and their share of the width
SEEN = 0.6


def cells(study: Results) -> list[tuple[str, Figure]]:
    """Return a figure for each mixture."""
    counts = samples_a_class(study)
    most = float(counts["samples"].max()) or 1.0
    return [(mixture, _figure(study, mixture, counts, most)) for mixture in study.mixtures]


def samples_a_class(study: Results) -> pd.DataFrame:
    """Return the mean samples a class of each block of cells: `mixture, domain, tested (test classes?), samples`."""
    table = study.cells.assign(tested=study.cells["class"].isin(study.test_classes))
    return table.groupby(["mixture", "domain", "tested"], as_index=False, sort=False)["samples"].mean()


def _figure(study: Results, mixture: str, counts: pd.DataFrame, most: float) -> Figure:
    mine = counts[counts["mixture"] == mixture].set_index(["domain", "tested"])["samples"]
    draw = partial(_draw, study, mine, most)
    said = f"{mixture} shows {words.shown(study, mixture)}."
    return Figure(f"cells-{mixture}", f"Cells of {mixture}", "Samples a class of each domain.", said, draw)


def _draw(study: Results, samples: pd.Series, most: float, look: Look) -> matplotlib.figure.Figure:
    size, tested = look.small, len(study.test_classes)
    row, top, left = ROW * size, 2.2 * size, gutter(study.domains, size)
    made = panel(look, look.panel, top + row * len(study.domains) + 4, (left, top, 3, 4))
    made.limits((0, 1), (len(study.domains), 0))
    blocks = ((False, 0.0, SEEN - GAP), (True, SEEN, 1 - SEEN))
    heads = (f"{len(study.classes) - tested} classes", f"{tested} test classes")
    for (_, x, width), head in zip(blocks, heads, strict=True):
        made.text(x + width / 2, -0.35 * size / row, head, ha="center", va="baseline")
    for place, domain in enumerate(study.domains):
        hot = domain == study.test_domain
        made.label(place + 0.44, domain, **({"color": look.hot, "fontweight": 700} if hot else {}))
        for test_classes, x, width in blocks:
            box = (x, place, width, 1 - 3 / row)
            _block(made, box, float(samples.get((domain, test_classes), 0.0)), most, hot and test_classes)
    return made.figure


def _block(panel: Panel, box: tuple[float, float, float, float], mean: float, most: float, tested: bool) -> None:
    """Draw a block of cells: shade and number say how many samples a class it holds; the tested one is framed."""
    look = panel.look
    if mean > 0:
        shade(panel, box, 0.15 + 0.85 * mean / most, f"{mean:.0f}" if mean >= 10 else f"{mean:.1f}")
    else:
        frame(panel, box, look.grid, ls=(0, (3, 3)))
    if tested:
        if mean == 0:
            _hatch(panel, box)
        frame(panel, box, look.hot, lw=1.25 * look.stroke)


def _hatch(panel: Panel, box: tuple[float, float, float, float]) -> None:
    """Hatch a box and write that it is held out; by hand, since a pattern of SVG needs an id and a size of its own."""
    look, (x, y, width, height) = panel.look, box
    slope = height * panel.height / abs(panel.up[1] - panel.up[0]) / panel.width  # 45 degrees on the page
    starts = np.arange(x - slope, x + width, 0.7 * look.small / panel.width)
    cut = [(max(start, x), min(start + slope, x + width), start) for start in starts]
    lines = [[(a, y + height * (1 - (a - s) / slope)), (b, y + height * (1 - (b - s) / slope))] for a, b, s in cut]
    style = {"colors": look.hot, "alpha": 0.55, "linewidths": look.stroke / 2, "clip_on": False, "zorder": 0.9}
    panel.add(LineCollection(lines, **style))
    middle, half = x + width / 2, 2.8 * look.small / panel.width
    frame(panel, (middle - half, y + 0.18 * height, 2 * half, 0.64 * height), "none", fill=True, fc=look.paper)
    style = {"ha": "center", "va": "center_baseline", "color": look.hot}
    panel.text(middle, y + height / 2, "held out", **style)
