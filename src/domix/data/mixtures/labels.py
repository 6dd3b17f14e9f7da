"""What a classifier tells apart: its outputs, and which of them each sample of a mixture belongs to.

the multi-domain source alone      its K classes, in label order
with a source of ImageNet classes  ImageNet's 1000, then the K: of ImageNet's classes, those that are one of the K
                                   under a finer name (a beagle is a dog) count as that one, and their own outputs
                                   are never used. As in the reference study: with DomainNet 1345, of which 895 are
                                   used
with a source of other classes     classes of a known name as above, then the rest in the source's label order
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pandas as pd

from domix.data.classes.imagenet import imagenet_classes
from domix.data.mixtures.cells import Ints, count_cells
from domix.data.mixtures.mixture import Mixture
from domix.runtime.errors import DataError

COLUMNS = ("label", "split")  # of the indices, besides those that training reads


@dataclass(frozen=True)
class Labels:
    """The outputs of a classifier, and those of a mixture's samples."""

    classes: tuple[str | None, ...]  # the name of each output, all different; None: no sample belongs to it
    first: int  # the output of the multi-domain source's first class; its others follow in label order
    samples: Ints  # [N] the output that each sample belongs to, in the mixture's order


def label_samples(mixture: Mixture, indices: Mapping[str, pd.DataFrame]) -> Labels:
    """Return the labels of a mixture's samples.

    Args:
        indices: by source (columns `row`, `domain`, `class`, `label`, `split`).

    Raises:
        DataError: the mixture holds samples without a class, or a source gives a label to two classes.
    """
    main = mixture.parameters["source"]
    own = count_cells(indices[main]).classes
    others = {name: _classes(name, indices[name]) for name in mixture.samples if name != main}
    outputs = _Outputs(own, imagenet=any(map(_is_imagenet, others.values())))
    samples = np.empty(len(mixture.rows), dtype=np.int64)
    for name in mixture.samples:
        mine = (mixture.rows["source"] == name).to_numpy()
        label = indices[name].set_index("row")["label"].loc[mixture.rows["row"][mine]].to_numpy()
        if (label < 0).any():
            raise DataError(
                f"mixture {mixture.name!r} holds {(label < 0).sum():,} samples of source {name!r} that have no class,"
                " from which a classifier cannot learn: leave the mixture out",
                argument="mixture",
            )
        samples[mine] = outputs.first + label if name == main else outputs.of(others[name])[label]
    return Labels(tuple(outputs.names), outputs.first, samples)


def _classes(source: str, index: pd.DataFrame) -> dict[int, str]:
    """Return the classes of a source by their label, in label order; those that have one."""
    pairs = index.loc[(index["label"] >= 0).to_numpy(), ["label", "class"]].drop_duplicates().sort_values("label")
    if pairs["label"].duplicated().any() or pairs["class"].isna().any():
        raise DataError(f"the index of source {source!r} does not pair its labels with classes", argument="indices")
    return dict(zip(pairs["label"].tolist(), pairs["class"].tolist(), strict=True))


def _is_imagenet(classes: Mapping[int, str]) -> bool:
    """Tell whether labels and classes are ImageNet's, or some of them."""
    texts = {known.label: known.text for known in imagenet_classes().values()}
    return bool(classes) and all(texts.get(label) == text for label, text in classes.items())


class _Outputs:
    """The outputs, found by the names of classes; neither capitals nor underscores for blanks make another name."""

    def __init__(self, own: Sequence[str], *, imagenet: bool) -> None:
        texts = [known.text for known in imagenet_classes().values()] if imagenet else []
        finer = finer_classes(own) if imagenet else {}
        self.first = len(texts)
        self.names = [None if number in finer else text for number, text in enumerate(texts)] + list(own)
        by_text = {text: self.first + finer[i] if i in finer else i for i, text in enumerate(texts)}
        self._by_name = {_plain(text): output for text, output in by_text.items()}
        self._by_name |= {_plain(name): self.first + label for label, name in enumerate(own)}

    def of(self, classes: Mapping[int, str]) -> Ints:
        """Return the output of each label, [highest + 1]; classes without one get new ones."""
        of_label = np.full(max(classes, default=-1) + 1, -1, dtype=np.int64)
        for label, name in classes.items():
            if _plain(name) not in self._by_name:
                self._by_name[_plain(name)] = len(self.names)
                self.names.append(name)
            of_label[label] = self._by_name[_plain(name)]
        return of_label


def finer_classes(own: Sequence[str]) -> dict[int, int]:
    """Return which of ImageNet's classes (0 .. 999) are one of the classes `own`: its place among them.

    DomainNet's classes stand for those that the reference study lists (`dog` for 118 breeds), any other class for that
    of its own name, which goes before.
    """
    text = (resources.files("domix.data.classes") / "resources/domainnet_to_imagenet.json").read_text(encoding="utf-8")
    listed: dict[str, list[int]] = json.loads(text)
    found = {number: k for k, name in enumerate(own) for number in listed.get(_plain(name), ())}
    numbers = {_plain(known.text): known.label for known in imagenet_classes().values()}
    for k, name in enumerate(own):
        if _plain(name) not in listed and _plain(name) in numbers:
            found[numbers[_plain(name)]] = k
    return found


def _plain(name: str) -> str:
    return name.replace("_", " ").lower()
