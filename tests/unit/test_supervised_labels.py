"""Which output of a classifier each sample of a mixture belongs to."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from domix.data.classes.imagenet import imagenet_classes
from domix.data.mixtures.labels import Labels, finer_classes, label_samples
from domix.data.mixtures.mixture import Mixture
from domix.runtime.errors import DataError

TEXTS = [known.text for known in imagenet_classes().values()]
TENCH, BEAGLE, PUG, HEN = 0, 162, 254, 8
STYLES = ["apple", "dog", "cup"]


def index(*classes: tuple[int, str | None], domains: tuple[str, ...] = ("real",)) -> pd.DataFrame:
    """Return an index with a training sample of each (label, class) in each domain."""
    rows = [{"domain": d, "label": label, "class": name, "split": "train"} for d in domains for label, name in classes]
    return pd.DataFrame(rows).assign(row=range(len(rows)))


def styles(*names: str) -> pd.DataFrame:
    return index(*enumerate(names), domains=("real", "sketch"))


def imagenet(*numbers: int) -> pd.DataFrame:
    return index(*((number, TEXTS[number]) for number in numbers), domains=("imagenet-captions",))


def label(rows: list[tuple[str, int]] | None = None, **indices: pd.DataFrame) -> Labels:
    """Label a mixture of `styles` and others: all their samples, or (source, row) as given."""
    rows = rows or [(source, row) for source, table in indices.items() for row in table["row"]]
    frame = pd.DataFrame(rows, columns=["source", "row"]).astype({"source": "category"})
    fields: dict[str, Any] = {"alias": "m", "standard_name": "m", "caption": "standard", "domains": ("real", "sketch")}
    counts = {source: int((frame["source"] == source).sum()) for source in indices}
    mixture = Mixture(name="m", held_out=None, parameters={"source": "styles"}, samples=counts, rows=frame, **fields)
    return label_samples(mixture, indices)


def test_the_multi_domain_source_alone_has_its_classes_in_label_order() -> None:
    labels = label(styles=styles(*STYLES))
    assert (labels.classes, labels.first) == (tuple(STYLES), 0)
    assert labels.samples.tolist() == [0, 1, 2] * 2


def test_imagenets_classes_go_before_and_finer_ones_join_the_coarser() -> None:
    labels = label(base=imagenet(BEAGLE, TENCH, PUG), styles=styles(*STYLES))
    assert (len(labels.classes), labels.first) == (1003, 1000)
    assert labels.classes[1000:] == tuple(STYLES)
    assert labels.classes[TENCH] == "tench"
    assert labels.classes[BEAGLE] is labels.classes[PUG] is None
    assert labels.samples.tolist() == [1001, TENCH, 1001, *[1000, 1001, 1002] * 2]
    listed = finer_classes(STYLES)
    assert [number for number, name in enumerate(labels.classes) if name is None] == sorted(listed)


def test_a_class_of_imagenets_own_name_goes_before_the_list() -> None:
    labels = label(base=imagenet(BEAGLE, PUG, HEN), styles=styles("dog", "Beagle", "hen"))
    assert labels.samples[:3].tolist() == [1001, 1000, 1002]
    assert labels.classes[1000:] == ("dog", "Beagle", "hen")


def test_other_sources_join_by_name_and_add_what_is_unknown() -> None:
    more = index((0, "anvil"), (3, "Dog"), (7, "zither"))
    labels = label(styles=styles(*STYLES), more=more)
    assert labels.classes == (*STYLES, "anvil", "zither")
    assert labels.samples.tolist() == [0, 1, 2, 0, 1, 2, 3, 1, 4]


def test_other_sources_join_imagenets_classes_too() -> None:
    more = index((0, "beagle"), (1, "tench"), (2, "zither"))
    labels = label(styles=styles(*STYLES), base=imagenet(TENCH), more=more)
    assert labels.samples[-3:].tolist() == [1001, TENCH, 1003]
    assert labels.classes[-1] == "zither"


def test_the_order_is_the_mixtures() -> None:
    rows = [("styles", 4), ("base", 1), ("styles", 0), ("base", 0)]
    labels = label(rows, styles=styles(*STYLES), base=imagenet(TENCH, PUG))
    assert labels.samples.tolist() == [1001, 1001, 1000, TENCH]


def test_capitals_and_underscores_do_not_matter() -> None:
    assert finer_classes(["Alarm_Clock"]) == finer_classes(["alarm clock"]) == {409: 0, 530: 0}


@pytest.mark.parametrize(
    ("corpus", "says"),
    [
        (
            index((-1, None), (-1, None)),
            r"mixture 'm' holds 2 samples of source 'web' that have no class, ",
        ),
        (index((0, "anvil"), (-1, None)), r"mixture 'm' holds 1 samples of source 'web' that have no class"),
        (index((0, "anvil"), (0, "axe")), r"source 'web' does not pair its labels with classes$"),
        (index((0, None), (1, "axe")), r"source 'web' does not pair its labels with classes"),
    ],
)
def test_samples_without_a_class_are_refused(corpus: pd.DataFrame, says: str) -> None:
    with pytest.raises(DataError, match=says):
        label(styles=styles(*STYLES), web=corpus)


def test_samples_without_a_class_that_the_mixture_leaves_out_do_no_harm() -> None:
    web = index((0, "anvil"), (-1, None))
    assert label([("styles", 1), ("web", 0)], styles=styles(*STYLES), web=web).samples.tolist() == [1, 3]
