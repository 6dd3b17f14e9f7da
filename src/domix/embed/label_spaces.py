"""Among which classes the images of an evaluation set are told apart, and which answers are right.

Sets whose labels are ImageNet's are told apart by ImageNet's 1,000 classes, in the texts that CLIP's authors gave them:

imagenet, -v2, -sketch   label l is right
imagenet-r, -a           the same; besides, answers may be restricted to the 200 classes that the set has
objectnet                its classes are its own, and each is one or more of ImageNet's, any of which is right; besides,
                         answers may be restricted to all those together

So are sets whose classes are named by ImageNet's wnids, whatever their labels (a folder <domain>/<wnid>/<file>). Every
other set is told apart by its own classes. Sources: Hendrycks et al. 2021 (R, A), Barbu et al. 2019 (ObjectNet).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from domix.data.classes.imagenet import imagenet_classes
from domix.data.classes.imagenet_subsets import ANSWERS, subset_labels
from domix.data.mixtures.cells import count_cells, read_samples
from domix.data.store.index import INDEX
from domix.runtime.errors import DataError, passing
from domix.runtime.files import read_json

COLUMNS = ("row", "domain", "class", "label", "split")
TRAINED_ON = ("imagenet-sketch",)  # sets whose packed images are all of the split train, as mixtures want them


@dataclass(frozen=True)
class LabelSpace:
    """The classes of an evaluation set's scores, and the right answers among them."""

    classes: list[str]  # the texts of the C classes, in label order
    subset: list[int] | None  # labels, rising, to which answers may be restricted; None: no such restriction is usual
    answers: list[list[int]] | None  # for each label of the images those that are right; None: the label itself
    split: Literal["test", "all"]  # which of the packed images are the set


def label_space(source: str, shards: Path) -> LabelSpace:
    """Return the label space of a packed source.

    Args:
        source: its name.
        shards: its folder, which holds index.parquet.

    Raises:
        DataError: the index is missing or damaged, the source has no classes, or its answers are no labels of ImageNet.
    """
    index = read_samples(shards / INDEX, COLUMNS)
    split = "all" if source in TRAINED_ON else "test"
    texts = [known.text for known in imagenet_classes().values()]
    if (shards / ANSWERS).is_file():
        answers = _read_answers(shards / ANSWERS, index)
        return LabelSpace(texts, sorted({label for labels in answers for label in labels}), answers, split)
    if has_imagenet_labels(index):
        return LabelSpace(texts, subset_labels(source), None, split)
    if index["class"].isna().any():
        raise DataError(f"{shards / INDEX} holds images without a class: leave the set out", argument="sets")
    with passing(index=shards):
        classes = count_cells(index).classes
    if all(name in imagenet_classes() for name in classes):
        answers = [[imagenet_classes()[name].label] for name in classes]
        whole = len(classes) == len(texts)
        return LabelSpace(texts, None if whole else sorted(label for (label,) in answers), answers, split)
    return LabelSpace(list(classes), None, None, split)


def has_imagenet_labels(index: pd.DataFrame) -> bool:
    """Tell whether the images of an index (columns `class`, `label`) have ImageNet's labels, or some of them."""
    texts = {known.label: known.text for known in imagenet_classes().values()}
    pairs = index[["label", "class"]].drop_duplicates()
    return all(texts.get(label) == name for label, name in pairs.itertuples(index=False, name=None))


def _read_answers(path: Path, index: pd.DataFrame) -> list[list[int]]:
    answers, known = read_json(path), range(len(imagenet_classes()))
    fine = isinstance(answers, list) and len(answers) > index["label"].max() and index["label"].min() >= 0
    if not fine or not all(isinstance(some, list) and some and set(some) <= set(known) for some in answers):
        raise DataError(f"{path} does not name ImageNet labels from 0 to 999 for every class", remake=path)
    return answers
