"""What models say of the test images, and which images are measured together.

Which images a metric is measured on is a domain and its `cells`:
    held out   test classes in the test domain: the question
    tested     test classes in another domain: what the same classes are worth where nothing was held out
    seen       the other classes of the domain
    all        both

Shapes: N images of the test split, n of one group.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.embed.embeddings import Scored
from domix.evaluate.ranking import Ranks, rank_blocks
from domix.runtime.errors import DataError
from domix.runtime.seeds import derive
from domix.study import Run, Study

STREAMS = {"held_out": "withheld"}  # a stream of random numbers keeps its first name: intervals stay as they were
Ints = NDArray[np.int64]
ROWS = ["row", "domain", "class", "label"]


@dataclass(frozen=True)
class Plan:
    """What an evaluation measures, and how."""

    study: Study
    top_k: int
    resamples: int
    confidence: float
    seed: int
    last: int = 1  # checkpoints, up to the last, that estimates over seeds average


@dataclass(frozen=True)
class ScoredModel:
    """One run, and where its answers lie."""

    run: Run
    standard_name: str  # the mixture's, whatever it was called; of a public model none
    folder: Path  # of its embeddings


@dataclass(frozen=True)
class Outcome:
    """What one model, with the weights of one checkpoint, said of the test images."""

    model: ScoredModel
    checkpoint: int  # epochs
    rows: pd.DataFrame  # N rows: ROWS
    ranks: Ranks


@dataclass(frozen=True)
class RunOutcomes:
    """One model, with the outcomes that estimates average: of its last checkpoints, the last weights at the end."""

    model: ScoredModel
    outcomes: Sequence[Outcome]

    @property
    def final(self) -> Outcome:
        """What the last weights said."""
        return self.outcomes[-1]


@dataclass(frozen=True)
class Group:
    """Images that are measured together."""

    domain: str
    cells: str
    where: Ints  # [n] positions among the N images
    label: Ints  # [n]

    @property
    def classes(self) -> int:
        """How many classes have images."""
        return len(np.unique(self.label))

    @property
    def of_test_classes(self) -> bool:
        """Whether all images are of test classes."""
        return self.cells in ("held_out", "tested")

    @property
    def keys(self) -> dict[str, Any]:
        """The columns that name it."""
        return {"domain": self.domain, "cells": self.cells}

    @property
    def counts(self) -> dict[str, Any]:
        """The columns that say how many images and classes it has."""
        return {"n": len(self.where), "n_classes": self.classes}

    def seed(self, plan: Plan) -> int:
        """The seed of its resampling: the same for all models."""
        return derive(plan.seed, self.domain, STREAMS.get(self.cells, self.cells))


def classify(scored: Scored, plan: Plan, model: ScoredModel, checkpoint: int) -> Outcome:
    """Classify the test images by one model's scores.

    Raises:
        DataError: the scores are of other classes or domains than the plan, or not finite.
    """
    if scored.classes != list(plan.study.classes) or not set(scored.rows["domain"]) <= set(plan.study.domains):
        raise DataError(f"{scored.folder} has other classes or domains than the study", remake=scored.folder)
    label = scored.rows["label"].to_numpy(dtype=np.int64)
    return Outcome(model, checkpoint, scored.rows[ROWS], rank_blocks(scored.blocks(), label, plan.study.test_labels))


def check_same_images(outcomes: Sequence[Outcome]) -> None:
    """Check that all models were tested on the same images.

    Raises:
        DataError: they were not.
    """
    for outcome in outcomes[1:]:
        if not outcome.rows.equals(outcomes[0].rows):
            first, other = outcomes[0].model, outcome.model
            raise DataError(
                f"runs {first.run} and {other.run} were tested on different images", remake=above(first, other)
            )


def above(a: ScoredModel, b: ScoredModel) -> Path:
    """Return the folder that holds the embeddings of both models, for which of them is outdated is not known."""
    return Path(os.path.commonpath([a.folder, b.folder]))


def groups(rows: pd.DataFrame, plan: Plan) -> Iterator[Group]:
    """Yield every domain's groups of images; those without images are left out."""
    label, tested = rows["label"].to_numpy(dtype=np.int64), np.isin(rows["label"], plan.study.test_labels)
    for domain in plan.study.domains:
        here = (rows["domain"] == domain).to_numpy()
        special = "held_out" if domain == plan.study.test_domain else "tested"
        for cells, chosen in ((special, here & tested), ("seen", here & ~tested), ("all", here)):
            where = np.flatnonzero(chosen)
            if len(where):
                yield Group(domain, cells, where, label[where])
