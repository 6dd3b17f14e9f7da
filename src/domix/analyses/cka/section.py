"""What the report shows of CKA: its course over the layers, a panel a mixture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.contract import Figure, Part, Results, Section
from domix.analyses.runs import mixtures_of
from domix.report.figures.canvas import HOT, MUTE, SMALL, Canvas, scale, ticks
from domix.study import Study

PANEL = 300.0
SUBSETS = ("test", "seen", "all")
TEXT = Markup(
    """<p>Centred kernel alignment (CKA, {kernel} kernel, on the class means of the test classes) is 1 where two domains
arrange the classes in the same way and about 0 where their arrangements have nothing to do with each other. If the
lines for pairs with <span class="hot">{test_domain}</span> run below the others, the network has not brought that
style into the common arrangement, and the layer where they part is where it fails to.</p>
<ul class="key"><li><i class="line" style="border-color:var(--hot)"></i> pairs with {test_domain} (thick: mean)</li>
<li><i class="line" style="border-color:var(--mute);border-top-style:dashed"></i> the other pairs (thick:
mean)</li></ul>"""
)


def section(results: Results, study: Study) -> Section:
    """Show the first kernel on the test classes; other kernels and classes are folded away."""
    table = results.tables["cka"]
    kernels = results.settings.kernels
    shown = {(kernel, classes): panels(table, study, kernel, classes) for kernel in kernels for classes in SUBSETS}
    first = shown.pop((kernels[0], "test"))
    part = Part(
        "How alike two domains are represented, layer by layer",
        TEXT.format(kernel=kernels[0], test_domain=study.test_domain),
        first,
        {f"CKA with kernel {kernel}, {classes} classes": more for (kernel, classes), more in shown.items() if more},
    )
    return Section("CKA", (part,) if first else (), plots={"cka": plot(table, study)})


def by_layer(table: pd.DataFrame, study: Study, kernel: str, classes: str) -> pd.DataFrame:
    """Return CKA by layer, mean over seeds: `mixture, layer, depth, domain_a, domain_b, group, value`.

    `group` is "test" for pairs that hold the test domain, else "other".
    """
    rows = table[(table["kernel"] == kernel) & (table["classes"] == classes)]
    rows = rows[rows["domain_a"] != rows["domain_b"]]
    with_test = (rows["domain_a"] == study.test_domain) | (rows["domain_b"] == study.test_domain)
    rows = rows.assign(group=np.where(with_test, "test", "other"))
    keys = ["mixture", "layer", "depth", "domain_a", "domain_b", "group"]
    return rows.groupby(keys, sort=False, as_index=False)["value"].mean()


def plot(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return mean CKA a layer over the test classes, of the pairs with the test domain and of the others."""
    parts = []
    for kernel in table["kernel"].unique():
        layers = by_layer(table, study, kernel, "test")
        means = layers.groupby(["mixture", "layer", "depth", "group"], sort=False, as_index=False)["value"].mean()
        parts.append(means.assign(kernel=kernel))
    names = {"test": "with the test domain", "other": "other pairs"}
    columns = ["mixture", "layer", "depth", "group", "value", "kernel"]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return frame.assign(pairs=frame["group"].map(names)).drop(columns="group")


def panels(table: pd.DataFrame, study: Study, kernel: str, classes: str) -> list[Figure]:
    """Draw CKA by layer, a panel a mixture: pairs of domains with the test domain against the other pairs."""
    frame = by_layer(table, study, kernel, classes)
    if frame.empty:
        return []
    grid = ticks(min(0.0, frame["value"].min()), max(frame["value"].max(), 0.1), 6)
    known = [m for m in mixtures_of(study) if m in set(frame["mixture"])]
    return [Figure(m, partial(_panel, study.test_domain, m, frame[frame["mixture"] == m], grid)) for m in known]


def _panel(test_domain: str, mixture: str, frame: pd.DataFrame, grid: list[float]) -> Markup:
    layers = frame.drop_duplicates("layer").sort_values("depth")["layer"].tolist()
    left, bottom, right = 34.0, 158.0, PANEL - 12.0
    x = [left + 6 + i * (right - left - 12) / max(len(layers) - 1, 1) for i in range(len(layers))]
    y = scale(grid[0], grid[-1], bottom, 10)
    curves = frame.pivot(index=["group", "domain_a", "domain_b"], columns="layer", values="value")[layers]
    means = curves.groupby("group").mean().reindex(["other", "test"])
    last = means[layers[-1]]
    said = f"{last['test']:.2f} for pairs with {test_domain}, {last['other']:.2f} for the others"
    canvas = Canvas(PANEL, 222, f"CKA by layer of {mixture}; at the last layer {said}.")
    for tick in grid:
        canvas.line(left, y(tick), right, y(tick))
        canvas.text(left - 6, y(tick) + 4, f"{tick:g}", text_anchor="end", font_size=SMALL, fill=MUTE)
    every = -(-len(layers) // 10)
    for place, layer in list(zip(x, layers, strict=True))[::-every]:  # the last layer always has its name
        turn = f"rotate(-40 {place:.0f} {bottom + 12:.0f})"
        canvas.text(place + 3, bottom + 14, layer, text_anchor="end", font_size=SMALL, fill=MUTE, transform=turn)
    for (group, a, b), values in zip(curves.index, curves.to_numpy(), strict=True):
        points = _known(x, values, y)
        if points:
            colour = HOT if group == "test" else MUTE
            canvas.curve(points, colour, stroke_width=1, stroke_opacity=0.3, tip=f"{a} and {b}")
    for group, colour, dashes in (("other", MUTE, "7 4"), ("test", HOT, "none")):
        if points := _known(x, means.loc[group].to_numpy(), y):
            canvas.curve(points, colour, stroke_width=3, stroke_dasharray=dashes)
            canvas.dots(points, colour, 6)
    return canvas.render()


def _known(x: list[float], values: np.ndarray, y: Callable[[float], float]) -> list[tuple[float, float]]:
    """Return the points of a curve, without the layers where its value is missing."""
    return [(place, y(value)) for place, value in zip(x, values, strict=True) if not np.isnan(value)]
