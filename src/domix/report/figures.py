"""The figures of the result: mixtures as cells, accuracies with intervals, differences, classes, loss curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.report import tables, words
from domix.report.study import Results
from domix.report.style import ACCENT, GRID, HOT, INK, LETTER, MUTE, PAPER, SMALL, TEXT, Canvas, scale, ticks, wrap

PANEL = 300  # width of a panel of which several stand side by side
WIDE = 400  # width of a panel of which two do


def cells(study: Results) -> list[tuple[str, Markup]]:
    """Draw each mixture as a picture of its cells: domains x (seen, test) classes. Returns (mixture, figure)."""
    counts = _cell_counts(study)
    most = max(max(row.values()) for row in counts.values()) or 1.0
    return [(mixture, _cells_panel(study, mixture, counts[mixture], most)) for mixture in study.mixtures]


def _cell_counts(study: Results) -> dict[str, dict[tuple[str, bool], float]]:
    """Return for each mixture the samples a class in each (domain, are they test classes?)."""
    frame = study.cells.assign(tested=study.cells["class"].isin(study.test_classes))
    means = frame.groupby(["mixture", "domain", "tested"])["samples"].mean()
    return {
        mixture: {(d, t): float(means.get((mixture, d, t), 0.0)) for d in study.domains for t in (False, True)}
        for mixture in study.mixtures
    }


def _cells_panel(study: Results, mixture: str, counts: dict[tuple[str, bool], float], most: float) -> Markup:
    left, top, row, gap = _gutter(study.domains, SMALL + 1), 24.0, 26.0, 3.0
    seen, test = (PANEL - left - 6) * 0.6, (PANEL - left - 6) * 0.4
    n_test = len(study.test_classes)
    said = words.shown(study, mixture)
    canvas = Canvas(PANEL, top + row * len(study.domains) + 4, f"{mixture} shows {said}.")
    canvas.text(left + seen / 2, 14, f"{len(study.classes) - n_test} classes", text_anchor="middle", font_size=SMALL)
    canvas.text(left + seen + 4 + test / 2, 14, f"{n_test} test classes", text_anchor="middle", font_size=SMALL)
    for position, domain in enumerate(study.domains):
        y = top + position * row
        hot = domain == study.test_domain
        label = {"fill": HOT, "font_weight": 700} if hot else {}
        canvas.text(left - 8, y + row / 2 + 3, domain, text_anchor="end", font_size=SMALL + 1, **label)
        for tested, x, width in ((False, left, seen), (True, left + seen + 4, test)):
            mean = counts[domain, tested]
            kind = "tested" if hot and tested else "plain"
            _cell(canvas, (x, y, width - 1, row - gap), mean, most, kind)
    return canvas.render()


def _cell(canvas: Canvas, box: tuple[float, float, float, float], mean: float, most: float, kind: str) -> None:
    """Draw one block of cells: shade and number say how many samples a class it holds; the tested block is framed."""
    x, y, width, height = box
    place: dict[str, Any] = {"x": x, "y": y, "width": width, "height": height, "rx": 2}
    if mean > 0:
        share = 0.15 + 0.85 * mean / most
        canvas.add("rect", fill=ACCENT, fill_opacity=f"{share:.2f}", **place)
        colour = "var(--on-accent)" if share > 0.55 else INK
        number = f"{mean:.0f}" if mean >= 10 else f"{mean:.1f}"
        canvas.text(x + width / 2, y + height / 2 + 4, number, text_anchor="middle", font_size=SMALL, fill=colour)
    else:
        canvas.add("rect", fill="none", stroke=GRID, stroke_dasharray="3 3", **place)
    if kind == "tested":
        canvas.add("rect", fill="none", stroke=HOT, stroke_width=2.5, **place)
        if mean == 0:
            steps = np.arange(x - height, x + width, 8.0)
            for start in steps:  # hatched by hand: a pattern needs an id, which must be unique in a page
                a, b = max(start, x), min(start + height, x + width)
                canvas.line(a, y + height - (a - start), b, y + height - (b - start), HOT, stroke_opacity=0.55)
            canvas.add("rect", x=x + width / 2 - 30, y=y + 4, width=60, height=height - 8, fill=PAPER, rx=2)
            canvas.text(x + width / 2, y + height / 2 + 4, "withheld", text_anchor="middle", font_size=SMALL, fill=HOT)


@dataclass(frozen=True)
class Bar:
    """One row of a forest plot: an estimate with its interval; `seeds` are the single seeds' estimates."""

    label: str
    estimate: float
    low: float
    high: float
    kind: str = "plain"  # plain, lower (baseline) or upper (upper bound)
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A line down a forest plot."""

    value: float
    label: str
    dashes: str


def forest(bars: Sequence[Bar], marks: Sequence[Mark], description: str, signed: bool = False) -> Markup:
    """Draw estimates with intervals, one below the other, their numbers to the right."""
    left, row, top = min(_gutter([b.label for b in bars]), 140.0), 32.0, 10.0
    right = 136.0 if signed else 122.0
    values = [v for b in bars for v in (b.low, b.high, b.estimate)] + [m.value for m in marks] + [0.0]
    grid = ticks(min(values), max(values), 5)
    x = scale(grid[0], grid[-1], left, WIDE - right)
    bottom = top + row * len(bars)
    canvas = Canvas(WIDE, bottom + 36, description)
    for tick in grid:
        canvas.line(x(tick), top - 4, x(tick), bottom)
        text = f"{tick * 100:{'+' if signed and tick else ''}g}".replace("-", words.MINUS)
        canvas.text(x(tick), bottom + 16, text, text_anchor="middle", font_size=SMALL, fill=MUTE)
    unit = "percentage points" if signed else "balanced accuracy, %"
    canvas.text((left + WIDE - right) / 2, bottom + 32, unit, text_anchor="middle", font_size=SMALL, fill=MUTE)
    for mark in marks:
        place = {"stroke_dasharray": mark.dashes, "stroke_width": 1.5, "tip": mark.label}
        canvas.line(x(mark.value), top - 6, x(mark.value), bottom, MUTE, **place)
    for position, bar in enumerate(bars):
        _bar(canvas, bar, x, left, top + row * (position + 0.5), signed)
    return canvas.render()


def _bar(canvas: Canvas, bar: Bar, x: Callable[[float], float], left: float, y: float, signed: bool) -> None:
    lines = wrap(bar.label, left - 8)
    for number, line in enumerate(lines):
        canvas.text(left - 10, y + 4.5 + 14 * (number - (len(lines) - 1) / 2), line, text_anchor="end")
    colour = {"lower": MUTE, "upper": MUTE}.get(bar.kind, ACCENT)
    write = words.points if signed else (lambda v: words.percent(v).removesuffix(words.UNIT))
    ends = f"{write(bar.low)} to {write(bar.high)}"
    tip = f"{bar.label}: {write(bar.estimate)} ({ends})"
    canvas.line(x(bar.low), y, x(bar.high), y, colour, stroke_width=3, stroke_opacity=0.55, stroke_linecap="round")
    for seed in bar.seeds:
        canvas.line(x(seed), y - 7, x(seed), y + 7, colour, stroke_width=1.2)
    fill = PAPER if bar.kind == "upper" else colour
    canvas.add("circle", tip, cx=x(bar.estimate), cy=y, r=5.5, fill=fill, stroke=colour, stroke_width=2)
    side = WIDE - (90 if signed else 80)
    canvas.text(side, y + 4.5, write(bar.estimate), text_anchor="end", font_weight=600)
    canvas.text(side + 7, y + 4.5, ends, font_size=SMALL, fill=MUTE)


def accuracies(study: Results, name: str, domain: str, cells_kind: str) -> Markup:
    """Draw every mixture's balanced accuracy on one panel of `tables.panels`, with chance and the upper bound."""
    frame = tables.estimates(study)
    rows = {m: tables.pick(frame, m, domain, cells_kind) for m in study.mixtures}
    bars = [_accuracy_bar(study, m, row, domain, cells_kind) for m, row in rows.items() if row is not None]
    known = [row for row in rows.values() if row is not None]
    marks = [Mark(float(known[0]["chance"]), f"chance {words.percent(known[0]['chance'])}", "2 3")] if known else []
    upper = rows.get(study.upper_bound or "")
    if name == "withheld" and upper is not None:
        marks.append(Mark(float(upper["estimate"]), "upper bound", "6 4"))
    said = "; ".join(f"{b.label} {words.percent(b.estimate)}" for b in bars)
    return forest(bars, marks, f"Balanced accuracy on {domain} pictures ({name}): {said}.")


