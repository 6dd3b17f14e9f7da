"""Write a zoo: tables as parquet and CSV, figures, and a page that shows them."""

from __future__ import annotations

import importlib.resources
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from domix.figures.printed import FORMATS, page_style, save
from domix.runtime.files import write_json, write_text
from domix.runtime.tables import as_csv, write_table
from domix.zoo.concepts import Encoded
from domix.zoo.figures import concept_figures, figures_of, pruning_figure
from domix.zoo.relations import SIGNATURE
from domix.zoo.robustness import ACCURACY, ER, ID

MARK = "zoo.json"  # tells such a folder from another's
SHOWN = ("name", "group", "family", ID, *SIGNATURE, "se", "rank")
COUNTS = ("outliers", "rank", "prunable", "unique", "units")
SHARES = (ID, "norm_share")  # written in per cent, as are accuracies


@dataclass(frozen=True)
class Zoo:
    """What was found.

    Attributes:
        known: name of the known images' set.
        models: a row a model.
        pruning: `model, order, draw, percent, kept, set, accuracy, effective`.
        relations: of `relations.relate`.
        without: likewise.
        matrices: CKA by what is compared.
        notes: sentences for the reader.
        encoded: which concepts the models encode, where these are sought.
    """

    known: str
    models: pd.DataFrame
    pruning: pd.DataFrame
    relations: pd.DataFrame
    without: pd.DataFrame
    matrices: Mapping[str, pd.DataFrame]
    notes: Sequence[str]
    encoded: Encoded | None = None


def publish(zoo: Zoo, folder: Path) -> None:
    """Write everything into the empty folder `folder`."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # tells of every letter that it puts into a PDF file
    for name in ("figures", "tables"):
        (folder / name).mkdir()
    tables = {"models": zoo.models, "pruning": zoo.pruning, "relations": zoo.relations, "without": zoo.without}
    tables |= {f"cka {what}": matrix.rename_axis("model").reset_index() for what, matrix in zoo.matrices.items()}
    if zoo.encoded is not None:
        tables |= {"concepts": zoo.encoded.best, "concept curve": zoo.encoded.curve, "shared": zoo.encoded.shared}
        tables |= {
            f"overlap {what}": matrix.rename_axis("model").reset_index()
            for what, matrix in zoo.encoded.overlaps.items()
        }
    for name, table in tables.items():
        file = name.replace(" ", "_")
        write_table(folder / "tables" / f"{file}.parquet", table)
        write_text(folder / "tables" / f"{file}.csv", as_csv(table))
    groups = dict(zip(zoo.models["name"], zoo.models["group"], strict=True))
    made = figures_of(zoo.models, zoo.relations, zoo.matrices)
    if len(zoo.pruning):
        made.append(pruning_figure(zoo.pruning, groups))
    if zoo.encoded is not None:
        made += concept_figures(zoo.encoded, groups)
    widths = {figure.name: save(figure, folder / "figures") for figure in made}
    source = importlib.resources.files("domix.zoo").joinpath("templates", "zoo.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(source).render(
        zoo=zoo,
        table=shown(zoo.models),
        relations=readable(zoo.relations),
        made=made,
        widths=widths,
        formats=FORMATS,
        style=page_style(),
        files=[name.replace(" ", "_") for name in tables],
    )
    write_text(folder / "index.html", page)
    write_json(folder / MARK, {"known": zoo.known, "models": zoo.models["name"].tolist(), "notes": list(zoo.notes)})


def shown(models: pd.DataFrame) -> pd.DataFrame:
    """Return the table of models as text: accuracies and shares in per cent, effective robustness in points."""
    names = [*(name for name in SHOWN if name in models)]
    place = names.index(ID) + 1
    names[place:place] = [name for start in (ACCURACY, ER) for name in models if name.startswith(start)]
    return pd.DataFrame({name: [_written(name, value) for value in models[name]] for name in names})


def readable(relations: pd.DataFrame) -> pd.DataFrame:
    """Return correlations with their intervals as text, a row a number and target, a column a statistic."""
    if relations.empty:
        return pd.DataFrame()
    ends = relations[["estimate", "low", "high"]].itertuples(index=False, name=None)
    words = [f"{at:.2f}" + ("" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]") for at, low, high in ends]
    keys = ["number", "target"]
    wide = relations.assign(words=words).pivot(index=keys, columns="statistic", values="words").fillna("")
    order = pd.MultiIndex.from_frame(relations[keys].drop_duplicates())
    return wide.loc[order, list(dict.fromkeys(relations["statistic"]))].reset_index()


def _written(name: str, value: object) -> str:
    if value is None or isinstance(value, str) or not np.isfinite(float(value)):  # ty: ignore[invalid-argument-type]
        return value if isinstance(value, str) else ""
    number = float(value)  # ty: ignore[invalid-argument-type]
    if name.startswith(ER):
        return f"{round(number, 1) + 0.0:+.1f}"  # no -0.0
    if name in SHARES or name.startswith(ACCURACY):
        return f"{100 * number:.1f}"
    return f"{number:.0f}" if name in COUNTS else f"{number:.3f}"
