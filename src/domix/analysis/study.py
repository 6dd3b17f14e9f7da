"""What the analyses need to know of a study: its runs' names beside their results, and which cells were withheld."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.evaluate.embeddings import Embeddings
from domix.runtime.errors import DataError
from domix.runtime.files import read_json


@dataclass(frozen=True)
class Withheld:
    """The cells that a study withholds: `test_classes` in `test_domain`."""

    test_domain: str
    test_classes: frozenset[str]
    classes: tuple[str, ...]  # all, in label order

    def rows(self, table: pd.DataFrame) -> NDArray[np.bool_]:
        """Tell which rows of a table with the columns domain and class lie in withheld cells."""
        inside = (table["domain"] == self.test_domain) & table["class"].isin(self.test_classes)
        return inside.to_numpy(dtype=np.bool_)

    def class_subsets(self) -> dict[str, NDArray[np.bool_]]:
        """Return the classes all, test and seen, each bool [K] in label order."""
        test = np.array([name in self.test_classes for name in self.classes], dtype=np.bool_)
        return {"all": np.ones_like(test), "test": test, "seen": ~test}

    def check(self, embeddings: Embeddings) -> None:
        """Raise DataError unless embeddings are of this study's classes and domains."""
        if embeddings.classes != list(self.classes) or self.test_domain not in embeddings.domains:
            raise DataError(
                f"{embeddings.folder} was made from other classes or domains than the mixtures: run dvc repro"
            )


def read_withheld(path: Path) -> Withheld:
    """Read which cells a study withholds from the mixtures' `summary.json`.

    Raises:
        DataError: the file is missing or damaged.
    """
    summary = read_json(path)
    try:
        return Withheld(summary["test_domain"], frozenset(summary["test_classes"]), tuple(summary["classes"]))
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} lacks {error}: delete it and run dvc repro") from error


def join_runs(parts: Iterable[tuple[str, int, pd.DataFrame]]) -> pd.DataFrame:
    """Put the tables of several runs, given as (mixture, seed, table), below each other, led by mixture and seed."""
    tables = []
    for mixture, seed, table in parts:
        table = table.copy()
        table.insert(0, "mixture", mixture)
        table.insert(1, "seed", seed)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