def _accuracy_bar(study: Results, mixture: str, row: pd.Series, domain: str, cells_kind: str) -> Bar:
    every = study.metrics
    mine = every[(every["mixture"] == mixture) & (every["domain"] == domain) & (every["cells"] == cells_kind)]
    seeds = tuple(mine.loc[mine["metric"] == tables.PRIMARY, "estimate"]) if row["seeds"] > 1 else ()
    return Bar(mixture, row["estimate"], row["low"], row["high"], _kind(study, mixture), seeds)


def _kind(study: Results, mixture: str) -> str:
    if mixture == study.baseline:
        return "lower"
    return "upper" if study.tested_samples(mixture) > 0 else "plain"


def paired(study: Results) -> Markup | None:
    """Draw every mixture's paired difference from the baseline on the withheld cells; None without a baseline."""
    if study.baseline is None:
        return None
    frame = tables.differences(study, study.baseline)
    if frame.empty:
        return None
    bars = [
        Bar(r["mixture"], r["difference"], r["low"], r["high"], _kind(study, r["mixture"])) for _, r in frame.iterrows()
    ]
    said = "; ".join(f"{b.label} {words.points(b.estimate)} points" for b in bars)
    return forest(bars, [Mark(0.0, study.baseline, "6 4")], f"Difference from {study.baseline}: {said}.", signed=True)


