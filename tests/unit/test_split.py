"""Models cut before their last linear layer: features, and the head behind them, of every kind of tower."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from domix.encoders.split import SplitModel, last_linear, split_classifier, split_clip, split_last_linear, split_timm
from domix.model.classifier import build as build_classifier
from domix.model.clip import build
from domix.runtime.errors import DataError
from tests.public_models import VIT, tiny_clip
from tests.tiny import CONFIG

TEXT = CONFIG["text_cfg"]


def timm_tower(**vision: Any) -> dict[str, Any]:
    cfg = {"timm_model_name": "test_convnext", "image_size": 64, "timm_pool": "", "timm_proj": "linear"}
    return {"embed_dim": 16, "vision_cfg": cfg | vision, "text_cfg": TEXT}


TOWERS = {
    "vit": (VIT, 16, nn.Linear),
    "resnet": (CONFIG, 128, nn.Linear),
    "convnext": (timm_tower(), 64, nn.Linear),
    "convnext mlp": (timm_tower(timm_proj="mlp"), 64, nn.Module),
    "timm's own head": (timm_tower(timm_proj="", timm_pool="avg"), 64, nn.Linear),
    "attention pool": (
        timm_tower(timm_model_name="resnet10t", timm_pool="rot_attn", timm_proj=""),
        512,
        nn.Linear,
    ),
    "no projection": (timm_tower(timm_proj="none", timm_pool="avg"), 64, nn.Identity),
}


def pictures(size: int) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def assert_parts(split: SplitModel, whole: nn.Module, images: torch.Tensor, width: int) -> None:
    """Check that head(tower(x)) is the whole, in torch and for arrays, and that the whole still is what it was."""
    with torch.inference_mode():
        before = whole(images)
        features = split.tower.eval()(images)
        torch.testing.assert_close(split.head(features), before)
        torch.testing.assert_close(whole(images), before, rtol=0, atol=0)
    assert features.shape == (3, width)
    np.testing.assert_allclose(split.project(features.numpy()), before.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TOWERS)
def test_every_kind_of_clip_tower(name: str) -> None:
    config, width, head = TOWERS[name]
    model = tiny_clip(config)
    split = split_clip(model.visual)
    assert isinstance(split.head, head)
    assert_parts(split, model.visual, pictures(config["vision_cfg"]["image_size"]), width)


def test_the_head_of_a_vit_is_its_projection() -> None:
    visual = tiny_clip(VIT).visual
    matrix, bias = split_clip(visual).linear() or pytest.fail("there is one")
    assert matrix.shape == (16, 16) and bias is None
    np.testing.assert_array_equal(matrix, visual.proj.detach().numpy())


def test_the_head_of_a_resnet_has_a_bias() -> None:
    visual = tiny_clip(CONFIG).visual
    matrix, bias = split_clip(visual).linear() or pytest.fail("there is one")
    np.testing.assert_array_equal(matrix, visual.attnpool.c_proj.weight.detach().numpy().T)
    np.testing.assert_array_equal(bias, visual.attnpool.c_proj.bias.detach().numpy())


def test_a_head_that_is_no_matrix_says_so() -> None:
    config, _, _ = TOWERS["convnext mlp"]
    with pytest.raises(DataError, match=r"^the model's head is a small network, no matrix"):
        split_clip(build(config, seed=0).visual).linear()
    assert split_clip(build(TOWERS["no projection"][0], seed=0).visual).linear() is None


def test_hooks_of_one_part_do_not_run_with_the_whole() -> None:
    model, seen = tiny_clip(VIT), []
    split = split_clip(model.visual)
    split.tower.register_forward_hook(lambda *_: seen.append(1))
    model.visual(pictures(32))
    assert seen == []


def test_an_unknown_tower_is_refused() -> None:
    with pytest.raises(DataError, match="of the kind Linear cannot be cut"):
        split_clip(nn.Linear(2, 2))


@pytest.mark.parametrize(("name", "width"), [("test_vit", 64), ("test_resnet", 96), ("test_convnext", 64)])
def test_timms_models(name: str, width: int) -> None:
    model = timm.create_model(name, num_classes=7).eval()
    assert_parts(split_timm(model), model, pictures(160), width)
    headless = timm.create_model(name, num_classes=0).eval()
    assert_parts(split_timm(headless), headless, pictures(160), width)


@pytest.mark.parametrize("encoder", [{"clip": CONFIG, "image_size": 32}, {"timm": "test_vit", "image_size": 160}])
def test_domixs_classifiers(encoder: dict[str, Any]) -> None:
    model = build_classifier(encoder, outputs=5, seed=0).eval()
    images = pictures(encoder["image_size"])
    split = split_classifier(model)
    with torch.inference_mode():
        torch.testing.assert_close(split.tower(images), model.features(images))
    assert_parts(split, model, images, 16 if "clip" in encoder else 64)


@pytest.mark.parametrize(
    ("name", "path"),
    [("resnet18", "fc"), ("shufflenet_v2_x0_5", "fc"), ("mobilenet_v3_small", "classifier.3"), ("swin_t", "head")],
)
def test_torchvisions_models(name: str, path: str) -> None:
    model = torchvision.models.get_model(name, weights=None, num_classes=4).eval()
    assert last_linear(model) == path
    assert_parts(split_last_linear(model), model, pictures(64), model.get_submodule(path).in_features)


def test_a_model_without_a_linear_layer_has_no_head() -> None:
    with pytest.raises(DataError, match=r"^SqueezeNet has no linear layer at its end"):
        split_last_linear(torchvision.models.squeezenet1_1(weights=None))
