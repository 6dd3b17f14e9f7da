"""Effective robustness of a zoo's models: how far above what their accuracy makes one expect each shift finds them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd

from domix.evaluate.baselines import IMAGENET, MEANS, SHIFTS, Trend, effective_table, shipped_trends
from domix.evaluate.effective import clamp, effective_robustness, fit_line
from domix.runtime.errors import DataError

ID = "id"
ACCURACY, ER = "accuracy ", "ER "  # what columns begin with, before the name of a shift
MEAN = "mean"

log = logging.getLogger(__name__)


def zoo_trends(
    models: pd.DataFrame, known: str, shifts: Mapping[str, int], baselines: str | None, images: int
) -> dict[str, Trend]:
    """Return what accuracy on the known images makes one expect under each shift, by its name.

    Of ImageNet and its usual shifts these are the trends that ship with Domix, unless a group of baselines is named;
    of other sets the line through that group. Where neither is to be had, the log says so and there is no trend.

    Args:
        models: `group`, ID, and `accuracy <shift>`, a row a model.
        known: name of the known images' set.
        shifts: name of each set of shifted images -> how many there are.
        baselines: group of the models that the line goes through.
        images: how many known ones there are.
    """
    trends: dict[str, Trend] = {}
    if baselines is None:
        if known == IMAGENET:
            shipped = shipped_trends()
            trends = {name: shipped[name] for name in (*SHIFTS, *MEANS) if name in shifts or _has_all(name, shifts)}
        if missing := [name for name in shifts if name not in trends]:
            log.warning(
                "no effective robustness under %s: no trend ships with Domix for it; name a group of the zoo as"
                " `baselines`",
                ", ".join(missing),
            )
        return trends
    mine = models[models["group"] == baselines]
    for name, count in shifts.items():
        across, up = clamp(mine[ID], images), clamp(mine[ACCURACY + name], count)
        try:
            trends[name] = Trend(ID, fit_line(across, up), (across, up))
        except DataError as error:
            log.warning("no effective robustness under %s by the group %s: %s", name, baselines, error)
    return trends


def with_robustness(models: pd.DataFrame, trends: Mapping[str, Trend]) -> pd.DataFrame:
    """Add `ER <shift>` in percentage points for every trend, and `ER mean` over the shifts, to a table of models.

    `ER mean of 5` and `ER mean of 4` are of the mean accuracy under ImageNet's usual shifts, where all were measured.
    """
    shifts = [column.removeprefix(ACCURACY) for column in models if column.startswith(ACCURACY)]
    accuracies = models.set_index("name")[[ID, *(ACCURACY + name for name in shifts)]]
    accuracies = accuracies.rename(columns={ACCURACY + name: name for name in shifts})
    for mean, parts in MEANS.items():
        if set(parts) <= set(shifts):
            accuracies[mean] = accuracies[list(parts)].mean(axis=1)
    placed = {name: Trend(ID, trend.fit, trend.points) for name, trend in trends.items()}
    found = effective_table(accuracies, placed)
    wide = found.pivot(index="model", columns="shift", values="effective").reindex(models["name"])
    each = [name for name in shifts if name in wide]
    columns = {ER + name: wide[name].to_numpy() for name in [*each, *(mean for mean in MEANS if mean in wide)]}
    if each:
        columns[ER + MEAN] = wide[each].mean(axis=1).to_numpy(dtype=np.float64)
    return models.assign(**columns)


def _has_all(mean: str, shifts: Mapping[str, int]) -> bool:
    return mean in MEANS and set(MEANS[mean]) <= set(shifts)


def pruned_robustness(pruning: pd.DataFrame, trends: Mapping[str, Trend], images: Mapping[str, int]) -> pd.DataFrame:
    """Add `effective` to accuracies of pruned heads: how far each shift's lies above what that on `id` makes expect.

    Args:
        pruning: `model, order, draw, percent, set, accuracy`.
        trends: by shift.
        images: of every set, the known one as `id`; accuracies are clamped by them, since nothing right has no logit.
    """
    keys = ["model", "order", "draw", "percent"]
    own = pruning[pruning["set"] == ID].set_index(keys)["accuracy"]
    known = own.reindex(pd.MultiIndex.from_frame(pruning[keys])).to_numpy(dtype=np.float64)
    found = np.full(len(pruning), np.nan)
    for name, trend in trends.items():
        at = (pruning["set"] == name).to_numpy()
        found[at] = effective_robustness(clamp(known[at], images[ID]), pruning["accuracy"][at], trend.fit)
    return pruning.assign(effective=found)
