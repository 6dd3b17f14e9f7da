"""What the report says of adversarial images: how far they were changed, what came of it, and some to look at."""

from __future__ import annotations

import base64
import io
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from domix.analyses.adversarial.draw import group_of
from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.runs import first_seeds
from domix.analyses.template import render
from domix.figures.charts import Bar, Mark, forest
from domix.figures.figure import Figure
from domix.figures.images import ImageRow, image_rows
from domix.figures.look import Drawing, Look
from domix.runtime.wording import percent, plain, spaced
from domix.study import Study

PACKAGE = "domix.analyses.adversarial"
TITLE = "Adversarial images"
PLACES = 4
VARIANTS, BANKS = ("smooth", "patchy"), ("all", "without")
BUDGETS = ("psnr", "linf", "l2", "cosine_before", "cosine_after")
GROUPS = {"near": "near to", "far": "far from"}  # NEARNESS in words
AMPLIFIED = 5  # times that a change is shown larger than it is
SHOWN = Markup(
    """<p>A few pairs of each mixture&rsquo;s first seed, as the model reads them. A change is shown {times} times as
strong, on grey.</p>"""
)


def section(results: AnalysisResults, study: Study) -> Section:
    """Show how far images were changed, AUROC before and after, and pairs; nothing where no run has any."""
    detection, pairs = results.tables["detection"], results.tables["pairs"]
    if pairs.empty:
        return Section(TITLE, ())
    rows = summary_rows(detection, pairs)
    most = int(detection["n_foreign"].max())
    context = {
        "what": foreign_words(results.settings.ood, study.test_domain),
        "pairs": f"{most} such images",
        "steps": results.settings.steps,
        "rows": rows,
    }
    mixtures = [name for name in study.mixtures if name in set(detection["mixture"])]
    parts = [
        Subsection(
            "Whether small changes make foreign images pass for known ones",
            render(PACKAGE, "section.html", context),
            {name: _detected(name, detection[detection["mixture"] == name]) for name in mixtures},
        )
    ]
    examples = first_seeds(study, results.tables["examples"])
    if len(examples):
        shown = {name: _pairs(name, examples[examples["mixture"] == name]) for name in mixtures}
        parts.append(Subsection("What such images look like", SHOWN.format(times=AMPLIFIED), shown))
    return Section(TITLE, parts, metrics=_metrics(rows))


def foreign_words(ood: str | None, test_domain: str) -> str:
    """Say what a foreign image is: `ood` as in the settings."""
    if ood is None:
        return f"a {test_domain} image of a class that was held out in that style"
    name, group = group_of(ood)
    return f"an image of {name}" + ("" if group is None else f" whose class is {GROUPS[group]} the study\u2019s")


def summary_rows(detection: pd.DataFrame, pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return of each mixture and variant the medians of BUDGETS, and `auroc`: before and after, of each of BANKS."""
    known = detection.groupby(["mixture", "variant", "bank", "images"])["auroc"].mean()
    rows = []
    for mixture, variant in pairs[["mixture", "variant"]].drop_duplicates().itertuples(index=False, name=None):
        mine = pairs[(pairs["mixture"] == mixture) & (pairs["variant"] == variant)]
        auroc = [float(known[mixture, variant, bank, what]) for bank in BANKS for what in ("original", "adversarial")]
        rows.append({"mixture": mixture, "variant": variant, **mine[list(BUDGETS)].median().to_dict(), "auroc": auroc})
    return rows


def _metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in rows:
        before, after, before_without, after_without = row["auroc"]
        found[f"{row['mixture']}.auroc"] = before
        found[f"{row['mixture']}.auroc.without"] = before_without
        name = f"{row['mixture']}.{row['variant']}"
        found |= {f"{name}.auroc": after, f"{name}.auroc.without": after_without, f"{name}.psnr": row["psnr"]}
        found |= {f"{name}.{what}": row[what] for what in ("linf", "l2", "cosine_after")}
    return {name: round(value, PLACES) for name, value in found.items() if np.isfinite(value)}


def _detected(mixture: str, detection: pd.DataFrame) -> Figure:
    bars = []
    for bank, words in zip(BANKS, ("", ", no targets"), strict=True):
        for what in ("as it was", *VARIANTS):
            images, variant = ("adversarial", what) if what in VARIANTS else ("original", VARIANTS[0])
            rows = detection[
                (detection["bank"] == bank) & (detection["images"] == images) & (detection["variant"] == variant)
            ]
            kind = "plain" if what in VARIANTS else "lower"
            ends = rows[["auroc", "low", "high"]].mean()
            seeds = tuple(rows["auroc"]) if len(rows) > 1 else ()
            bars.append(Bar(f"{what}{words}", *ends, kind=kind, seeds=seeds))
    title = f"Foreign images recognised by {mixture}"
    said = ", ".join(f"{bar.label} {percent(bar.estimate)}" for bar in bars[:3])
    caption = "AUROC with intervals over images; means over seeds."
    return Figure(f"adversarial-auroc-{mixture}", title, caption, f"{title}: {said}.", partial(_forest, bars))


def _forest(bars: list[Bar], look: Look) -> Drawing:
    return forest(look, bars, [Mark(0.5, "chance", (4, 2.7))], plain, "AUROC, %")


def _pairs(mixture: str, examples: pd.DataFrame) -> Figure:
    rows = []
    for _, mine in examples.groupby("pair", sort=True):
        images = {row["image"]: row for row in mine.to_dict("records")}
        pixels = {what: _pixels(row["png"]) for what, row in images.items()}
        source = pixels["source"]
        shown = [source]
        for variant in VARIANTS:
            shown += [amplified(source, pixels[variant]), pixels[variant]]
        words = " for ".join(spaced(images[what]["name"]) for what in ("source", "target"))
        rows.append(ImageRow(words, [*shown, pixels["target"]]))
    heads = ["foreign", "smooth\nchange", "smoothly\nchanged", "patchy\nchange", "patchily\nchanged", "target"]
    title = f"Foreign images that were to pass for known ones of {mixture}"
    alt = f"{title}: {'; '.join(row.words for row in rows)}."
    return Figure(f"adversarial-pairs-{mixture}", title, "First seed.", alt, partial(_rows, heads, rows))


def _rows(heads: list[str], rows: list[ImageRow], look: Look) -> Drawing:
    return image_rows(look, heads, rows)


def amplified(source: NDArray[np.uint8], changed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the change between two images, AMPLIFIED times as strong, on grey: uint8 [H, W, 3]."""
    apart = changed.astype(np.int64) - source
    return np.clip(128 + AMPLIFIED * apart, 0, 255).astype(np.uint8)


def _pixels(png: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))
