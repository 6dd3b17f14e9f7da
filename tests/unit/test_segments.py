"""Segments: a part of a model run alone gives what the whole gives, and computes nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from open_clip.timm_model import TimmModel
from torch import nn

from domix.encoders.clip_resnet import ResNetSegments
from domix.encoders.encoder import ImageEncoder, clip_encoder
from domix.encoders.preprocess import square
from domix.encoders.segments import INPUT, Segments
from domix.encoders.sites import site_modules
from domix.model.clip import build
from domix.runtime.errors import DataError
from tests.tiny import CONFIG

VIT: dict[str, Any] = CONFIG | {
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 16, "head_width": 8, "patch_size": 16}
}


def encoder_of(kind: str) -> ImageEncoder:
    if kind in ("resnet", "vit"):
        return clip_encoder(build(CONFIG if kind == "resnet" else VIT, seed=0), square(32))
    torch.manual_seed(0)
    timm = TimmModel(kind, embed_dim=8)
    return ImageEncoder(timm, timm, square(32), output="features")


def modules_of(encoder: ImageEncoder) -> Segments:
    """Cut a model as one is cut of which nothing is known."""
    return Segments(encoder._module, site_modules(encoder._tower))


def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["resnet", "modules", "vit", "resnet18"])
def test_a_segment_gives_what_the_whole_model_gives(kind: str) -> None:
    encoder, pixels = encoder_of("resnet" if kind == "modules" else kind), images()
    segments, names = encoder.segments(), [site.name for site in encoder.sites]
    assert isinstance(segments, ResNetSegments) == (kind in ("resnet", "modules"))
    segments = modules_of(encoder) if kind == "modules" else segments
    with torch.no_grad():
        output, clean = segments.record(pixels, [INPUT, *names])
    torch.testing.assert_close(output, encoder.forward(pixels).output)
    for start, end in zip(names, [*names[1:], None], strict=True):
        halves = torch.cat([clean[start], clean[start] / 2])
        with torch.no_grad():
            found = segments.run(start, halves, end)
        for part, share in zip(found.chunk(2), (1, 0.5), strict=True):
            edits = {start: lambda x, share=share: x * share}
            whole = encoder.forward(pixels, names, edits=edits)
            torch.testing.assert_close(part, whole.output if end is None else whole.sites[end], rtol=1e-4, atol=1e-5)


def test_nothing_before_or_behind_a_segment_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of("resnet")
    segments, computed = modules_of(encoder), list[str]()
    names = {module: name for name, module in segments.model.named_modules()}
    own = nn.Conv2d.forward
    with torch.no_grad():
        _, clean = segments.record(images(), ["layer2.0", "layer3.0"])
        monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: computed.append(names[self]) or own(self, x))
        segments.run("layer2.0", clean["layer2.0"], "layer3.0")
    assert computed and all(".layer3.0." in name for name in computed)


def test_the_model_is_left_as_it_was() -> None:
    encoder = encoder_of("resnet")
    segments = modules_of(encoder)
    before = encoder.forward(images()).output
    with torch.no_grad():
        _, clean = segments.record(images(), ["act1"])
        segments.run("act1", torch.zeros_like(clean["act1"]), "layer1.0")
        with pytest.raises(RuntimeError):
            segments.run("act1", torch.zeros(2, 7, 16, 16))
    assert torch.equal(encoder.forward(images()).output, before)
    for module in segments.model.modules():
        assert "forward" not in module.__dict__ and not module._forward_hooks


def test_a_site_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"the model has no site 'layer1\.00': did you mean layer1\.0"):
        Segments(encoder_of("resnet")._module, {"layer1.0": nn.ReLU()}).record(images(), ["layer1.00"])


def test_activations_are_seen_channel_by_channel() -> None:
    maps, tokens, vector = torch.randn(2, 5, 3, 4), torch.randn(2, 7, 5), torch.randn(2, 5)
    segments, turned = Segments(nn.Identity(), {}), Segments(nn.Identity(), {}, nhwc=True)
    assert torch.equal(segments.by_channel(maps)[1, 4 * 1 + 2], maps[1, :, 1, 2])
    assert torch.equal(turned.by_channel(maps.permute(0, 2, 3, 1)), segments.by_channel(maps))
    assert torch.equal(segments.by_channel(tokens), tokens) and torch.equal(segments.by_channel(vector)[:, 0], vector)
