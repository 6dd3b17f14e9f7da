"""What circuits cost on RN50 at 224 pixels, counted on tensors without contents, beside the reference study's loop."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from domix.analyses.circuits.attribution import cosine_with, image_effects, image_weights, select
from domix.encoders.segments import INPUT, Segments
from domix.encoders.sites import site_modules

STEPS = 10


class Counter(TorchDispatchMode):
    """FlopCounterMode without its hooks on modules, which do not bear gradients of images."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def counted(function: Callable[[], object]) -> float:
    with Counter() as counter:
        function()
    return float(counter.total)


def backward_of(segments: Segments, start: str, end: str | None) -> float:
    """FLOP of the backward pass between two sites for one image and one channel: that of autograd, as ours counts."""
    clean = segments.record(torch.empty(1, 3, 224, 224, device="meta"), [INPUT, *segments.modules])[1][start]
    value = clean.detach().clone().requires_grad_()
    result = segments.run(start, value, end)
    return counted(lambda: torch.autograd.grad(result.sum(), value))


@pytest.mark.slow
def test_the_work_is_a_small_part_of_the_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domix.analyses.circuits.attribution._require_finite", lambda *_: None)
    with torch.device("meta"):
        model: nn.Module = ModifiedResNet([3, 4, 6, 3], output_dim=1024, heads=32, image_size=224).eval()
    segments, names = Segments(model, site_modules(model)), list(site_modules(model))
    images, text = torch.empty(1, 3, 224, 224, device="meta"), torch.empty(1, 1024, device="meta")
    forward = counted(lambda: model(images))
    effects: dict[str, Tensor] = {}
    nodes = counted(
        lambda: effects.update(image_effects(segments, images, cosine_with(text), [INPUT, *names], steps=STEPS))
    )
    chosen = {name: select(effects[name][0])[None] for name in names}
    assert sum(channels.shape[1] for channels in list(chosen.values())[1:]) == 1640
    edges = counted(lambda: image_weights(segments, images, chosen, steps=STEPS))
    # the reference: the whole model forwards for every unit and step, and backwards as far as need be
    theirs = sum(STEPS * (forward + backward_of(segments, name, None)) for name in [INPUT, *names])
    pairs = pairwise(names)
    theirs += sum(chosen[v].shape[1] * STEPS * (forward + backward_of(segments, u, v)) for u, v in pairs)
    ours = (nodes + edges) / forward
    # the numbers of docs/circuits.md
    assert theirs / forward == pytest.approx(17_700, rel=0.01)
    assert ours == pytest.approx(1_120, rel=0.01)
