"""Which images are foreign to a run, which it knows, and which of them make pairs.

Known are the cells (class and domain) that the run's training images show; with held-out cells as the foreign images,
those of the seen classes alone, so that no known image shows a foreign one's class.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.data.classes.ood_groups import NEARNESS
from domix.data.store.index import read_index
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json
from domix.runtime.seeds import numpy_generator

if TYPE_CHECKING:
    from domix.analyses.adversarial.settings import Settings
    from domix.analyses.contract import RunInputs

log = logging.getLogger(__name__)
LEAST = 2  # images of an interval
SETS = "sets"  # folder of evaluation sets, among the packed sources and in the embeddings of a run


@dataclass(frozen=True)
class Draw:
    """The images of one run.

    Attributes:
        sources: foreign images, rows of the index of `origin`, drawn by seed; one of each pair.
        origin: the packed source that they lie in, below the folder of all.
        bank: training images, rows of the multi-domain source's index, drawn by seed. The first are the pairs' targets.
        tests: positions of the known images among the run's test images.
    """

    sources: pd.DataFrame
    origin: str
    bank: pd.DataFrame
    tests: NDArray[np.int64]

    @property
    def pairs(self) -> int:
        """How many there are."""
        return len(self.sources)

    @property
    def targets(self) -> pd.DataFrame:
        """The training image of each pair, that its foreign image shall be taken for."""
        return self.bank.iloc[: self.pairs]


def draw_images(inputs: RunInputs, settings: Settings) -> Draw | None:
    """Draw a run's images; None, and a line in the log, where too few are foreign to it, or too few known.

    Nothing is foreign to a run that was trained on all held-out cells. With fewer foreign images than pairs asked for,
    or hardly more training images than that, there are fewer pairs; the log says so.

    Raises:
        DataError: an index is missing or damaged, or the set of foreign images holds fewer than two.
        ParameterError: there is no such set of foreign images.
    """
    tests, study, source = inputs.test_images(), inputs.study, inputs.sources[0]
    training = inputs.training_images().get(source, tests.iloc[:0])
    trained = set(zip(training["domain"], training["class"], strict=True))
    known = np.array([cell in trained for cell in zip(tests["domain"], tests["class"], strict=True)], dtype=np.bool_)
    if settings.ood is None:
        foreign, origin = tests[study.held_out_rows(tests) & ~known], source
        bank = training[~training["class"].isin(study.test_classes)]
        known = known & ~tests["class"].isin(study.test_classes).to_numpy()
    else:
        name, group = group_of(settings.ood)
        foreign, origin, bank = foreign_set(inputs, name, group), f"{SETS}/{name}", training
    sizes = (len(foreign), len(bank), int(known.sum()))
    if sizes[0] < LEAST or sizes[1] <= LEAST or sizes[2] < LEAST:
        what = "%s: no adversarial images of %d foreign images, with %d training and %d test images of what it knows"
        log.warning(what, inputs.run.name, *sizes)
        return None
    bank = _drawn(bank, settings.bank, settings.seed, "bank")
    count = min(settings.pairs, len(foreign), len(bank) - 1)  # so that the bank is one without the targets, too
    if count < settings.pairs:
        what = "%s: %d pairs, not %d, of %d foreign images and %d training images in the bank"
        log.warning(what, inputs.run.name, count, settings.pairs, len(foreign), len(bank))
    return Draw(_drawn(foreign, count, settings.seed, "sources"), origin, bank, np.flatnonzero(known))


def group_of(asked: str) -> tuple[str, str | None]:
    """Return a set's name, and which of its classes: near or far; None: all."""
    name, _, group = asked.rpartition(":")
    return (name, group) if name and group in NEARNESS else (asked, None)


def foreign_set(inputs: RunInputs, name: str, group: str | None = None) -> pd.DataFrame:
    """Return the rows of an evaluation set's test images, or of all its images where it has no test split.

    Args:
        inputs: of the run.
        name: of the set.
        group: near or far: those of its classes that are; None: all.

    Raises:
        ParameterError: there is no such set, or it is none of `embed.ood`, whose classes are near or far.
        DataError: its index is damaged, or holds fewer than two images.
    """
    home = inputs.artifacts / "shards" / SETS / name
    if not (home.is_dir() and (inputs.embeddings_folder / SETS / name).is_dir()):
        raise ParameterError(f"there is no evaluation set {name!r}: name it in embed.sets, too", argument="ood")
    index = read_index(home)
    rows = index[index["split"] == "test"] if (index["split"] == "test").any() else index
    if group is not None:
        groups = read_json(inputs.embeddings_folder / SETS / name / "meta.json").get("groups")
        if groups is None:
            raise ParameterError(f"{name} has no near and far classes: name it in embed.ood, too", argument="ood")
        rows, name = rows[rows["class"].map(groups) == group], f"{name}:{group}"
    if len(rows) < LEAST:
        raise DataError(f"the evaluation set {name} holds {len(rows)} images to be foreign: {LEAST} are needed")
    return rows.reset_index(drop=True)


def _drawn(rows: pd.DataFrame, count: int | None, seed: int, what: str) -> pd.DataFrame:
    """Draw rows in random order: more of them begin with the same."""
    order = numpy_generator(seed, "adversarial", what).permutation(len(rows))
    return rows.iloc[order[:count]].reset_index(drop=True)