def losses(study: Results) -> list[tuple[str, Markup]]:
    """Draw each mixture's training loss over samples seen, the other mixtures' in grey behind it."""
    log = study.log.dropna(subset=["loss"])
    x_grid, y_grid = ticks(0, log["samples"].max(), 4), ticks(0, log["loss"].quantile(0.999), 5)
    return [(mixture, _loss_panel(log, mixture, x_grid, y_grid)) for mixture in study.mixtures]


def _loss_panel(log: pd.DataFrame, mixture: str, x_grid: list[float], y_grid: list[float]) -> Markup:
    height, left, bottom = 190.0, 34.0, 152.0
    x, y = scale(x_grid[0], x_grid[-1], left, PANEL - 14), scale(y_grid[0], y_grid[-1], bottom, 10)
    last = log[log["mixture"] == mixture].groupby("seed")["loss"].last().mean()
    canvas = Canvas(PANEL, height, f"Training loss of {mixture}, at the end {last:.2f}.")
    for tick in y_grid:
        canvas.line(left, y(tick), PANEL - 14, y(tick))
        canvas.text(left - 6, y(tick) + 4, f"{tick:g}", text_anchor="end", font_size=SMALL, fill=MUTE)
    for tick in x_grid:
        canvas.text(x(tick), bottom + 16, short(tick), text_anchor="middle", font_size=SMALL, fill=MUTE)
    canvas.text((left + PANEL) / 2, bottom + 33, "samples seen", text_anchor="middle", font_size=SMALL, fill=MUTE)
    runs = [run for _, run in log.groupby(["mixture", "seed"], sort=False)]
    for run in sorted(runs, key=lambda run: run["mixture"].iloc[0] == mixture):
        mine = run["mixture"].iloc[0] == mixture
        curve = [(x(s), y(min(v, y_grid[-1]))) for s, v in zip(run["samples"], run["loss"], strict=True)]
        canvas.curve(curve, ACCENT if mine else GRID, stroke_width=2 if mine else 1.3)
    return canvas.render()


