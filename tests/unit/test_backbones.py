"""Any image model by one call, with weights that lie on this disk, and its output by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from domix.embed.prompts import render_prompts
from domix.embed.text_tower import class_prototypes
from domix.encoders.backbones import open_backbone
from domix.encoders.crops import plp_backbone, plp_baseline
from domix.encoders.hub import Caches
from domix.model.checkpoint import save_weights
from domix.model.classifier import build as build_classifier
from domix.model.clip import tokenizer
from domix.ood.probes.pseudo_labels import pseudo_labels
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from tests.public_models import VIT, tiny_clip, weights_of, write_hub_cache, write_open_clip_folder
from tests.tiny import CONFIG


def saved(model: torch.nn.Module, path: Path) -> str:
    save_file(weights_of(model), path)
    return str(path)


def images(size: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_timms_classifier_gives_logits_and_features(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=7).eval()
    weights = saved(model, tmp_path / "w.safetensors")
    logits = open_backbone("timm/test_vit", weights, output="logits", classes=7)
    tower = open_backbone("timm/test_vit", weights, output="tower")
    inputs = images(160)
    with torch.inference_mode():
        wanted = model(logits.encoder.preprocess.normalise(inputs))
    torch.testing.assert_close(logits.encoder.forward(inputs).output, wanted)
    features = tower.encoder.forward(inputs).output
    assert features.shape == (2, 64)
    np.testing.assert_allclose(tower.split.project(features.numpy()), wanted.numpy(), atol=1e-5)
    assert tower.encoder.preprocess == logits.encoder.preprocess and "cut out of 168" in str(tower.encoder.preprocess)
    assert tower.clip is None and tower.file == Path(weights)
    assert [site.name for site in tower.encoder.sites][-1] == "output"


def test_weights_without_a_head_are_no_classifiers(tmp_path: Path) -> None:
    model = timm.create_model("test_resnet", num_classes=0).eval()
    described = timm.get_pretrained_cfg("test_resnet")
    assert described.classifier + ".weight" not in model.state_dict()
    with pytest.raises(DataError, match="another model's than timm's test_resnet"):
        open_backbone("timm/test_resnet", saved(model, tmp_path / "w.safetensors"), output="tower")


def test_timms_own_weights_are_found_in_the_cache(tmp_path: Path) -> None:
    model = timm.create_model("test_convnext").eval()
    place = timm.get_pretrained_cfg("test_convnext").hf_hub_id
    content = Path(saved(model, tmp_path / "w.safetensors")).read_bytes()
    write_hub_cache(tmp_path / "hub", place, {"model.safetensors": content})
    found = open_backbone("timm/test_convnext", output="logits", caches=Caches(hub=tmp_path / "hub"))
    with torch.inference_mode():
        wanted = model(found.encoder.preprocess.normalise(images(160)))
    torch.testing.assert_close(found.encoder.forward(images(160)).output, wanted)
    with pytest.raises(DataError, match=r"^the weights of timm's test_vit are not on this disk: run `python -c"):
        open_backbone("timm/test_vit", output="tower", caches=Caches(hub=tmp_path / "hub"))


def test_torchvisions_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=3).eval()
    weights = saved(model, tmp_path / "w.safetensors")
    found = open_backbone("torchvision/shufflenet_v2_x0_5", weights, output="logits")
    with torch.inference_mode():
        wanted = model(found.encoder.preprocess.normalise(images(64)))
    torch.testing.assert_close(found.encoder.forward(images(64)).output, wanted)
    tower = open_backbone("torchvision/shufflenet_v2_x0_5", weights, output="tower", classes=3)
    assert tower.encoder.forward(images(64)).output.shape == (2, 1024)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DataError, match="the weights IMAGENET1K_V1 of torchvision's shufflenet_v2_x0_5 are not on"):
        open_backbone("torchvision/shufflenet_v2_x0_5", output="tower")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    url = torchvision.models.get_model_weights("shufflenet_v2_x0_5").DEFAULT.url
    torch.save(model.state_dict(), tmp_path / "hub" / "checkpoints" / Path(url).name)
    for name in (None, "IMAGENET1K_V1"):
        again = open_backbone("torchvision/shufflenet_v2_x0_5", name, output="logits")
        torch.testing.assert_close(again.encoder.forward(images(64)).output, wanted)


@pytest.mark.parametrize("config", [VIT, CONFIG], ids=["vit", "resnet"])
def test_clips_features_lead_to_the_same_labels_as_its_joint_space(tmp_path: Path, config: dict) -> None:
    folder = write_open_clip_folder(tmp_path / "clip", tiny_clip(config), config)
    joint = open_backbone(str(folder), output="joint")
    tower = open_backbone(str(folder), output="tower")
    assert tower.clip is not None and tower.encoder.preprocess == tower.clip.preprocess
    prompts = render_prompts("plp", ["lion", "axe", "The Eiffel Tower"])
    text = class_prototypes(tower.clip.model, tokenizer(tower.clip.config), prompts)
    inputs = torch.cat([images(32), images(32).flip(0, 3), 255 - images(32)])
    features = tower.encoder.forward(inputs).output.numpy()
    embeddings = joint.encoder.forward(inputs).output.numpy()
    np.testing.assert_allclose(tower.split.project(features), embeddings, atol=1e-5)
    matrix, bias = tower.split.linear() or pytest.fail("there is one")
    one = pseudo_labels(embeddings, text, logit_scale=20)
    other = pseudo_labels(features, text, projection=matrix, bias=bias, logit_scale=20)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-5)


def test_domixs_classifier(tmp_path: Path) -> None:
    encoder = {"clip": CONFIG, "image_size": 32}
    model = build_classifier(encoder, outputs=4, seed=1).eval()
    save_weights(model, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", {"encoder": encoder, "classes": list("abcd"), "first_class": 0})
    found = open_backbone(str(tmp_path), output="tower")
    assert found.encoder.forward(images(32)).output.shape == (2, 16)
    logits = open_backbone(str(tmp_path), output="logits").encoder.forward(images(32)).output
    np.testing.assert_allclose(found.split.project(found.encoder.forward(images(32)).output.numpy()), logits, atol=1e-5)


def test_plps_images_on_request(tmp_path: Path) -> None:
    weights = saved(timm.create_model("test_vit"), tmp_path / "w.safetensors")
    opened = open_backbone("timm/test_vit", weights, output="tower", parity=True)
    assert opened.encoder.preprocess == plp_backbone()
    opened = open_backbone("timm/test_vit", weights, output="logits", parity=True)
    assert opened.encoder.preprocess == plp_baseline("test_vit")
    folder = str(write_open_clip_folder(tmp_path / "clip", tiny_clip()))
    clip = open_backbone(folder, output="tower", parity=True)
    assert clip.encoder.preprocess == open_backbone(folder, output="tower").encoder.preprocess


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    weights = saved(timm.create_model("test_vit", num_classes=7), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"^the head of timm/test_vit in .* has 7 outputs, not 1000: name weights"):
        open_backbone("timm/test_vit", weights, output="logits", classes=1000)
    with pytest.raises(ParameterError, match="has no text tower, so no joint space"):
        open_backbone("timm/test_vit", weights, output="joint")
    with pytest.raises(ParameterError, match=r"^timm has no model 'test_vot': did you mean test_vit"):
        open_backbone("timm/test_vot", weights, output="tower")
    with pytest.raises(ParameterError, match=r"^torchvision has no model 'resnet19': did you mean resnet18"):
        open_backbone("torchvision/resnet19", weights, output="tower")
    with pytest.raises(ParameterError, match=r"^there is no file nowhere, and torchvision's weights of resnet18 are"):
        open_backbone("torchvision/resnet18", "nowhere", output="tower")
    with pytest.raises(DataError, match="another model's than timm's test_resnet"):
        open_backbone("timm/test_resnet", weights, output="tower")
    with pytest.raises(DataError, match="another model's than torchvision's resnet18"):
        open_backbone("torchvision/resnet18", weights, output="tower")
    folder = str(write_open_clip_folder(tmp_path / "clip", tiny_clip()))
    with pytest.raises(ParameterError, match="which has no logits without class names"):
        open_backbone(folder, output="logits")
