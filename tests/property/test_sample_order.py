"""The order of samples, for any size of mixture and batch."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from domix.data.loading.images import Images
from domix.data.loading.loader import Augmentation, Batches, Order

AUGMENTATION = Augmentation(side=32, scale=(0.5, 1.0), ratio=(0.75, 1.3333), hflip=0.5)


@given(st.integers(1, 300), st.integers(0, 2**31), st.integers(0, 100))
def test_an_epoch_is_a_bijection(count: int, seed: int, epoch: int) -> None:
    order = Order(count=count, seed=seed).epoch(epoch)
    assert sorted(order.tolist()) == list(range(count))
    assert torch.equal(order, Order(count=count, seed=seed).epoch(epoch))


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60), st.integers(0, 2**31), st.integers(0, 50))
def test_weights_decide_how_often_a_sample_is_drawn(weights: list[float], seed: int, epoch: int) -> None:
    count = len(weights)
    weigh = torch.tensor(weights, dtype=torch.float64)
    order = Order(count=count, seed=seed, weights=weigh).epoch(epoch)
    times = torch.bincount(order, minlength=count)
    wanted = weigh / weigh.mean()
    assert times.sum() == count
    assert bool(((times >= (wanted - 1e-6).floor()) & (times <= (wanted + 1e-6).ceil())).all())
    assert torch.equal(order, Order(count=count, seed=seed, weights=weigh).epoch(epoch))


def test_weights_are_met_on_average() -> None:
    weights = torch.tensor([1.0, 1.0, 3.0, 0.5], dtype=torch.float64)
    orders = [Order(count=4, seed=0, weights=weights).epoch(epoch) for epoch in range(4000)]
    mean = torch.bincount(torch.cat(orders)) / 4000
    assert torch.allclose(mean.double(), weights / weights.mean(), atol=0.03)


def test_equal_weights_draw_every_sample_once() -> None:
    order = Order(count=50, seed=0, weights=torch.full((50,), 2.5, dtype=torch.float64)).epoch(1)
    assert sorted(order.tolist()) == list(range(50))


@given(st.data(), st.integers(1, 40), st.integers(1, 30))
def test_the_sequence_of_samples_does_not_depend_on_the_batch(data: st.DataObject, count: int, steps: int) -> None:
    batch = data.draw(st.integers(1, count))
    images = Images(torch.full((count, 2), 4))
    tokens = torch.zeros((count, 1), dtype=torch.int32)
    batches = Batches(images, tokens, AUGMENTATION, Order(count=count, seed=3), batch=batch, total=steps)
    seen = torch.cat([batches.rows(step) for step in range(steps)])
    epochs = -(-batch * steps // count)
    expected = torch.cat([Order(count=count, seed=3).epoch(epoch) for epoch in range(epochs)])
    assert torch.equal(seen, expected[: batch * steps])


@given(st.integers(1, 200), st.integers(1, 12), st.integers(1, 14), st.integers(0, 2**31))
def test_windows_keep_every_sample_and_need_few_shards_at_a_time(
    count: int, shards: int, window: int, seed: int
) -> None:
    shard = torch.arange(count) % shards
    order = Order(count=count, seed=seed, shards=shard, window=window).epoch(2)
    assert sorted(order.tolist()) == list(range(count))
    seen = shard[order].tolist()
    first = {number: seen.index(number) for number in set(seen)}
    last = {number: len(seen) - 1 - seen[::-1].index(number) for number in set(seen)}
    for place in range(count):
        assert sum(first[number] <= place <= last[number] for number in first) <= window


def test_windows_differ_between_epochs_and_shuffle_within() -> None:
    shard = torch.arange(400) // 50
    orders = [Order(count=400, seed=0, shards=shard, window=2).epoch(epoch) for epoch in (0, 1)]
    assert not torch.equal(shard[orders[0]], shard[orders[1]])
    assert not torch.equal(orders[0][:100].sort().values, orders[0][:100])
    assert len(shard[orders[0][:100]].unique()) == 2
