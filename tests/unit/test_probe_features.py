"""Features read by rows, their statistics, orders of rows, draws of few."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from domix.activations.store import ActivationStore, StoreWriter
from domix.encoders.encoder import Activations
from domix.ood.probes.features import (
    ArrayFeatures,
    StoreFeatures,
    feature_blocks,
    few_shot_rows,
    require_finite,
    shard_order,
    standardisation,
)
from domix.runtime.errors import DataError


def numbers(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def stored(folder: Path, features: np.ndarray, *, shard: int) -> StoreFeatures:
    writer = StoreWriter(folder, ["output"], len(features), key={}, shard=shard)
    output = torch.from_numpy(features)
    writer.update(Activations(output, {"output": output}), np.arange(len(features)))
    writer.result()
    return StoreFeatures(ActivationStore(folder), "output")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_of_an_array_mapped_or_not(tmp_path: Path, dtype: type) -> None:
    array = numbers(40, 5).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    rows = np.array([39, 3, 3, 0])
    for features in (ArrayFeatures(array), ArrayFeatures(np.load(tmp_path / "a.npy", mmap_mode="r"))):
        out = np.empty((4, 5), np.float32)
        features.read(rows, out)
        np.testing.assert_array_equal(out, array[rows].astype(np.float32))


def test_rows_of_a_store_come_from_its_shards_in_any_order(tmp_path: Path) -> None:
    array = numbers(50, 3)
    features = stored(tmp_path / "s", array, shard=8)
    assert features.shape == (50, 3)
    rows = np.random.default_rng(1).permutation(50)[:31]
    out = np.empty((31, 3), np.float32)
    features.read(rows, out)
    np.testing.assert_array_equal(out, array.astype(np.float16)[rows].astype(np.float32))
    assert np.concatenate([block for _, block in feature_blocks(features)]).shape == (50, 3)


def test_what_is_no_matrix_is_refused() -> None:
    for array in (np.zeros(3), np.zeros((0, 4)), np.zeros((2, 2, 2))):
        with pytest.raises(DataError, match=r"^features must be an array of N images x d"):
            ArrayFeatures(array)


@pytest.mark.parametrize("n", [2, 100, 4096, 9001])
def test_statistics_are_those_of_all_rows_at_once(n: int) -> None:
    array = (numbers(n, 6) * np.array([1e-4, 1, 5, 100, 1, 2]) + np.array([3, 0, 1e3, -5, 1e-3, 0])).astype(np.float32)
    mean, std = standardisation(array)
    np.testing.assert_allclose(mean, array.mean(axis=0, dtype=np.float64), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(std, array.astype(np.float64).std(axis=0, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567, 1e-20])
def test_a_constant_dimension_gives_no_nan(value: float) -> None:
    array = numbers(9000, 3)
    array[:, 1] = value
    mean, std = standardisation(array)
    assert std[1] == 1 and mean[1] == pytest.approx(value)
    assert std[0] != 1 and std[2] != 1


def test_a_dimension_that_varies_by_rounding_alone_is_not_blown_up() -> None:
    array = numbers(9000, 2)
    array[:, 1] = np.where(array[:, 0] > 0, np.nextafter(np.float32(3.3), np.float32(4)), np.float32(3.3))
    assert standardisation(array)[1][1] == 1
    assert standardisation(array * np.float32(1e-12))[1][0] < 1e-10


def test_features_that_are_not_finite_are_named() -> None:
    array = numbers(5000, 3)
    array[4999, 2] = np.inf
    array[4321, 1] = np.nan
    with pytest.raises(DataError, match=r"^the features of image 4321 are not finite: "):
        standardisation(array)
    array[4321, 1] = 0
    with pytest.raises(DataError, match=r"^the features of image 4999 are not finite: "):
        standardisation(array)
    require_finite(np.full((4, 4), 3e38, np.float32))  # whose sum is not
    for pair in ([np.inf, -np.inf], [0, np.nan]):
        with pytest.raises(DataError, match=r"^the features of image 7 are not finite: "):
            require_finite(np.array([pair], np.float32), 7)
    with pytest.raises(DataError, match=r"^one image has no deviation"):
        standardisation(array[:1])


@pytest.mark.parametrize(("n", "batch", "shard", "mixed"), [(100, 7, 10, 2), (95, 10, 10, 3), (30, 64, 10, 1)])
def test_mixed_shards_have_every_row_once_an_epoch(n: int, batch: int, shard: int, mixed: int) -> None:
    steps = -(-n // batch)
    order = shard_order(n, batch, shard=shard, mixed=mixed, seed=0)
    epochs = [list(islice(order, steps)) for _ in range(3)]
    for rows in epochs:
        assert sorted(np.concatenate(rows).tolist()) == list(range(n))
        assert [len(some) for some in rows[:-1]] == [batch] * (steps - 1)
    assert epochs[0][0].tolist() != epochs[1][0].tolist()
    again = list(islice(shard_order(n, batch, shard=shard, mixed=mixed, seed=0), steps))
    other = list(islice(shard_order(n, batch, shard=shard, mixed=mixed, seed=1), steps))
    assert [rows.tolist() for rows in again] == [rows.tolist() for rows in epochs[0]]
    assert [rows.tolist() for rows in other] != [rows.tolist() for rows in epochs[0]]


def test_mixed_shards_are_read_one_after_the_other() -> None:
    rows = np.concatenate(list(islice(shard_order(100, 5, shard=10, mixed=2, seed=0), 20)))
    for first in range(0, 100, 20):
        assert len({row // 10 for row in rows[first : first + 20].tolist()}) == 2
    assert rows[:20].tolist() != sorted(rows[:20].tolist())


def test_few_shots_are_drawn_of_every_class_without_replacement() -> None:
    labels = np.repeat([0, 1, 2], [9, 5, 30])
    rows = few_shot_rows(labels, 5, seed=1)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert np.bincount(labels[rows]).tolist() == [5, 5, 5]
    assert few_shot_rows(labels, 5, seed=1).tolist() == rows.tolist() != few_shot_rows(labels, 5, seed=2).tolist()


def test_a_class_with_fewer_shots_is_refused_or_taken_whole() -> None:
    labels = np.repeat([0, 2, 3], [9, 2, 7])
    with pytest.raises(DataError, match=r"^class 1 has 0 images, fewer than the 3 that are asked for, as 1 others: "):
        few_shot_rows(labels, 3)
    with pytest.raises(DataError, match=r"^class 4 has 0 images, fewer than the 1 that are asked for, as 1 others: "):
        few_shot_rows(np.arange(4), 1, classes=6)
    rows = few_shot_rows(labels, 3, fewer=True)
    assert np.bincount(labels[rows]).tolist() == [3, 0, 2, 3]
