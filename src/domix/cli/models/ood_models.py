"""`domix ood` of a list of models: one table, and whether what reads the known images well also tells the others.

The list is that of a zoo (domix.zoo.listing): CLIP models, classifiers, frozen features with a probe, fine-tuned ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from domix.analyses.ood.draw import draw_relation
from domix.cli.detection.output import shown_table
from domix.cli.detection.scoring import Scored
from domix.cli.models import ood
from domix.evaluate.metrics import balanced_accuracy
from domix.figures.figure import Figure
from domix.figures.look import Look
from domix.figures.printed import save
from domix.ood.correlation import LEAST, correlate
from domix.ood.neighbours import weighted_knn_accuracy
from domix.ood.tables import group_means
from domix.project.embedding import means_of
from domix.runtime.errors import DomixError, ParameterError
from domix.runtime.files import write_text
from domix.runtime.tables import as_csv
from domix.settings.params import Params
from domix.zoo.listing import Entry, read_listing

LISTS = (".yaml", ".yml", ".json")
NEIGHBOURS = 20
ACCURACIES = {"knn": "accuracy of neighbours", "zeroshot": "zero-shot accuracy", "head": "accuracy of the head"}
CORRELATIONS = ["accuracy", "score", "set", "without", "r2", "low", "high", "slope", "models"]
CONFIDENCE = 0.95


def main(params: Params, model: str, known: str, foreign: Sequence[str], asked: ood.Asked, out: Path | None) -> None:
    """Print one model's table, or that of a list, with correlations; write the latter's tables and figures to `out`.

    Raises:
        ParameterError: options that do not go together.
        DataError: the list, a set or a model is absent or damaged.
    """
    if Path(model).suffix not in LISTS:
        if out is not None:
            raise ParameterError("--out holds tables and figures of several models: name a list of them (a YAML file)")
        ood.main(params, model, known, foreign, asked)
        return
    if asked.json_file is not None or asked.csv_file is not None or asked.architecture is not None:
        raise ParameterError("--json, --csv and --architecture are of one model: of a list take --out <folder>")
    listing = read_listing(model)
    for entry in listing.models:
        ood.check_asked(_asked(asked, entry))
    sets, parts = ood.open_sets(params, known, foreign, asked), []
    print(f"known: {sets.known.source}, {len(sets.known.rows):,} images of {len(sets.known.classes):,} classes")
    for entry in listing.models:
        try:
            found = ood.measure(params, entry.model, sets, _asked(asked, entry), means_of(params))
            about = {"model": entry.name, "kind": entry.group, "family": entry.family or entry.name}
            parts.append(found.table.assign(**about, **accuracies(found.scored, found.reported)))
        except DomixError as error:
            raise error.prefixed(entry.name) from error
        for one in found.says:
            print(f"{entry.name}: {one}")
    table = pd.concat(parts, ignore_index=True)
    related = correlations(table)
    print(models_text(table, asked.convention))
    print(correlations_text(related, len(listing.models)))
    if out is not None:
        write_text(out / "models.csv", as_csv(table))
        write_text(out / "correlations.csv", as_csv(related))
        for figure in figures(table, related):
            save(figure, out)


def _asked(asked: ood.Asked, entry: Entry) -> ood.Asked:
    """Return what is asked of one model: what the list says, else what the command does; scores that it serves."""
    return replace(
        asked,
        architecture=entry.architecture,
        alpha=entry.alpha,
        features=entry.features or asked.features,
        probe=entry.probe or asked.probe,
        served=True,
    )


def accuracies(scored: Scored, reported: ood.Flags) -> dict[str, float]:
    """Return how well a model reads the known images, as shares; NaN where it cannot be asked so.

    By neighbours (k 20, T 0.02) among the training images where these have classes, else among the other known images;
    by class names, balanced; by a head of the known classes, its own or a probe, balanced.
    """
    features, labels = scored.features[reported], scored.labels[reported]
    found = dict.fromkeys(ACCURACIES, float("nan"))
    if "labels" in scored.fixed:
        bank = (scored.fixed["bank"], scored.fixed["labels"])
        found["knn"] = weighted_knn_accuracy(features, labels, *bank, k=min(NEIGHBOURS, len(bank[0]))).top1
    elif len(labels) > 1:
        k = min(NEIGHBOURS, len(labels) - 1)
        found["knn"] = weighted_knn_accuracy(features, labels, features, labels, k=k, exclude_self=True).top1
    if scored.joint is not None:
        likeness = scored.joint[reported] @ scored.fixed["prototypes"].T
        found["zeroshot"] = balanced_accuracy(labels, likeness.argmax(axis=1) == labels)
    if scored.head is not None and scored.head.is_known:
        logits = features @ scored.head.weight.T.astype(np.float32) + scored.head.bias.astype(np.float32)
        found["head"] = balanced_accuracy(labels, logits.argmax(axis=1) == labels)
    return found


def with_means(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of models with the means over the sets of a group, where it has several."""
    parts = [table]
    for _, mine in table.groupby("model", sort=False):
        means = group_means(mine)
        means = means[means["sets"] > 1]
        about = mine.iloc[0][["model", "kind", "family", *ACCURACIES]].to_dict()
        parts.append(means.assign(set="mean, " + means["group"].astype(str), **about).drop(columns="sets"))
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Return how each accuracy and AUROC go together, by score and set, over the models that have both.

    Args:
        table: of all models: model, family, ACCURACIES, score, set, auroc.

    Returns:
        A row of CORRELATIONS each, and one without each family (R^2 and slope alone) where there are several. None of
        fewer than three models, or of models that are all equally accurate.
    """
    rows: list[dict[str, Any]] = []
    everything = with_means(table)
    for score, name in everything[["score", "set"]].drop_duplicates().itertuples(index=False, name=None):
        mine = everything[(everything["score"] == score) & (everything["set"] == name)]
        for accuracy in ACCURACIES:
            known = mine[mine[accuracy].notna()]
            if len(known) < LEAST or np.ptp(known[accuracy]) == 0:
                continue
            families = known["family"].tolist()
            found = correlate(known[accuracy], known["auroc"], families=families, confidence=CONFIDENCE)
            head = {"accuracy": accuracy, "score": score, "set": name}
            estimates = {what: found.statistics[what].estimate for what in ("r2", "slope")}
            low, high = found.statistics["r2"].intervals["models"]
            rows.append(head | {"without": "", **estimates, "low": low, "high": high, "models": len(known)})
            rows += [
                head
                | {"without": family, "r2": left["r2"], "slope": left["slope"], "low": np.nan, "high": np.nan}
                | {"models": len(known) - families.count(family)}
                for family, left in found.without.items()
                if 1 < len(set(families)) < len(families)
            ]
    return pd.DataFrame(rows, columns=CORRELATIONS)


def models_text(table: pd.DataFrame, convention: str) -> str:
    """Return the table for readers, in percent: each model's accuracies once, beside its first row."""
    parts = []
    for name, mine in table.groupby("model", sort=False):
        shown = shown_table(mine, convention)
        first = [name, *(f"{100 * mine[what].iloc[0]:.1f}" if mine[what].notna().all() else "-" for what in ACCURACIES)]
        for place, (column, value) in enumerate(zip(("model", *ACCURACIES), first, strict=True)):
            shown.insert(place, column, [value, *[""] * (len(shown) - 1)])
        parts.append(shown)
    return pd.concat(parts).to_string(index=False)


