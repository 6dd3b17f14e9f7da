"""The order of samples, for any size of mixture and batch."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from domix.data.loader import Augmentation, Batches, Pictures, sample_order

AUGMENTATION = Augmentation(scale=(0.5, 1.0), ratio=(0.75, 1.3333), mirror=0.5)


@given(st.integers(1, 300), st.integers(0, 2**31), st.integers(0, 100))
def test_an_epoch_is_a_bijection(count: int, seed: int, epoch: int) -> None:
    order = sample_order(count, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(count))
    assert torch.equal(order, sample_order(count, seed=seed, epoch=epoch))


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60), st.integers(0, 2**31), st.integers(0, 50))
def test_weights_decide_how_often_a_sample_is_drawn(weights: list[float], seed: int, epoch: int) -> None:
    count = len(weights)
    weigh = torch.tensor(weights, dtype=torch.float64)
    order = sample_order(count, seed=seed, epoch=epoch, weights=weigh)
    times = torch.bincount(order, minlength=count)
    wanted = weigh / weigh.mean()
    assert times.sum() == count
    assert bool(((times >= (wanted - 1e-6).floor()) & (times <= (wanted + 1e-6).ceil())).all())
    assert torch.equal(order, sample_order(count, seed=seed, epoch=epoch, weights=weigh))


def test_weights_are_met_on_average() -> None:
    weights = torch.tensor([1.0, 1.0, 3.0, 0.5], dtype=torch.float64)
    orders = [sample_order(4, seed=0, epoch=epoch, weights=weights) for epoch in range(4000)]
    mean = torch.bincount(torch.cat(orders)) / 4000
    assert torch.allclose(mean.double(), weights / weights.mean(), atol=0.03)


def test_equal_weights_draw_every_sample_once() -> None:
    order = sample_order(50, seed=0, epoch=1, weights=torch.full((50,), 2.5, dtype=torch.float64))
    assert sorted(order.tolist()) == list(range(50))


@given(st.data(), st.integers(1, 40), st.integers(1, 30))
def test_the_sequence_of_samples_does_not_depend_on_the_batch(data: st.DataObject, count: int, steps: int) -> None:
    batch = data.draw(st.integers(1, count))
    pictures = Pictures(torch.full((count, 2), 4))
    tokens = torch.zeros((count, 1), dtype=torch.int32)
    batches = Batches(pictures, tokens, AUGMENTATION, batch=batch, seed=3, total=steps)
    seen = torch.cat([batches.rows(step) for step in range(steps)])
    epochs = -(-batch * steps // count)
    expected = torch.cat([sample_order(count, seed=3, epoch=epoch) for epoch in range(epochs)])
    assert torch.equal(seen, expected[: batch * steps])
