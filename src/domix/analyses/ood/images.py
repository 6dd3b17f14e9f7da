"""The images of a study that one run has embedded, and which of them are known, foreign, or only drawn otherwise.

Shapes: N images, D embedding width, K seen classes, M known images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.embed.embeddings import Scored, load_scored, ood_sets_of
from domix.embed.readout import load_activations
from domix.ood.scores import registry
from domix.runtime.errors import DataError, DomixError
from domix.runtime.seeds import numpy_generator
from domix.study import Run, Study

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Group = tuple[str, str]  # group and set, as in the tables


@dataclass(frozen=True)
class StudyImages:
    """Test images of the study's source, and then those of sets of foreign images.

    Attributes:
        rows: `set, domain, class, label, cells` of each; label is its place among the seen classes, -1 of others, and
            cells are seen, test, near or far.
        features: [N, D]; of a classifier what its last layer reads.
        prototypes: text embeddings of the seen classes [K, D]; of a classifier None.
        source: name of the study's source.
        logits: of a classifier, of the seen classes [N, K]; of a CLIP model None: cosines, scaled, stand for them.
    """

    rows: pd.DataFrame
    features: NDArray[np.float32]
    prototypes: NDArray[np.float32] | None
    source: str
    logits: NDArray[np.float32] | None = None

    def scores(self, rows: Flags | slice = slice(None)) -> NDArray[np.float32]:
        """Return what says which class images are of [n, K]: cosines with prototypes, or a classifier's logits."""
        if self.logits is not None:
            return self.logits[rows]
        assert self.prototypes is not None, "a model has either"
        return self.features[rows] @ self.prototypes.T

    def known(self, study: Study) -> Flags:
        """Tell which are known: seen classes in the natural domain, which every mixture holds [N]."""
        return self._cell(study.natural_domain, "seen")

    def groups(self, study: Study) -> dict[Group, Flags]:
        """Return which images [N] make each group that is told from the known ones; those without images are left out.

        Held-out classes are foreign to what knows the seen classes alone, the nearest that there are; `seen` are known
        classes in the test domain.
        """
        found = {
            ("seen", self.source): self._cell(study.test_domain, "seen"),
            ("held_out", self.source): self._cell(study.test_domain, "test"),
            ("tested", self.source): self._cell(study.natural_domain, "test"),
        }
        foreign = self.rows[self.rows["cells"].isin(["near", "far"])]
        for name, cells in foreign[["set", "cells"]].drop_duplicates().itertuples(index=False):
            found[cells, name] = ((self.rows["set"] == name) & (self.rows["cells"] == cells)).to_numpy()
        return {group: images for group, images in found.items() if images.any()}

    def _cell(self, domain: str, cells: str) -> Flags:
        here = (self.rows["set"] == self.source) & (self.rows["domain"] == domain) & (self.rows["cells"] == cells)
        return here.to_numpy(dtype=np.bool_)


