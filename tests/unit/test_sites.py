"""Which places of an image tower count as its layers, and how an activation becomes one vector an image."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import nn

from domix.encoders.sites import (
    channels_last,
    find_sites,
    pool_positions,
    position_rows,
    require_site,
    site_modules,
)
from domix.runtime.errors import DataError


def resnet(layers: list[int]) -> ModifiedResNet:
    return ModifiedResNet(layers, output_dim=16, heads=2, image_size=32, width=4)


def vit() -> VisionTransformer:
    return VisionTransformer(image_size=32, patch_size=8, width=16, layers=3, heads=2, mlp_ratio=2.0, output_dim=8)


def order_of_computation(visual: nn.Module, size: int) -> list[str]:
    """The layers' names in the order in which a pass of the tower reaches them."""
    seen, handles = [], []
    for name, module in site_modules(visual).items():
        handles.append(module.register_forward_hook(lambda *_, name=name: seen.append(name)))
    with torch.inference_mode():
        visual.eval()(torch.zeros(1, 3, size, size))
    return seen


def test_modified_resnet_has_the_layers_of_the_reference_study() -> None:
    names = list(site_modules(resnet([3, 4, 6, 3])))
    assert len(names) == 21
    assert names[:5] == ["act1", "act2", "act3", "avgpool", "layer1.0"]
    assert names[-2:] == ["layer4.2", "attnpool"]


def test_vit_has_its_blocks_and_its_output() -> None:
    assert list(site_modules(vit())) == [f"transformer.resblocks.{i}" for i in range(3)] + ["output"]


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("vit_tiny_patch16_224", 12, "trunk.blocks.0"),
        ("swin_tiny_patch4_window7_224", 12, "trunk.layers.0.blocks.0"),
        ("convnext_atto", 12, "trunk.stages.0.blocks.0"),
        ("resnet18", 8, "trunk.layer1.0"),
        ("efficientnet_b0", 16, "trunk.blocks.0.0"),
    ],
)
def test_timm_towers_have_their_blocks_and_their_output(name: str, count: int, first: str) -> None:
    names = list(site_modules(TimmModel(name, embed_dim=8)))
    assert (len(names), names[0], names[-1]) == (count + 1, first, "output")


@pytest.mark.parametrize("tower", [resnet([1, 2, 1, 1]), vit(), TimmModel("resnet18", embed_dim=8)])
def test_layers_stand_in_order_of_depth_and_are_reached_once(tower: nn.Module) -> None:
    assert order_of_computation(tower, 32) == list(site_modules(tower))


def test_only_windowed_towers_keep_channels_last() -> None:
    assert channels_last(TimmModel("swin_tiny_patch4_window7_224", embed_dim=8))
    assert not channels_last(TimmModel("resnet18", embed_dim=8))
    assert not channels_last(resnet([1, 1, 1, 1]))
    assert not channels_last(vit())


def test_positions_are_averaged() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, tokens = torch.rand(2, 5, 3, 4, generator=generator), torch.rand(2, 7, 5, generator=generator)
    expected = torch.stack([torch.stack([maps[b, c].mean() for c in range(5)]) for b in range(2)])
    torch.testing.assert_close(pool_positions(maps), expected)
    torch.testing.assert_close(pool_positions(maps.permute(0, 2, 3, 1), nhwc=True), expected)
    torch.testing.assert_close(pool_positions(tokens), torch.stack([t.mean(dim=0) for t in tokens]))
    torch.testing.assert_close(pool_positions((tokens[:, 0], maps)), tokens[:, 0])


def test_positions_are_rows_of_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, tokens = torch.rand(2, 5, 3, 4, generator=generator), torch.rand(2, 7, 5, generator=generator)
    rows = position_rows(maps)
    assert rows.shape == (2, 12, 5)
    for y in range(3):
        for x in range(4):
            assert torch.equal(rows[:, 4 * y + x], maps[:, :, y, x])
    assert torch.equal(position_rows(maps.permute(0, 2, 3, 1), nhwc=True), rows)
    assert torch.equal(position_rows((tokens, maps)), tokens)
    assert torch.equal(position_rows(tokens[:, 0]), tokens[:, :1])


@pytest.mark.parametrize("read", [pool_positions, position_rows])
def test_other_shapes_are_refused(read: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(DataError, match=r"outputs of shape \(1, 1, 1, 1, 1\)"):
        read(torch.zeros(1, 1, 1, 1, 1))


def test_sites_have_depth_width_and_kind() -> None:
    visual = vit().eval()
    sites = find_sites(visual, visual, (32, 32))
    assert [(site.name, site.depth, site.width, site.kind) for site in sites] == [
        ("transformer.resblocks.0", 0, 16, "tokens"),
        ("transformer.resblocks.1", 1, 16, "tokens"),
        ("transformer.resblocks.2", 2, 16, "tokens"),
        ("output", 3, 8, "vector"),
    ]
    assert not any(module._forward_hooks for module in visual.modules())
    tower = resnet([1, 1, 1, 1]).eval()
    known = {site.name: (site.width, site.kind) for site in find_sites(tower, tower, (32, 32))}
    assert known["layer2.0"] == (32, "map") and known["attnpool"] == (16, "vector")


def test_a_site_that_is_not_there_is_answered_with_the_nearest_name() -> None:
    require_site("layer1.0", ["layer1.0"])
    with pytest.raises(DataError, match=r"^the model has no site 'layer1.00': did you mean layer1\.0"):
        require_site("layer1.00", site_modules(resnet([1, 1, 1, 1])))
    with pytest.raises(DataError, match=r"no site 'zzzz': it has transformer\.resblocks\.0, .*output$"):
        require_site("zzzz", site_modules(vit()))
