"""Which cells a circuit is made of, and of which of their images.

Each cell has a random stream of its own, so that one more class or domain changes no other cell's images.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator
from domix.study import Study

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """A domain and class, and the positions of its images in the table of all."""

    domain: str
    name: str
    images: NDArray[np.int64]


def draw_classes(study: Study, test: int | None, seen: int | None, *, seed: int) -> list[str]:
    """Draw test classes and others, as many as asked for or all, each in label order, the test classes first."""
    drawn = []
    for subset, count in (("test", test), ("seen", seen)):
        known = np.flatnonzero(study.class_subsets()[subset])
        most = len(known) if count is None else min(count, len(known))
        chosen = numpy_generator(seed, "circuits", subset).choice(known, most, replace=False)
        drawn += [study.classes[label] for label in np.sort(chosen)]
    return drawn


def draw_cells(rows: pd.DataFrame, domains: list[str], classes: list[str], images: int, *, seed: int) -> list[Cell]:
    """Draw up to `images` images of every domain and class from `rows` (domain, class), class by class.

    Cells without images are logged, and are there without any.

    Raises:
        DataError: no cell has images.
    """
    places = rows.reset_index(drop=True).groupby(["domain", "class"]).indices
    cells = []
    for name in classes:
        for domain in domains:
            known = np.sort(places.get((domain, name), np.array([], dtype=np.int64)))
            generator = numpy_generator(seed, "circuits", domain, name)
            cells.append(Cell(domain, name, np.sort(generator.choice(known, min(images, len(known)), replace=False))))
    missing = [f"{cell.name} in {cell.domain}" for cell in cells if not len(cell.images)]
    if len(missing) == len(cells):
        raise DataError("none of the classes drawn for circuits has a test image")
    if missing:
        log.warning("%d cells have no test images and no circuit: %s", len(missing), ", ".join(missing[:5]))
    return cells
