"""The images of a packed source on which models are evaluated, and the classes among which they are told apart.

Shapes: N images, G domains, K classes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.data.classes.ood_groups import groups_of
from domix.data.loading.samples import IDENTITY
from domix.data.mixtures.cells import count_cells
from domix.data.mixtures.overlap import shared_classes
from domix.data.store.index import INDEX, read_index
from domix.embed.embeddings import ROW_COLUMNS
from domix.embed.label_spaces import label_space
from domix.runtime.errors import DataError, passing

NONE_OF_THEM = -1  # label of images that show none of the classes
logger = logging.getLogger(__name__)
COLUMNS = [*ROW_COLUMNS, "split", *(name for name in IDENTITY if name not in ROW_COLUMNS)]


@dataclass(frozen=True)
class EvaluationSet:
    """Images, and the classes that models say of them; of an out-of-distribution set, none of these is right."""

    shards: Path  # of the packed source
    rows: pd.DataFrame  # N rows of the index: COLUMNS
    classes: list[str]  # that have scores, in label order
    domains: list[str]  # that the images' source has
    subset: list[int] | None = None  # see domix.embed.label_spaces
    answers: list[list[int]] | None = None
    groups: dict[str, str] | None = None  # of an out-of-distribution set: each class of its own -> near or far

    @property
    def source(self) -> str:
        """Name of the packed source."""
        return self.shards.name

    @property
    def cells(self) -> NDArray[np.int64]:
        """Cell of each image, int64 [N]: domain * K + label."""
        domain = pd.Categorical(self.rows["domain"], categories=self.domains).codes.astype(np.int64)
        return domain * len(self.classes) + self.rows["label"].to_numpy(dtype=np.int64)


def study_set(shards: Path) -> EvaluationSet:
    """Return the test images of the study's multi-domain source, of every domain, told apart by its classes.

    A class that a domain has no test image of (DomainNet's painted syringe) is a class like the others.

    Raises:
        DataError: the index is missing or damaged, or holds no test image.
    """
    index = read_index(shards, COLUMNS)
    with passing(index=shards):
        cells = count_cells(index)
    rows = _some(index[index["split"] == "test"], shards)
    return EvaluationSet(shards, rows, list(cells.classes), list(cells.domains))


def further_set(shards: Path) -> EvaluationSet:
    """Return the images of another packed source, told apart as its label space says.

    Raises:
        DataError: the index is missing or damaged, or holds no image to evaluate on, or one without a class.
    """
    space = label_space(shards.name, shards)
    index = read_index(shards, COLUMNS)
    rows = _some(index if space.split == "all" else index[index["split"] == "test"], shards)
    if rows["label"].min() < 0 or rows["label"].max() >= len(space.answers or space.classes):
        raise DataError(f"{shards / INDEX} has images without a known class: leave the set out", argument="sets")
    return EvaluationSet(shards, rows, space.classes, sorted(rows["domain"].unique()), space.subset, space.answers)


def ood_set(shards: Path, study: EvaluationSet, group: str | None = None) -> EvaluationSet:
    """Return the images of an out-of-distribution set, of which models say how much they are of the study's classes.

    Its rows keep the classes that the set gives them; images without any are one class, named as the set. Classes of
    the study among them are told by a warning.

    Args:
        shards: the packed set.
        study: the study's own images.
        group: see domix.data.classes.ood_groups.

    Raises:
        DataError: the index is missing or damaged, holds no image to evaluate on, or a class of some of them alone; or
            nothing says how near the set is.
    """
    index = read_index(shards, COLUMNS)
    rows = _some(index[index["split"] == "test"], shards)
    unnamed = rows["class"].isna()
    if unnamed.any() and not unnamed.all():
        raise DataError(f"{shards / INDEX} has images with a class and {unnamed.sum():,} without: give all of them one")
    rows = rows.assign(**{"class": rows["class"].fillna(shards.name), "label": NONE_OF_THEM})
    groups = groups_of(shards, rows["class"].unique(), study=study.source, group=group)
    if shared := shared_classes(groups, study.classes):
        logger.warning(
            "%d of the %d classes of %s are classes of %s, too, so that they are not out of distribution: %s",
            len(shared),
            len(groups),
            shards.name,
            study.source,
            ", ".join(shared),
        )
    return EvaluationSet(shards, rows, study.classes, sorted(rows["domain"].unique()), groups=groups)


def _some(rows: pd.DataFrame, shards: Path) -> pd.DataFrame:
    if rows.empty:
        raise DataError(f"{shards / INDEX} holds no test images: a source to evaluate on needs a test split")
    return rows.reset_index(drop=True)