def read_images(
    folder: Path, run: Run, study: Study, source: str, sets: Sequence[str] | None, checkpoint: int | None = None
) -> StudyImages:
    """Read what a run, or one of its checkpoints, has embedded.

    Args:
        folder: of the run's embeddings.
        run: whose they are.
        study: of the run.
        source: name of the study's source.
        sets: of foreign images; None: all that are embedded.
        checkpoint: epochs; None: the last weights.

    Raises:
        DataError: a file is missing or damaged, or of other classes than the study's.
    """
    own = load_scored(folder, run.kind, checkpoint=checkpoint)
    study.require_same(own.meta["domains"], own.classes, own.folder)
    seen = np.flatnonzero(study.class_subsets()["seen"])
    place = np.full(len(study.classes), -1, np.int64)
    place[seen] = np.arange(len(seen))
    label = place[own.rows["label"].to_numpy()]
    cells = np.where(label >= 0, "seen", "test")
    parts = [own.rows.assign(set=source, label=label, cells=cells)]
    found: list[Scored] = [own]
    embedded = ood_sets_of(folder)
    for name in embedded if sets is None else sets:
        if name not in embedded:
            raise DataError(
                f"{folder} holds no foreign images of {name}, but of {', '.join(embedded) or 'no set'}", argument="sets"
            )
        foreign = load_scored(folder, run.kind, checkpoint=checkpoint, source=name)
        study.require_same(study.domains, foreign.classes, foreign.folder)
        parts.append(foreign.rows.assign(set=name, label=-1, cells=foreign.rows["group"]))
        found.append(foreign)
    rows = pd.concat(parts, ignore_index=True)[["set", "row", "domain", "class", "label", "cells"]]
    outputs = np.concatenate([np.asarray(each.image_embeddings, np.float32) for each in found])
    if own.text is not None:
        return StudyImages(rows, outputs, own.text[seen], source)
    names = [None, *(embedded if sets is None else sets)]
    read = [load_activations(folder, run.kind, checkpoint=checkpoint, source=name) for name in names]
    features = np.concatenate([np.asarray(part, np.float32) for part in read])
    return StudyImages(rows, features, None, source, outputs[:, seen])


def deal_parts(labels: Ints, parts: int, *, seed: int) -> Ints:
    """Deal images into parts by seed [M]: those of one class into as many parts as they can, parts of one size."""
    shuffled = numpy_generator(seed, "ood parts").permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    part = np.empty(len(labels), np.int64)
    part[order] = np.arange(len(labels)) % parts
    return part


def score_images(
    images: StudyImages, known: Flags, name: str, options: Mapping[str, Any], *, logit_scale: float, part: Ints
) -> Floats:
    """Score all images [N]; none is compared with itself.

    What is fitted on known images is fitted on all parts but one: an image of that part gets its score from this fit,
    an image of no part the mean over all fits, so that both come from as much.

    Args:
        images: all.
        known: which of them are known [N].
        name: of the score.
        options: its hyper-parameters.
        logit_scale: cosines times this are the logits of CLIP models.
        part: of the known images [M], in their order.

    Raises:
        DataError: the score cannot be computed of these images.
        ParameterError: a hyper-parameter is out of range.
    """
    given: dict[str, Any] = {"features": images.features, "prototypes": images.prototypes}
    given = {what: array for what, array in given.items() if array is not None}
    if "logits" in registry.find_score(name).needs:
        given["logits"] = logit_scale * images.scores() if images.logits is None else images.logits
    return score_in_parts(name, options, given, known, images.rows["label"].to_numpy(), part)


def score_in_parts(
    name: str, options: Mapping[str, Any], given: Mapping[str, Any], known: Flags, labels: Ints, part: Ints
) -> Floats:
    """Score images [N] as `score_images` does, by any arrays.

    Args:
        name: of the score.
        options: its hyper-parameters.
        given: arrays by the names of domix.ood.scores.registry: of the images, and what is the same for all; with a
            `bank` of other images there are no parts.
        known: which images are known [N].
        labels: of the images [N]; those of known ones are read.
        part: of the known images [M], in their order.

    Raises:
        DataError: the score cannot be computed of these images.
        ParameterError: a hyper-parameter is out of range.
    """

    def scored(more: Mapping[str, Any]) -> Floats:
        try:
            return registry.compute_score(name, {**given, **more}, **options)
        except DomixError as error:
            raise error.prefixed(f"the score {name}") from error

    if "bank" not in registry.find_score(name).needs or "bank" in given:
        return scored({})
    part_of = np.full(len(known), -1, np.int64)
    part_of[known] = part
    parts = np.unique(part)
    scores = np.zeros(len(part_of))
    for number in parts:
        bank = known & (part_of != number)
        here = (part_of == number) | ~known
        queries = {what: given[what][here] for what in given if what in registry.QUERIES}
        found = scored(queries | {"bank": given["features"][bank], "labels": labels[bank]})
        scores[here] += found / np.where(known[here], 1, len(parts))
    return scores
