"""The search for nearly equal images finds exactly what comparing every pair finds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domix.data.mixtures import duplicates
from domix.data.mixtures.duplicates import FLAT, leaked, near_pairs

ALL = np.uint64(2**64 - 1)


def by_brute_force(held_out: np.ndarray, samples: np.ndarray, most: int) -> set[tuple[int, int, int]]:
    """Compare every pair, one bit string at a time."""
    found = set()
    for i, one in enumerate(held_out.tolist()):
        for j, other in enumerate(samples.tolist()):
            distance = (one ^ other).bit_count()
            if distance <= most and one.bit_count() >= FLAT and other.bit_count() >= FLAT:
                found.add((i, j, distance))
    return found


def as_set(pairs: duplicates.Pairs) -> set[tuple[int, int, int]]:
    triples = list(zip(*(column.tolist() for column in pairs), strict=True))
    assert len(set(triples)) == len(triples)
    return set(triples)


def neighbours(rng: np.random.Generator, hashes: np.ndarray, count: int, most: int) -> np.ndarray:
    """Flip 0 .. most + 2 bits, anywhere, of hashes drawn from `hashes`."""
    made = []
    for value in rng.choice(hashes, count).tolist():
        for bit in rng.choice(64, rng.integers(0, most + 3), replace=False).tolist():
            value ^= 1 << bit
        made.append(value)
    return np.array(made, np.uint64)


@pytest.mark.parametrize("most", [0, 1, 2, 3, 5, 6, 8, 11, 12, 16])
def test_every_near_pair_is_found_and_no_other(most):
    rng = np.random.default_rng(most)
    held_out = rng.integers(0, ALL, 40, np.uint64, endpoint=True)
    samples = np.concatenate(
        [neighbours(rng, held_out, 300, most), rng.integers(0, ALL, 200, np.uint64, endpoint=True)]
    )
    expected = by_brute_force(held_out, samples, most)
    assert len(expected) >= 20
    assert as_set(near_pairs(held_out, samples, most)) == expected


@pytest.mark.parametrize("parts", duplicates.PARTS)
def test_however_hashes_are_cut_the_pairs_are_the_same(monkeypatch, parts):
    monkeypatch.setattr(duplicates, "PARTS", [parts])
    rng = np.random.default_rng(parts)
    held_out = rng.integers(0, ALL, 20, np.uint64, endpoint=True)
    samples = neighbours(rng, held_out, 300, 6)
    assert as_set(near_pairs(held_out, samples, 6)) == by_brute_force(held_out, samples, 6)


hashes = st.one_of(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1).map(lambda value: value & 0xFF),  # many flat, many that share parts
    st.integers(0, 15).map(lambda value: (value << 60) | 0xFFFF),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(hashes, max_size=12), st.lists(hashes, max_size=30), st.integers(0, 16))
def test_any_hashes_repeated_and_flat_ones_too(held_out, samples, most):
    left, right = np.array(held_out, np.uint64), np.array(samples, np.uint64)
    assert as_set(near_pairs(left, right, most)) == by_brute_force(left, right, most)


def test_blocks_and_portions_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    held_out = rng.integers(0, ALL, 30, np.uint64, endpoint=True)
    samples = neighbours(rng, held_out, 500, 6)
    whole = near_pairs(held_out, samples, 6)
    monkeypatch.setattr(duplicates, "ROWS", 37)
    monkeypatch.setattr(duplicates, "COMPARED", 5)
    for one, other in zip(whole, near_pairs(held_out, samples, 6), strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_value_in_all_samples_is_compared_in_portions(monkeypatch):
    monkeypatch.setattr(duplicates, "COMPARED", 1000)
    value = np.uint64(0x0123456789ABCDEF)
    image, sample, distance = near_pairs(np.full(70, value), np.full(90, value), 6)
    assert len(image) == 70 * 90 and set(distance.tolist()) == {0}
    assert (np.diff(image * 90 + sample) == 1).all()


def test_whole_tables_equal_a_nested_loop():
    rng = np.random.default_rng(3)
    pool = rng.integers(0, ALL, 25, np.uint64, endpoint=True)

    def table(count: int, first_row: int) -> pd.DataFrame:
        bits = neighbours(rng, pool, count, 4)
        files = rng.integers(0, 60, count)
        shas = [f"{file:064x}" for file in files]
        return pd.DataFrame(
            {"row": np.arange(count) + first_row, "sha256": shas, "phash": [f"{b:016x}" for b in bits.tolist()]}
        )

    held_out, samples = table(30, 100), {"b": table(80, 0), "a": table(50, 7)}
    expected = []
    for mine in held_out.itertuples():
        for source, rows in samples.items():
            for other in rows.itertuples():
                distance = (int(mine.phash, 16) ^ int(other.phash, 16)).bit_count()
                if mine.sha256 == other.sha256:
                    expected.append(("exact", mine.row, source, other.row, 0))
                elif distance <= 4:
                    expected.append(("near", mine.row, source, other.row, distance))
    assert list(leaked(held_out, samples, 4).itertuples(index=False, name=None)) == expected
    only = leaked(held_out, samples, None)
    assert list(only.itertuples(index=False, name=None)) == [row for row in expected if row[0] == "exact"]