def correlations_text(related: pd.DataFrame, count: int) -> str:
    """Return R^2 of accuracy and AUROC for readers, over all models."""
    whole = related[related["without"] == ""].drop(columns="without")
    if whole.empty:
        return f"no correlation of accuracy and AUROC: it needs {LEAST} models that differ, and there are {count}"
    shown = whole.assign(**{name: whole[name].map("{:.2f}".format) for name in ("r2", "low", "high", "slope")})
    return "accuracy and AUROC over models:\n" + shown.to_string(index=False)


def figures(table: pd.DataFrame, related: pd.DataFrame) -> list[Figure]:
    """Return accuracy against AUROC, a figure for each accuracy, score and set that has a correlation."""
    everything, groups, made = with_means(table), list(dict.fromkeys(table["kind"])), []
    for row in related[related["without"] == ""].itertuples():
        mine = everything[(everything["score"] == row.score) & (everything["set"] == row.set)]
        mine = mine[mine[row.accuracy].notna()]
        dots = pd.DataFrame({"name": mine["model"], "group": mine["kind"], "x": mine[row.accuracy], "y": mine["auroc"]})
        title = f"{ACCURACIES[row.accuracy].capitalize()} and AUROC of {row.set} by {row.score}"
        alt = f"{title}, {len(dots)} models: R\N{SUPERSCRIPT TWO} {row.r2:.2f}."
        name = "-".join(["ood", row.accuracy, row.score, *row.set.replace(",", "").split()])

        def draw(look: Look, dots: pd.DataFrame, accuracy: str) -> Any:
            return draw_relation(dots, groups, (ACCURACIES[accuracy], "AUROC"), CONFIDENCE, look)

        made.append(Figure(name, title, "A dot a model.", alt, partial(draw, dots=dots, accuracy=str(row.accuracy))))
    return made
