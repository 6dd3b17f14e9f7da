"""The measurement of circuits: what is told, and that scores are compared; no test asserts a speed."""

from __future__ import annotations

import pytest
import torch

from domix.runtime.errors import ParameterError
from tools import bench_circuits


def test_times_go_by_whole_passes_and_both_give_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_circuits, "LAYERS", [1, 1, 1, 1])
    took = bench_circuits.measure_time(4, 32, images=2, every=2, turns=1)
    # channels: stem 1, 1 (behind act1), avgpool 1, blocks 2, 4, 7, 13, embedding 7; sites with the images: 10
    assert took["passes"] == 10 * (10 + 1 + 1 + 1 + 2 + 4 + 7 + 13 + 7)
    work = {"ours_nodes": 1.0, "ours_edges": 2.0, "reference_nodes": 30.0, "reference_edges": 270.0}
    seconds = {"ours_nodes_s": 1.0, "ours_edges_s": 1.0, "loop_nodes_s": 10.0, "loop_edges_s": 80.0, "passes": 7}
    bench_circuits.tell({"images": 2, "work": work, "time": seconds})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("(target")[0].split()[-1] for line in lines if "times less" in line] == ["100.00", "45.00"]


def test_scores_that_differ_are_noticed() -> None:
    one = {"site": torch.tensor([1.0, -2.0])}
    bench_circuits._require_same(one, {"site": torch.tensor([1.001, -2.0])})
    with pytest.raises(AssertionError, match="site"):
        bench_circuits._require_same(one, {"site": torch.tensor([1.003, -2.0])})


@pytest.mark.parametrize("option", ["--images", "--every", "--turns"])
def test_numbers_that_are_not_positive_are_refused(option: str) -> None:
    with pytest.raises(ParameterError, match=f"{option} must be positive, not 0"):
        bench_circuits.parse([option, "0"])
