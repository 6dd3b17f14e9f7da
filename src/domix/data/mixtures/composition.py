"""What the mixtures of a study hold: for the stages after it, as a table to read, by source, domain and cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from domix.data.mixtures.cells import Cells, Ints, Split
from domix.data.mixtures.mixture import Mixture
from domix.runtime.files import write_json
from domix.runtime.tables import Column, TableSchema

CELLS = TableSchema(
    "cells",
    (
        Column("mixture", "str", "name of the mixture"),
        Column("domain", "str", "domain of the cell"),
        Column("class", "str", "class of the cell"),
        Column("samples", "int64", "samples of the cell that the mixture holds"),
    ),
    "what every mixture holds of every cell, zeros included",
    path="artifacts/mixtures/cells.parquet",
    written_by="mixtures",
)


@dataclass(frozen=True)
class Composition:
    """One mixture without its rows."""

    name: str
    alias: str
    standard_name: str
    samples: int
    digest: str
    dropped: int
    sources: dict[str, int]  # samples a source
    held_out: str  # "sketch: 15 classes", or nothing
    shown: Ints  # [G, K] samples of the multi-domain source


def compose(mixture: Mixture, cells: Cells) -> Composition:
    """Count what a mixture holds."""
    domain, classes = mixture.held_out or ("", ())
    what = "the domain" if len(classes) == len(cells.classes) else f"{len(classes)} classes"
    return Composition(
        name=mixture.name,
        alias=mixture.alias,
        standard_name=mixture.standard_name,
        samples=len(mixture.rows),
        digest=mixture.digest,
        dropped=mixture.dropped,
        sources=mixture.samples,
        held_out=f"{domain}: {what}" if domain else "",
        shown=count_shown(mixture, cells),
    )


def count_shown(mixture: Mixture, cells: Cells) -> Ints:
    """Return the multi-domain source's samples in the mixture, int64 [G, K]."""
    mine = mixture.rows["row"].to_numpy()[(mixture.rows["source"] == mixture.parameters["source"]).to_numpy()]
    codes = cells.code[np.searchsorted(cells.row, mine)]
    return np.bincount(codes, minlength=cells.train.size).reshape(cells.train.shape)


def write_summary(folder: Path, mixtures: Sequence[Composition], cells: Cells, split: Split) -> None:
    """Write `summary.json` and `cells.parquet`: what every mixture of a study holds, by domain and by cell."""
    summary = {
        "test_domain": split.test_domain,
        "natural_domain": split.natural_domain,
        "domains": list(cells.domains),
        "classes": list(cells.classes),
        "test_classes": list(split.test_classes),
        "mixtures": [_summarise(mixture, cells) for mixture in mixtures],
    }
    write_json(folder / "summary.json", summary)
    tables = [
        pd.DataFrame(
            {
                "mixture": mixture.name,
                "domain": np.repeat(cells.domains, len(cells.classes)),
                "class": np.tile(cells.classes, len(cells.domains)),
                "samples": mixture.shown.ravel(),
            }
        )
        for mixture in mixtures
    ]
    CELLS.write(pd.concat(tables, ignore_index=True), folder / "cells.parquet")


def _summarise(mixture: Composition, cells: Cells) -> dict[str, Any]:
    return {
        "name": mixture.name,
        "alias": mixture.alias,
        "standard_name": mixture.standard_name,
        "samples": mixture.samples,
        "digest": mixture.digest,
        "dropped": mixture.dropped,
        "sources": mixture.sources,
        "domains": dict(zip(cells.domains, mixture.shown.sum(axis=1).tolist(), strict=True)),
    }


def format_table(mixtures: Sequence[Composition], cells: Cells) -> str:
    """Return one line a mixture under a heading: names, samples in all, a source and a domain, and what is held out."""
    sources = list(dict.fromkeys(name for mixture in mixtures for name in mixture.sources))
    heading = ["mixture", "alias", "samples", *sources, *cells.domains, "held_out"]
    lines = [heading]
    for mixture in mixtures:
        counts = [mixture.samples, *(mixture.sources.get(name, 0) for name in sources)]
        counts += mixture.shown.sum(axis=1).tolist()
        lines.append([mixture.name, mixture.alias, *(f"{count:,}" for count in counts), mixture.held_out or "-"])
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    left = {0, 1, len(heading) - 1}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
