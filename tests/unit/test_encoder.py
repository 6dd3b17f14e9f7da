"""An encoder: one function from images to outputs, its sites read, replaced and differentiated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from open_clip.timm_model import TimmModel

from domix.encoders.encoder import ImageEncoder, classifier_encoder, clip_encoder
from domix.encoders.preprocess import square
from domix.model import classifier as supervised
from domix.model.clip import build
from domix.runtime.errors import DataError
from tests.tiny import CONFIG
from tests.tiny_supervised import RESNET

VIT: dict[str, Any] = CONFIG | {
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
}


def make_images(count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)


def encoders() -> dict[str, ImageEncoder]:
    timm = TimmModel("resnet18", embed_dim=8)
    return {
        "clip": clip_encoder(build(CONFIG, seed=0), square(32)),
        "vit": clip_encoder(build(VIT, seed=0), square(32)),
        "classifier": classifier_encoder(supervised.build(RESNET, outputs=9, seed=0), square(32)),
        "timm": ImageEncoder(timm, timm, square(32), output="features"),
    }


@pytest.mark.parametrize("kind", ["clip", "vit", "classifier", "timm"])
def test_every_model_is_one_function_with_named_sites(kind: str) -> None:
    encoder = encoders()[kind]
    names = [site.name for site in encoder.sites]
    assert len(names) > 2 and [site.depth for site in encoder.sites] == list(range(len(names)))
    found = encoder.forward(make_images(), names)
    assert list(found.sites) == names and found.output.dtype == torch.float32
    pooled = encoder.forward(make_images(), names, pooled=True)
    assert torch.equal(pooled.output, found.output)
    flat = encoder.forward(make_images(), names, flat=True)
    for site in encoder.sites:
        assert pooled.sites[site.name].shape == (5, site.width)
        assert flat.sites[site.name].numel() == found.sites[site.name].numel()
        torch.testing.assert_close(flat.sites[site.name].mean(dim=1), pooled.sites[site.name])
    assert torch.equal(encoder.forward(make_images()).output, found.output)  # reading changes nothing


def test_the_output_is_the_models_own() -> None:
    model = build(CONFIG, seed=0).eval()
    encoder = clip_encoder(model, square(32))
    with torch.inference_mode():
        expected = model.encode_image(encoder.preprocess.normalise(make_images()))
    assert torch.equal(encoder.forward(make_images()).output, expected)


@pytest.mark.parametrize("kind", ["clip", "vit", "classifier"])
def test_an_edit_takes_the_place_of_an_activation(kind: str) -> None:
    encoder = encoders()[kind]
    site = encoder.sites[1].name
    plain = encoder.forward(make_images(), [site])
    same = encoder.forward(make_images(), [site], edits={site: lambda x: x.clone()})
    assert torch.equal(same.output, plain.output)
    none = encoder.forward(make_images(), [site], edits={site: torch.zeros_like})
    assert not none.sites[site].any()  # what is read is what the model goes on with
    assert not torch.allclose(none.output, plain.output)
    assert torch.equal(encoder.forward(make_images()).output, plain.output)  # nothing of an edit stays


def test_an_edit_keeps_the_shape_and_sites_exist() -> None:
    encoder = encoders()["clip"]
    with pytest.raises(DataError, match=r"the edit of site attnpool gives \(5, 3\) in place of \(5, 16\)"):
        encoder.forward(make_images(), edits={"attnpool": lambda x: x[:, :3]})
    with pytest.raises(DataError, match=r"no site 'layer1': did you mean layer1\.0"):
        encoder.forward(make_images(), ["layer1"])
    with pytest.raises(DataError, match=r"no site 'attenpool': did you mean attnpool"):
        encoder.forward(make_images(), edits={"attenpool": torch.zeros_like})


def test_gradients_reach_images_and_sites() -> None:
    encoder = encoders()["clip"]
    images = encoder.preprocess.normalise(make_images(2)).requires_grad_()
    found = encoder.forward(images, ["layer2.0"], grad=True)
    gradient, at_site = torch.autograd.grad(found.output.sum(), [images, found.sites["layer2.0"]])
    assert gradient.shape == images.shape and gradient.abs().sum() > 0 and at_site.abs().sum() > 0
    step = 1e-3 * gradient / gradient.norm()  # the slope is that of small steps
    ahead, behind = (encoder.forward((images + sign * step).detach()).output.sum() for sign in (1, -1))
    torch.testing.assert_close(ahead - behind, 2e-3 * gradient.norm(), rtol=2e-2, atol=1e-5)
    assert not encoder.forward(images).output.requires_grad
