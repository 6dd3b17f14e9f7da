"""The measurement of mechanisms runs at any size, and compares like with like; no test asserts a speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tools import bench_mechanisms
from tools.bench_mechanisms import Size

TINY = Size("tiny", 6, 12, 8, 3, 1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_mechanisms, "SIZES", (TINY,))
    monkeypatch.setattr(bench_mechanisms, "TURNS", 1)


def test_trainings_are_compared_on_the_same_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_mechanisms.bench_autoencoder(tmp_path)
    bench_mechanisms.bench_feed(tmp_path)
    told = capsys.readouterr().out
    assert "tiny: Domix over the other" in told and "tiny: store over memory" in told


def test_the_plain_loop_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again on one batch, it is reconstructed better, by directions of length one."""
    monkeypatch.setattr(bench_mechanisms, "LR", 1e-2)
    torch.manual_seed(0)
    seen: list[float] = []
    inner = torch.optim.Adam.step
    batch = torch.from_numpy(bench_mechanisms.made_batches(TINY)[0])

    def step(self: torch.optim.Adam) -> None:
        bias, encoder_bias, encoder, decoder = self.param_groups[0]["params"]
        torch.testing.assert_close(decoder.detach().norm(dim=0), torch.ones(12))
        torch.testing.assert_close((decoder.grad * decoder.detach()).sum(dim=0), torch.zeros(12), atol=1e-6, rtol=0)
        codes = torch.relu((batch - bias) @ encoder.T + encoder_bias)
        seen.append(float((codes @ decoder.T + bias - batch).detach().square().mean()))
        inner(self)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    bench_mechanisms.plain(TINY)([batch.numpy()] * 100)
    assert seen[-1] < 0.5 * seen[0]


def test_stores_and_sharing_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_mechanisms.bench_store(tmp_path, sizes=(50, 100), channels=4)
    assert not list(tmp_path.iterdir())
    bench_mechanisms.bench_sharing(tmp_path, classes=3, domains=2, images=2)
    told = capsys.readouterr().out
    assert "100 rows" in told and "from the units' values" in told


def test_a_store_holds_the_blocks_that_were_written(tmp_path: Path) -> None:
    store = bench_mechanisms.write_store(tmp_path, 30, 4, batch=8)
    rows = np.concatenate(list(store.rows("site")))
    assert len(rows) == 30 and np.array_equal(rows[:6], rows[24:]) and not np.array_equal(rows[:6], rows[6:12])
