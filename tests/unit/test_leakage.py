"""The parts of the leakage audit: one set of samples for all mixtures, the nearest of them, the encoder's choice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domix.analyses.leakage.audit import choose_encoder
from domix.analyses.leakage.neighbours import WORD, Nearest, gather
from domix.runtime.errors import ParameterError
from domix.study import Run

RUNS = [Run("clip", "natural-only", 0), Run("clip", "cg-high", 0), Run("clip", "cg-high", 1)]


def mixture(**rows: list[int]) -> pd.DataFrame:
    pairs = [(source, row) for source, chosen in rows.items() for row in chosen]
    return pd.DataFrame(pairs, columns=["source", "row"]).astype({"source": "category", "row": "int64"})


def none() -> np.ndarray:
    return np.zeros(0, np.int64)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20))), min_size=1, max_size=6))
def test_samples_stand_once_and_know_their_mixtures(sets):
    tables = [mixture(a=sorted(a), b=sorted(b)) for a, b in sets]
    samples = gather(tables, {"a": np.array([3, 7]), "b": none()})
    shown = samples.shown[samples.group]
    found = {
        (samples.sources[source], row): tuple(np.flatnonzero(has).tolist())
        for source, row, has in zip(samples.source.tolist(), samples.row.tolist(), shown, strict=True)
    }
    assert len(found) == len(samples)
    wanted = {(name, row) for place, name in enumerate("ab") for pair in sets for row in pair[place]}
    assert set(found) == wanted | {("a", 3), ("a", 7)}
    for (name, row), numbers in found.items():
        place = "ab".index(name)
        assert numbers == tuple(number for number, pair in enumerate(sets) if row in pair[place])
    assert len({tuple(row) for row in samples.shown.tolist()}) == len(samples.shown)


def test_more_mixtures_than_bits_in_a_word():
    tables = [mixture(a=[number, 500]) for number in range(2 * WORD + 3)]
    samples = gather(tables, {"a": none()})
    shown = samples.shown[samples.group]
    assert shown[samples.find("a", np.array([500]))].all()
    for number in (0, WORD - 1, WORD, 2 * WORD + 2):
        assert np.flatnonzero(shown[samples.find("a", np.array([number]))[0]]).tolist() == [number]


def test_groups_divide_by_a_flag():
    samples = gather([mixture(a=[0, 1, 2]), mixture(a=[2])], {"a": none()})
    divided, flag = samples.divided(np.array([True, False, True]))
    assert flag[divided.group].tolist() == [True, False, True]
    np.testing.assert_array_equal(divided.shown[divided.group], samples.shown[samples.group])
    assert len(divided.shown) == 3


def unit(rng: np.random.Generator, count: int, width: int = 6) -> np.ndarray:
    image = rng.normal(size=(count, width)).astype(np.float32)
    return image / np.linalg.norm(image, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [1, 7, 400])
def test_the_nearest_are_those_of_a_full_sort_however_samples_come(block):
    rng = np.random.default_rng(0)
    held_out, image = unit(rng, 9), unit(rng, 200)
    label, group, classes = rng.integers(0, 3, 9), rng.integers(0, 4, 200), rng.integers(-1, 3, 200)
    search = Nearest(held_out, label, groups=4, similarity=0.8, keep=5)
    for start in range(0, 200, block):
        part = slice(start, start + block)
        search.add(image[part], np.arange(200)[part], group[part], classes[part])
    likeness = held_out @ image.T
    close = likeness >= 0.8
    same = close & (label[:, None] == classes)
    for number in range(4):
        mine = group == number
        assert search.close[number] == close[:, mine].any(axis=0).sum()
        assert search.same_class[number] == same[:, mine].any(axis=0).sum()
        np.testing.assert_array_equal(search.touched[number], close[:, mine].any(axis=1))
    assert 0 < search.close.sum() < 200 and 0 < search.same_class.sum() < search.close.sum()
    wanted = np.array([True, False, True, False])
    value, sample = search.nearest(wanted)
    masked = np.where(wanted[group], likeness, -2)
    np.testing.assert_allclose(value, -np.sort(-masked, axis=1)[:, :5], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(masked, sample, axis=1), value, atol=1e-6)


def test_a_sample_just_as_alike_as_asked_for_is_close():
    held_out, image = np.array([[1, 0]], np.float32), np.array([[0.5, 0.75], [0.4375, 0.875]], np.float32)
    search = Nearest(held_out, np.zeros(1, np.int64), groups=1, similarity=0.5, keep=1)
    search.add(image, np.arange(2), np.zeros(2, np.int64), np.array([0, 1]))
    assert (search.close.tolist(), search.same_class.tolist(), search.touched.tolist()) == ([1], [1], [[True]])


def test_fewer_samples_than_neighbours_are_filled_up():
    rng = np.random.default_rng(1)
    search = Nearest(unit(rng, 2), np.zeros(2, np.int64), groups=2, similarity=0.5, keep=5)
    search.add(unit(rng, 3), np.array([4, 8, 9]), np.zeros(3, np.int64), np.zeros(3, np.int64))
    value, sample = search.nearest(np.array([True, True]))
    assert (np.isfinite(value).sum(axis=1) == 3).all() and (sample[:, 3:] == -1).all()
    assert search.nearest(np.zeros(2, bool))[1].size == 0


def test_the_encoder_is_the_run_that_was_shown_most_cells_unless_named():
    cells = pd.DataFrame({"mixture": ["natural-only"] * 3 + ["cg-high"] * 3, "samples": [9, 0, 0, 1, 1, 0]})
    assert choose_encoder(RUNS, cells, None).name == "cg-high-s0"
    assert choose_encoder(RUNS, cells, "natural-only-s0").name == "natural-only-s0"
    with pytest.raises(ParameterError, match=r"^'resnet' is no run of this study: name one of natural") as caught:
        choose_encoder(RUNS, cells, "resnet")
    assert caught.value.argument == "encoder"
