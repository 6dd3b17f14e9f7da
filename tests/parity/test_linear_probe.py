"""The probe against PLP's loop, written out: nn.Linear, DataLoader, Adam, a rate that is set at every step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from domix.ood.probes.linear_probe import IN21K, Recipe, learning_rates, train_probe
from domix.ood.probes.rows import loader_order

N, D, C = 500, 24, 7


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, C, N)
    centres = rng.normal(size=(C, D))
    spread = rng.uniform(0.1, 5, D)
    features = (centres[labels] + rng.normal(size=(N, D))) * spread + rng.normal(size=D)
    return features.astype(np.float32), labels


def rates(steps: int, lr: float) -> np.ndarray:
    """PLP's schedule, in the words of its code."""
    warmup = int(0.1 * steps)
    i = np.arange(steps - warmup)
    cosine = 0.5 * lr * (1 + np.cos(np.pi * i / len(i)))
    return np.concatenate([np.linspace(0, lr, warmup), cosine])


def literal(recipe: Recipe, *, steps: int, make_optimiser=None) -> tuple[np.ndarray, np.ndarray, list[float]]:
    features, labels = data()
    x = torch.from_numpy(features)
    if recipe.standardise:
        x = (x - x.mean(dim=0)) / x.std(dim=0)
    torch.manual_seed(recipe.seed)
    layer = nn.Linear(D, C)
    make = make_optimiser or (lambda p: torch.optim.Adam(p, lr=recipe.lr, weight_decay=recipe.weight_decay))
    optimiser = make(layer.parameters())
    loader = DataLoader(TensorDataset(x, torch.from_numpy(labels)), batch_size=recipe.batch, shuffle=True)
    lr = recipe.lr * (recipe.batch / 256 if recipe.scale_lr else 1)
    schedule, step, norms = rates(steps, lr), 0, []
    while step < steps:
        for inputs, targets in loader:
            if step == steps:
                break
            for group in optimiser.param_groups:
                group["lr"] = schedule[step]
            optimiser.zero_grad()
            F.cross_entropy(layer(inputs), targets).backward()
            optimiser.step()
            norms.append(float(layer.weight.norm().detach()))
            step += 1
    return layer.weight.detach().numpy(), layer.bias.detach().numpy(), norms


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [
        (Recipe(epochs=None, steps=50, batch=64), 50),
        (Recipe(epochs=6, batch=128, seed=3), 24),
        (Recipe(epochs=2, batch=N + 1), 2),
        (Recipe(epochs=3, batch=64, scale_lr=True, lr=4e-3, weight_decay=0.1), 24),
        (Recipe(epochs=5, batch=100, standardise=False), 25),
    ],
)
def test_the_same_layer_after_the_same_steps(recipe: Recipe, steps: int) -> None:
    weight, bias, _ = literal(recipe, steps=steps)
    state = torch.random.get_rng_state()
    probe = train_probe(*data(), recipe)
    np.testing.assert_allclose(probe.weight, weight, rtol=0, atol=2e-6)
    np.testing.assert_allclose(probe.bias, bias, rtol=0, atol=2e-6)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's draws change


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_other_optimisers(name: str) -> None:
    recipe = Recipe(epochs=4, batch=50, optimiser=name, lr=0.02, weight_decay=0.3)  # ty: ignore
    kinds = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=1, weight_decay=0.3),
        "sgd": lambda p: torch.optim.SGD(p, lr=1, momentum=0.9, nesterov=True, weight_decay=0.3),
    }
    weight, bias, _ = literal(recipe, steps=40, make_optimiser=kinds[name])
    probe = train_probe(*data(), recipe)
    np.testing.assert_allclose(probe.weight, weight, rtol=0, atol=2e-6)
    np.testing.assert_allclose(probe.bias, bias, rtol=0, atol=2e-6)


def test_the_norm_after_each_step() -> None:
    """The layer after t of T steps is told by runs of the same rates that are given their rows."""
    recipe = Recipe(epochs=None, steps=12, batch=100)
    _, _, norms = literal(recipe, steps=12)
    told: list[int] = []
    probe = train_probe(*data(), recipe, advance=told.append)
    assert told == [1] * 12
    assert np.linalg.norm(probe.weight) == pytest.approx(norms[-1], rel=1e-6)


@pytest.mark.parametrize("steps", [1, 5, 9, 10, 19, 20, 29, 30, 50, 1000])
def test_the_rate_of_every_step(steps: int) -> None:
    found = learning_rates(steps, 1e-3)
    assert len(found) == steps
    np.testing.assert_allclose(found, rates(steps, 1e-3), rtol=1e-12)


def test_the_rate_starts_at_nothing_peaks_twice_and_ends_above_nothing() -> None:
    found = learning_rates(50, 1e-3)
    assert found[0] == 0 and found[4] == found[5] == found.max() == 1e-3
    assert 0 < found[-1] < 2e-6
    assert learning_rates(10, 1e-3)[0] == 0 and learning_rates(10, 1e-3)[1] == 1e-3
    assert learning_rates(9, 1e-3)[0] == 1e-3


@pytest.mark.parametrize(("n", "batch"), [(10, 3), (12, 4), (5, 8)])
def test_rows_come_in_the_order_of_the_loader(n: int, batch: int) -> None:
    torch.manual_seed(11)
    loader = DataLoader(TensorDataset(torch.arange(n)), batch_size=batch, shuffle=True)
    wanted = [rows.tolist() for _ in range(3) for (rows,) in loader]
    order = loader_order(n, batch, torch.Generator().manual_seed(11))
    assert [next(order).tolist() for _ in wanted] == wanted


def test_a_given_layer_and_order_of_rows_are_taken() -> None:
    features, labels = data()
    rng = np.random.default_rng(5)
    rows = [rng.permutation(N)[:32] for _ in range(20)]
    start = (rng.normal(size=(C, D)).astype(np.float32), rng.normal(size=C).astype(np.float32))
    layer = nn.Linear(D, C)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(start[0]))
        layer.bias.copy_(torch.from_numpy(start[1]))
    optimiser = torch.optim.Adam(layer.parameters(), lr=1, weight_decay=1e-3)
    mean, std = features.mean(axis=0) + 1, features.std(axis=0) * 2
    for rate, some in zip(rates(20, 1e-3), rows, strict=True):
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        inputs = torch.from_numpy((features[some] - mean) / std)
        F.cross_entropy(layer(inputs), torch.from_numpy(labels[some])).backward()
        optimiser.step()
    recipe = Recipe(epochs=None, steps=20)
    probe = train_probe(features, labels, recipe, order=rows, start=start, statistics=(mean, std))
    np.testing.assert_allclose(probe.weight, layer.weight.detach().numpy(), atol=2e-6)
    np.testing.assert_allclose(probe.bias, layer.bias.detach().numpy(), atol=2e-6)
    wanted = layer(torch.from_numpy((features - mean) / std)).detach().numpy()
    np.testing.assert_allclose(probe.logits(features), wanted, atol=1e-4)


def test_the_recipe_of_the_baseline() -> None:
    assert Recipe(epochs=100, batch=1024, lr=1e-3, weight_decay=1e-3, standardise=False) == IN21K
    probe = train_probe(*data(), Recipe(epochs=1, standardise=False))
    assert (probe.mean == 0).all() and (probe.std == 1).all()
