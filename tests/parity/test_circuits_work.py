"""What circuits cost, counted: the count of the reference's loop against the loop itself, and RN50's numbers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from domix.encoders.clip_resnet import ResNetSegments
from domix.encoders.segments import Segments
from domix.encoders.sites import site_modules
from tools import bench_circuits
from tools.bench_circuits import LAYERS, counted, ours_work, reference_work, tower
from tools.circuits_loop import literal_edges, literal_nodes


def test_the_loop_is_counted_as_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_circuits, "LAYERS", [1, 1, 1, 1])
    model, images = tower(4, 32), torch.randn(2, 3, 32, 32)
    sites, text = site_modules(model), F.normalize(torch.randn(2, 64), dim=-1)
    _, _, chosen = ours_work(ResNetSegments(model, model), images, text)
    forward, nodes, edges = reference_work(model, Segments(model, sites), images, chosen)
    for p in model.parameters():
        p.requires_grad_(False)  # as is counted: gradients of weights, which the loop would throw away, are not made
    clean = forward  # each of the two begins with a pass
    assert counted(lambda: literal_nodes(model, sites, images, text)) == nodes + clean
    assert counted(lambda: literal_edges(model, sites, images, chosen)) == edges + clean


@pytest.mark.slow
def test_the_work_is_a_small_part_of_the_references() -> None:
    assert LAYERS == [3, 4, 6, 3]
    found = bench_circuits.measure_work()
    assert found["channels"] == 1640
    # the numbers of docs/circuits.md
    assert found["reference_nodes"] + found["reference_edges"] == pytest.approx(17_700, rel=0.01)
    assert found["ours_nodes"] == pytest.approx(173, abs=1)
    assert found["ours_edges"] == pytest.approx(336, abs=1)
