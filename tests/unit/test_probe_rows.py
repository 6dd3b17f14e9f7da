"""Which rows a step reads, and draws of few images a class."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from domix.ood.probes.rows import few_shot_rows, shard_order
from domix.runtime.errors import DataError


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
    assert few_shot_rows(labels, 5).tolist() == few_shot_rows(labels, 5, seed=42).tolist() != rows.tolist()
    assert few_shot_rows(labels, 5, seed=1).tolist() == rows.tolist() != few_shot_rows(labels, 5, seed=2).tolist()


def test_a_class_with_fewer_shots_is_refused_or_taken_whole() -> None:
    labels = np.repeat([0, 2, 3], [9, 2, 7])
    with pytest.raises(DataError, match=r"^class 1 has 0 images, fewer than the 3 that are asked for, as 1 others: "):
        few_shot_rows(labels, 3)
    with pytest.raises(DataError, match=r"^class 4 has 0 images, fewer than the 1 that are asked for, as 1 others: "):
        few_shot_rows(np.arange(4), 1, classes=6)
    rows = few_shot_rows(labels, 3, fewer=True)
    assert np.bincount(labels[rows]).tolist() == [3, 0, 2, 3]