def short(number: float) -> str:
    """Write a large number briefly: 90k, 1.5M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def classes(study: Results, rows: pd.DataFrame, title: str) -> Markup:
    """Draw accuracies as a table of shades: `rows` has classes down, mixtures across, as `tables.class_table` gives."""
    left, head, row = min(_gutter([str(c) for c in rows.index], SMALL + 1), 150.0), 78.0, 19.0
    width = (WIDE - left - 44) / max(len(rows.columns), 1)
    canvas = Canvas(WIDE, head + row * len(rows) + 4, f"{title}: accuracy a class and mixture.")
    for column, mixture in enumerate(rows.columns):
        x, y = left + (column + 0.5) * width, head - 8
        canvas.text(x, y, mixture, font_size=SMALL, transform=f"rotate(-35 {x:.0f} {y:.0f})")
    for position, (name, values) in enumerate(rows.iterrows()):
        y = head + position * row
        label = str(name).replace("_", " ")
        most = int((left - 8) / ((SMALL + 1) * LETTER))
        cut = label if len(label) <= most else label[: most - 1] + "\u2026"
        canvas.text(left - 8, y + 13.5, cut, text_anchor="end", font_size=SMALL + 1)
        for column, value in enumerate(values):
            if np.isnan(value):
                continue
            place = {"x": left + column * width, "y": y, "width": width - 2, "height": row - 2, "rx": 2}
            tip = f"{label}, {rows.columns[column]}: {words.percent(value)}"
            canvas.add("rect", tip, fill=ACCENT, fill_opacity=f"{0.06 + 0.94 * value:.2f}", **place)
            colour = "var(--on-accent)" if value > 0.6 else INK if value > 0.2 else MUTE
            middle = place["x"] + width / 2 - 1
            canvas.text(middle, y + 13, f"{value * 100:.0f}", text_anchor="middle", font_size=SMALL, fill=colour)
    return canvas.render()


def class_shares(study: Results) -> Markup:
    """Draw for each mixture how many withheld classes it reads always, sometimes and never."""
    table = tables.class_table(study)
    left, row, top = min(_gutter(study.mixtures), 140.0), 30.0, 4.0
    canvas = Canvas(WIDE, top + row * len(study.mixtures), "Test classes read always, sometimes and never.")
    for position, mixture in enumerate(study.mixtures):
        values = table[mixture].dropna()
        parts = [("always", (values == 1).sum(), 1.0), ("never", (values == 0).sum(), 0.08)]
        parts.insert(1, ("sometimes", len(values) - parts[0][1] - parts[1][1], 0.45))
        y, x = top + position * row, left
        lines = wrap(mixture, left - 8)
        for number, line in enumerate(lines):
            canvas.text(left - 10, y + 17 + 13 * (number - (len(lines) - 1) / 2), line, text_anchor="end")
        for name, count, shade in parts:
            width = (WIDE - left - 8) * count / max(len(values), 1)
            tip = f"{mixture}: {count} of {len(values)} classes {name}"
            canvas.add("rect", tip, x=x, y=y, width=width, height=row - 6, fill=ACCENT, fill_opacity=shade)
            if width > 24:
                colour = "var(--on-accent)" if shade == 1 else INK
                canvas.text(x + width / 2, y + 16, str(count), text_anchor="middle", font_size=SMALL, fill=colour)
            x += width
    return canvas.render()


def _gutter(labels: Sequence[str], size: float = TEXT) -> float:
    """Return the width that labels to the left of a figure need."""
    return max((len(label) for label in labels), default=0) * size * LETTER + 16
