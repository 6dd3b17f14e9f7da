"""Peak rates by name, what a log says, utilisation, and predictions."""

from __future__ import annotations

import itertools

import pytest
import torch

from domix.runtime.errors import DataError
from domix.train.cost import throughput
from domix.train.cost.throughput import Cost, Measured


@pytest.mark.parametrize(
    ("name", "precision", "tf32", "tera"),
    [
        ("NVIDIA H200", "bf16-mixed", True, 989.4),
        ("NVIDIA GH200 480GB", "bf16-mixed", True, 989.4),
        ("NVIDIA H100 80GB HBM3", "32-true", True, 494.7),
        ("NVIDIA H100 80GB HBM3", "32-true", False, 67),
        ("NVIDIA H100 PCIe", "16-mixed", True, 756),
        ("NVIDIA A100-SXM4-80GB", "bf16-mixed", True, 312),
        ("NVIDIA L40S", "bf16-mixed", True, 362),
        ("Tesla V100-SXM2-16GB", "16-mixed", True, 125),
        ("NVIDIA GeForce RTX 3090", "bf16-mixed", True, 71),
        ("NVIDIA GeForce RTX 4090", "bf16-mixed", True, 165.2),
    ],
)
def test_known_devices_have_their_makers_peak(name: str, precision: str, tf32: bool, tera: float) -> None:
    assert throughput.peak_flops(name, precision, tf32=tf32) == tera * 1e12


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("CPU, 2 threads", "32-true"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16-mixed"),
        ("Tesla V100-SXM2-16GB", "bf16-mixed"),
    ],
)
def test_unknown_devices_have_none(name: str, precision: str) -> None:
    assert throughput.peak_flops(name, precision, tf32=True) is None


def test_the_rate_of_products_is_their_operations_over_the_shortest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "SIDES", {"cpu": 100})
    # A reading to begin with; two for each product, and one that tells whether there is time for another.
    clock = iter([0.0, 1.0, 1.5, 1.6, 2.0, 2.2, 9.0])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    rate = throughput.matmul_flops(torch.device("cpu"), "32-true", seconds=5)
    assert rate == pytest.approx(2 * 100**3 / 0.2)


def row(step: int, rate: float, wait: float = 0.0, batch: int = 10) -> dict[str, float]:
    return {"step": step, "samples": step * batch, "samples_per_s": rate, "data_wait": wait}


def test_a_logs_rate_is_its_samples_over_their_time_without_the_first_row() -> None:
    rows = [row(5, 1.0, 0.9), row(10, 100.0, 0.1), row(20, 50.0, 0.4)]
    # 50 samples in 0.5 s and 100 in 2 s
    assert throughput.measure(rows) == Measured(pytest.approx(150 / 2.5), pytest.approx((0.1 * 0.5 + 0.4 * 2) / 2.5))
    assert throughput.measure(rows[:1]) == Measured(pytest.approx(1.0), pytest.approx(0.9))
    assert throughput.measure(rows, skip=2).samples_per_s == pytest.approx(50)


def test_a_log_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="has no rows"):
        throughput.measure([])
    with pytest.raises(DataError, match="samples_per_s"):
        throughput.measure([{"step": 1.0}])


def test_utilisation_is_of_the_peak() -> None:
    assert throughput.utilisation(1000, 54.5e9, 989.4e12) == pytest.approx(0.0551, abs=1e-4)


def test_memory_counts_what_was_taken_once() -> None:
    before = throughput.peak_memory()
    block = torch.ones(16 * 2**20)  # 64 MiB
    after = throughput.peak_memory()
    assert after.host >= before.host > 0
    assert after.host >= block.nbytes


def test_devices_share_a_training_and_cost_as_much_together() -> None:
    alone = throughput.predict(36_000, samples_per_s=10, devices=1)
    assert (alone.seconds, alone.device_hours) == (3600, 1)
    assert throughput.predict(36_000, samples_per_s=10, devices=4) == Cost(900, 4)
    assert throughput.predict(36_000, samples_per_s=10, devices=4).device_hours == 1


def test_a_sweep_takes_as_long_as_its_fullest_slot() -> None:
    costs = [Cost(seconds, 1) for seconds in (5, 3, 3, 4, 1)]
    assert throughput.sweep_seconds(costs, 1) == 16
    assert throughput.sweep_seconds(costs, 2) == 9  # 5, 4 beside 3, 3, 1
    assert throughput.sweep_seconds(costs, 9) == 5
    assert throughput.sweep_seconds([], 2) == 0


def test_a_sweep_in_slots_agrees_with_a_simulation() -> None:
    costs = [Cost(float(seconds), 1) for seconds in itertools.chain(range(1, 12), range(20, 3, -3))]
    free = [0.0, 0.0, 0.0]
    for cost in costs:
        first = free.index(min(free))
        free[first] += cost.seconds
    assert throughput.sweep_seconds(costs, 3) == max(free)
