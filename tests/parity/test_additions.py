"""ImageNet-Sketch in the place of other samples: the reference's draws, written down on lists of lines."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from domix.data.classes.imagenet import imagenet_classes
from domix.data.mixtures.additions import SOURCE, shared_classes, unlike_sketches
from domix.data.mixtures.cells import Cells, Split, count_cells, make_split
from domix.data.mixtures.mixing import build_mixture
from domix.data.mixtures.mixture import Mixture
from domix.data.mixtures.names import parse_mixture
from domix.data.mixtures.recipes import GRADES
from domix.data.mixtures.selection import quotas
from domix.runtime.errors import DataError, ParameterError
from tests.fakes import make_index
from tests.golden import domainnet as golden
from tools import scale

SKETCHES = scale.imagenet_sketch()


@pytest.fixture(scope="module")
def cells() -> Cells:
    return count_cells(golden.index())


@pytest.fixture(scope="module")
def split(cells) -> Split:
    return make_split(cells, test_domain="sketch", natural_domain="real", test_classes=golden.TEST_CLASSES)


@pytest.fixture(scope="module")
def kept(cells) -> np.ndarray:
    return unlike_sketches(SKETCHES, cells.classes, by_name=False)


def build(name: str, cells: Cells, split: Split, kept: np.ndarray) -> Mixture:
    return build_mixture(parse_mixture(name, split), cells, split, source="domainnet", sketches=kept)


def lines_of(name: str, cells: Cells, split: Split) -> list[tuple[str, str, int]]:
    """List a mixture's samples as (domain, class, row), in the order of the reference's file."""
    quota = quotas(parse_mixture(name, split), cells, split)
    listed: dict[str, dict[str, list[int]]] = {domain: {} for domain in cells.domains}
    for row, code in zip(cells.row.tolist(), cells.code.tolist(), strict=True):
        domain, label = divmod(code, len(cells.classes))
        rows = listed[cells.domains[domain]].setdefault(cells.classes[label], [])
        if len(rows) < quota[domain, label]:
            rows.append(row)
    return [(domain, name, row) for domain, by in listed.items() for name, rows in by.items() for row in rows]


def graded_reference(lines: list[tuple[str, str, int]], count: int) -> dict[str, tuple[list[int], set[str]]]:
    """Follow the reference: grade -> rows that stay, and classes whose own sketches do."""
    own: dict[str, list[int]] = {}
    for domain, name, row in lines:
        if domain == "sketch":
            own.setdefault(name, []).append(row)
    others = [row for domain, _, row in lines if domain != "sketch"]
    stream = random.Random(42)
    half = stream.sample(list(own), 165)
    quarter = stream.sample(half, 82)
    thirty = quarter + stream.sample(sorted(set(half).difference(quarter)), 17)
    ten = stream.sample(quarter, 33)
    five = stream.sample(ten, 16)
    hundredth = stream.sample(five, 3)
    one = stream.sample(hundredth, 1)
    order = [("fiftyp", half), ("twentyfivep", quarter), ("thirtyp", thirty), ("tenp", ten)]
    made = {}
    for grade, classes in [*order, ("fivep", five), ("onep", hundredth), ("one", one)]:
        mine = [row for name in classes for row in own[name]]
        removed = sum(map(len, own.values())) - len(mine)
        gone = set(stream.sample(range(len(others)), count - removed))
        made[grade] = ([row for place, row in enumerate(others) if place not in gone] + mine, set(classes))
    return made


def test_the_classes_that_are_left(cells):
    shared, by_name = (shared_classes(cells.classes, by_name=value) for value in (False, True))
    assert len(shared) == golden.MAPPED_CLASSES and len(by_name) == 1000 - golden.LEFT_BY_NAME
    assert 1000 - len(shared) == golden.LEFT_CLASSES
    assert sum(bool(shared_classes([name], by_name=False)) for name in cells.classes) == golden.DOMAINNET_MAPPED
    texts = [one.text for one in imagenet_classes().values() if one.label in by_name - shared]
    assert len(texts) == 36
    assert {"sea lion", "restaurant", "library", "trifle", "steel drum"} <= set(texts)


def test_the_class_map_is_the_published_one(cells):
    counts = pd.read_csv(scale.COUNTS, keep_default_na=False)
    for name, numbers in zip(counts["class"], counts["imagenet_indices"], strict=True):
        assert shared_classes([name], by_name=False) == {int(number) for number in numbers.split()}


def test_tested_classes_are_never_added(cells, kept):
    tested = shared_classes(list(golden.TEST_CLASSES), by_name=False)
    assert len(tested) == 15
    assert not set(SKETCHES["label"].iloc[kept]) & tested


def test_classes_spelled_as_folders_are_the_same():
    assert shared_classes(["Traffic_Light"], by_name=False) == shared_classes(["traffic light"], by_name=False) == {920}
    with pytest.raises(DataError, match="which of its classes are 'gizmo' is known for DomainNet's"):
        shared_classes(["gizmo"], by_name=False)


@pytest.mark.parametrize("family", ["natural-only", "leave-out-domain", "cg-high"])
def test_sketches_replace_the_samples_that_the_reference_removes(family, cells, split, kept):
    lines = lines_of(family, cells, split)
    gone = set(random.Random(42).sample(range(len(lines)), len(kept)))
    expected = sorted(row for place, (_, _, row) in enumerate(lines) if place not in gone)
    mixture = build(f"{family}+sketches", cells, split, kept)
    rows = mixture.rows
    assert rows.loc[rows["source"] == "domainnet", "row"].tolist() == expected
    assert rows.loc[rows["source"] == SOURCE, "row"].tolist() == kept.tolist()
    assert len(rows) == len(lines) == (golden.NATURAL_ONLY if family == "natural-only" else golden.SIZE["sketch"])
    assert mixture.alias.endswith("-with-in-sketches")


@pytest.mark.parametrize("by_name", [False, True])
def test_graded_mixtures_hold_the_references_samples(by_name, cells, split):
    kept = unlike_sketches(SKETCHES, cells.classes, by_name=by_name)
    lines = lines_of("cg-high", cells, split)
    assert sum(domain == "sketch" for domain, _, _ in lines) == golden.OWN_SKETCHES
    expected = graded_reference(lines, len(kept))
    classes = {grade: names for grade, (_, names) in expected.items()}
    assert {grade: len(names) for grade, names in classes.items()} == golden.GRADED_CLASSES
    assert classes["one"] < classes["onep"] < classes["fivep"] < classes["tenp"] < classes["twentyfivep"]
    assert classes["twentyfivep"] < classes["thirtyp"] < classes["fiftyp"]
    for grade in GRADES:
        mixture = build(f"cg-high+sketches-{grade}", cells, split, kept)
        rows = mixture.rows
        assert len(rows) == golden.SIZE["sketch"]
        assert rows.loc[rows["source"] == "domainnet", "row"].tolist() == sorted(expected[grade][0])
        assert mixture.alias == f"lso-cipqrs-nosketchclasses-with-in-sketches-{grade}"


def test_too_few_or_too_many_sketches_are_refused(cells, split, kept):
    with pytest.raises(DataError, match=r"100 sketches of ImageNet do not make up for the \d+ samples of 'sketch'"):
        build("cg-high+sketches-one", cells, split, kept[:100])
    small = make_index({"real": [3], "sketch": [3]}, classes=["axe"])
    few = count_cells(pd.concat([small, small.assign(label=1, row=small["row"] + 8, **{"class": "bed"})]))
    narrow = make_split(few, test_domain="sketch", natural_domain="real", test_classes=["axe"])
    with pytest.raises(DataError, match="cannot replace 6 samples"):
        build("natural-only+sketches", few, narrow, kept)


def test_sketches_without_labels_or_of_shared_classes_alone_are_refused(cells):
    with pytest.raises(DataError, match="without a label of ImageNet's"):
        unlike_sketches(SKETCHES.assign(label=-1), cells.classes, by_name=False)
    with pytest.raises(DataError, match="no training sample of a class that the data lack"):
        unlike_sketches(SKETCHES[SKETCHES["label"] == 470], cells.classes, by_name=False)
    with pytest.raises(DataError, match="nothing to add"):
        unlike_sketches(SKETCHES.assign(split="test"), cells.classes, by_name=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cg-low+sketches", "can be added to natural-only, leave-out-domain, cg-high"),
        ("cg-high-all+sketches", "can be added to"),
        ("cg-high+0.1+sketches", "can be added to"),
        ("cg-high+whole+sketches", "can be added to"),
        ("leave-out-domain+sketches-tenp", "only cg-high has sketches to take away"),
        ("lso-rs-nosketchclasses-with-in-sketches", "can be added to"),
    ],
)
def test_what_sketches_do_not_go_with_is_refused(name, message, split):
    with pytest.raises(ParameterError, match=message):
        parse_mixture(name, split)


def test_sketches_are_for_studies_that_test_sketches_and_do_not_hold_them_anyway(split):
    with pytest.raises(ParameterError, match="adds sketches, but test_domain is 'clipart'"):
        parse_mixture("cg-high+sketches", replace(split, test_domain="clipart"))
    with pytest.raises(ParameterError, match="which base names too"):
        parse_mixture("cg-high+sketches", split, base=["web", SOURCE])
