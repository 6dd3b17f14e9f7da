"""What ImageNet accuracy makes one expect under natural shifts: trends of baseline models, and others measured by them.

Baseline models were trained on ImageNet alone, without a robustness intervention (resources/effective_robustness.json
names them). Their trends ship with Domix as coefficients; from the public table itself, imagenet-testbed's
robustness_top1s.csv, they can be fitted anew, on other axes and with bands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from domix.evaluate.effective import LEAST, Fit, Floats, PivotFit, Transform, band, effective_robustness, fit_line
from domix.evaluate.statistics import clopper_pearson
from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from domix.runtime.tables import numbers, read_csv, read_table

RESOURCE = Path(__file__).parent / "resources"
IMAGENET = "imagenet"
SHIFTS = ("imagenet-v2", "imagenet-r", "imagenet-sketch", "objectnet", "imagenet-a")
MEANS = {"mean of 5": SHIFTS, "mean of 4": SHIFTS[:-1]}
# ImageNet's images of the classes that a shift has: the column of the accuracy on them
MATCHED = {shift: f"imagenet on the classes of {shift}" for shift in ("imagenet-r", "objectnet", "imagenet-a")}
IMAGES = {IMAGENET: 50_000, "imagenet-v2": 10_000, "imagenet-r": 30_000, "imagenet-sketch": 50_889} | {
    "objectnet": 18_574,
    "imagenet-a": 7_500,
}
CONFIDENCE = 0.995  # of an accuracy's interval, as in the testbed
TESTBED = {
    "val": IMAGENET,
    "imagenetv2-matched-frequency-format-val": "imagenet-v2",
    "imagenet-r": "imagenet-r",
    "imagenet-sketch": "imagenet-sketch",
    "objectnet-1.0-beta": "objectnet",
    "imagenet-a": "imagenet-a",
    "val-on-imagenet-r-classes": MATCHED["imagenet-r"],
    "val-on-objectnet-classes": MATCHED["objectnet"],
    "val-on-imagenet-a-classes": MATCHED["imagenet-a"],
}
OPEN_CLIP = {
    "ImageNet 1k": IMAGENET,
    "ImageNet v2": "imagenet-v2",
    "ImageNet-R": "imagenet-r",
    "ImageNet Sketch": "imagenet-sketch",
    "ObjectNet": "objectnet",
    "ImageNet-A": "imagenet-a",
}
COLUMNS = ["model", "shift", "x", "accuracy", "low", "high", "expected", "expected_low", "expected_high", "effective"]


@dataclass(frozen=True)
class Trend:
    """What baseline models make one expect under one shift, from their accuracy in column `x` of a table."""

    x: str
    fit: Fit | PivotFit
    points: tuple[Floats, Floats] | None = None  # accuracies that it was fitted to, where they are known


def read_accuracies(path: Path) -> pd.DataFrame:
    """Read accuracies in 0..1, one row a model: columns IMAGENET, those of SHIFTS and MATCHED that there are, MEANS.

    Known are imagenet-testbed's robustness_top1s.csv, open_clip's openclip_results.csv, Domix's robustness.parquet,
    and any CSV with a column `model` and columns of Domix's names. Where a number is above 1, all are in per cent.

    Raises:
        DataError: the file is missing or no such table, or holds an accuracy outside 0..100 %.
    """
    frame = _from_robustness(read_table(path)) if path.suffix == ".parquet" else _from_csv(path)
    if IMAGENET not in frame:
        raise DataError(f"{path} has no column for the accuracy on ImageNet (imagenet, val or 'ImageNet 1k'): add it")
    if doubled := sorted(set(frame.index[frame.index.duplicated()])):
        raise DataError(f"{path} names the model {doubled[0]!r} twice: give every model a name of its own")
    if (frame > 1).any(axis=None):
        frame = frame / 100
    if ((frame < 0) | (frame > 1)).any(axis=None):
        raise DataError(f"{path} holds an accuracy outside 0 to 100 per cent: correct it")
    for name, parts in MEANS.items():
        frame[name] = frame.reindex(columns=list(parts)).mean(axis=1, skipna=False)
    return frame


def _from_csv(path: Path) -> pd.DataFrame:
    frame = read_csv(path, mend="name a CSV or parquet file with the accuracies of models")
    names: Mapping[str, str] = {name: name for name in (IMAGENET, *SHIFTS, *MATCHED.values())}
    if "ImageNet 1k" in frame and "pretrained" in frame:
        frame["model"], names = frame["name"] + "/" + frame["pretrained"], OPEN_CLIP
    elif "val" in frame:
        names = TESTBED
    if "model" not in frame:
        raise DataError(f"{path} has no column 'model': add one with the models' names")
    known = {column: name for column, name in names.items() if column in frame}
    try:
        return numbers(frame.set_index("model")[list(known)].rename(columns=known))
    except ValueError as error:
        raise DataError(
            f"{path} holds something that is no accuracy ({error}): correct it, or leave it empty"
        ) from None


def _from_robustness(frame: pd.DataFrame) -> pd.DataFrame:
    """Return top-1 accuracies by model: among a set's own classes where it has some, and ImageNet's of MATCHED."""
    if missing := {"mixture", "seed", "kind", "set", "labels", "metric", "estimate"} - set(frame):
        raise DataError(f"the table has no column {min(missing)!r}: name a CSV, or artifacts/eval/robustness.parquet")
    rows = frame[(frame["metric"] == "top1") & frame["set"].isin([IMAGENET, *SHIFTS])]
    matched = {f"classes of {shift}": column for shift, column in MATCHED.items()}
    column = rows["set"].where(rows["labels"].isin(["all", "subset"]), rows["labels"].map(matched))
    kind = rows["kind"].map({"supervised": "supervised "}).fillna("")
    seed = ("-s" + rows["seed"].astype(str)).where(rows["kind"] != "public", "")
    named = rows.assign(model=kind + rows["mixture"] + seed, column=column).dropna(subset=["column"])
    best = named.sort_values("labels").drop_duplicates(["model", "column"], keep="last")  # subset after all
    return best.pivot(index="model", columns="column", values="estimate")


def shipped_trends(*, matched: bool = False, pivot: bool = False) -> dict[str, Trend]:
    """Return the trends whose coefficients ship with Domix, by shift: logit axes.

    Args:
        matched: expect from the accuracy on ImageNet's images of the shift's classes, where a shift has not all.
        pivot: two lines for ImageNet-A, below and above the ResNet-50 for which it was made (not if `matched`).
    """
    tree = read_json(RESOURCE / "effective_robustness.json")
    trends = {shift: Trend(IMAGENET, _shipped(line)) for shift, line in tree["fits"].items()}
    if matched:
        return trends | {shift: Trend(MATCHED[shift], _shipped(line)) for shift, line in tree["matched"].items()}
    if pivot:
        two = tree["pivot"]
        trends["imagenet-a"] = Trend(IMAGENET, PivotFit(two["at"], _shipped(two["below"]), _shipped(two["above"])))
    return trends


def _shipped(line: Mapping[str, Any]) -> Fit:
    return Fit("logit", line["slope"], line["intercept"], line["r2"])


def fitted_trends(
    table: pd.DataFrame, transform: Transform = "logit", *, matched: bool = False, pivot: bool = False
) -> dict[str, Trend]:
    """Fit the trends of the baseline models in a table of `read_accuracies`; arguments as of `shipped_trends`.

    A model that has nothing or everything right under a shift (or no number) stays out of that shift's fit.

    Raises:
        DataError: the table has too few of the baseline models for any shift.
    """
    tree = read_json(RESOURCE / "effective_robustness.json")
    rows, trends = table[table.index.isin(tree["baselines"])], {}
    for shift in (*SHIFTS, *MEANS):
        column = MATCHED.get(shift, IMAGENET) if matched else IMAGENET
        if column not in rows or shift not in rows:
            continue
        both = rows[[column, shift]]
        x, y = both[((both > 0) & (both < 1)).all(axis=1)].to_numpy().T
        if len(x) < LEAST:
            continue
        fit: Fit | PivotFit = fit_line(x, y, transform)
        at = tree["pivot"]["at"]
        if pivot and not matched and shift == "imagenet-a" and min((x < at).sum(), (x >= at).sum()) >= LEAST:
            below, above = (fit_line(x[side], y[side], transform) for side in (x < at, x >= at))
            fit = PivotFit(at, below, above)
        trends[shift] = Trend(column, fit, (x, y))
    if not trends:
        raise DataError(
            f"the baselines' table has {len(rows)} of the {len(tree['baselines'])} baseline models, too few for a fit:"
            " name imagenet-testbed's robustness_top1s.csv"
        )
    return trends


def effective_table(table: pd.DataFrame, trends: Mapping[str, Trend]) -> pd.DataFrame:
    """Return the effective robustness of every model of a table under every shift that it has a number for.

    Returns:
        Columns COLUMNS, accuracies in 0..1: `x` the accuracy without the shift, `low` and `high` Clopper and Pearson's
        exact interval of the accuracy under it (NaN for means), `expected` what the baselines' trend makes of x, its
        bootstrap band (NaN where the baselines are not known), `effective` the robustness in percentage points.
    """
    parts = []
    for shift, trend in trends.items():
        if shift not in table or trend.x not in table:
            continue
        rows = table[[trend.x, shift]].dropna()
        x, y = rows.to_numpy().T
        low, high = _interval(y, shift)
        expected_low, expected_high = _band(trend, x)
        columns = [x, y, low, high, trend.fit.expected(x), expected_low, expected_high]
        values = dict(zip(COLUMNS[2:], [*columns, effective_robustness(x, y, trend.fit)], strict=True))
        parts.append(pd.DataFrame({"model": rows.index, "shift": shift} | values))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _interval(accuracy: Floats, shift: str) -> tuple[Floats, Floats]:
    if shift not in IMAGES:
        return np.full(len(accuracy), np.nan), np.full(len(accuracy), np.nan)
    n = np.full(len(accuracy), IMAGES[shift])
    return clopper_pearson(np.rint(accuracy * n), n, CONFIDENCE)


def _band(trend: Trend, x: Floats) -> tuple[Floats, Floats]:
    """Return the bootstrap band of a trend at accuracies x; NaN where the points behind it are not known."""
    low, high = np.full(len(x), np.nan), np.full(len(x), np.nan)
    if trend.points is None or not len(x):
        return low, high
    own_x, own_y = trend.points
    if isinstance(trend.fit, Fit):
        return band(own_x, own_y, x, trend.fit.transform)
    at = trend.fit.pivot
    for mine, side in ((x < at, own_x < at), (x >= at, own_x >= at)):
        low[mine], high[mine] = band(own_x[side], own_y[side], x[mine], trend.fit.below.transform)
    return low, high


def wide_table(effective: pd.DataFrame) -> pd.DataFrame:
    """Return the effective robustness as one row a model and one column a shift, in the table's order."""
    order = effective["model"].drop_duplicates()
    wide = effective.pivot(index="model", columns="shift", values="effective")
    return wide.loc[order, [name for name in (*SHIFTS, *MEANS) if name in wide]]
