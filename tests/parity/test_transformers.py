"""CLIP models that transformers saved: the features that transformers gives, or a refusal where it cannot be so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from domix.data.loading.augment import CLIP_MEAN, CLIP_STD
from domix.encoders.public import PublicClip, load_public
from domix.runtime.errors import DataError
from tests.tiny import make_images

VISION: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 32,
    "patch_size": 8,
}
TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
}
SIZES: dict[str, Any] = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
TOKENS = torch.tensor([[49406, 320, 1125, 49407] + [49407] * 12, [49406, 2368, 49407] + [49407] * 13])


def saved(folder: Path, *, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None) -> CLIPModel:
    """Save a model of random weights, every one off its starting value, as transformers does, and return it."""
    config = CLIPConfig(vision_config=VISION | (vision or {}), text_config=TEXT | (text or {}), projection_dim=12)
    model = CLIPModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)
    CLIPImageProcessor(**SIZES).save_pretrained(folder)
    return model


def assert_equal_features(found: PublicClip, model: CLIPModel) -> None:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        image = model.get_image_features(pixel_values=images).pooler_output
        text = model.get_text_features(input_ids=TOKENS).pooler_output
        assert image.shape == (3, 12)
        torch.testing.assert_close(found.model.encode_image(images), image, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.model.encode_text(TOKENS), text, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.model.logit_scale, model.logit_scale)
    assert image.abs().max() > 0.1  # so that the tolerance means something
    assert text.abs().max() > 0.1


VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as OpenAI's": ({}, {}),
    "GELU": ({"hidden_act": "gelu"}, {"hidden_act": "gelu"}),
    "a width that the hidden layer is no multiple of": ({"intermediate_size": 53}, {"intermediate_size": 59}),
    "another epsilon": ({"layer_norm_eps": 0.1}, {"layer_norm_eps": 0.05}),
    "the end of text of early configurations": ({}, {"eos_token_id": 2}),
}


@pytest.mark.parametrize(("vision", "text"), VARIANTS.values(), ids=VARIANTS.keys())
def test_features_are_those_of_transformers(vision: dict[str, Any], text: dict[str, Any], tmp_path: Path) -> None:
    model = saved(tmp_path, vision=vision, text=text)
    assert_equal_features(load_public(str(tmp_path)), model)


def test_features_of_one_file_of_such_a_folder(tmp_path: Path) -> None:
    model = saved(tmp_path)
    positions = {"text_model.embeddings.position_ids": torch.arange(16)[None]}  # early versions saved them
    torch.save(model.state_dict() | positions, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert_equal_features(load_public(str(tmp_path / "pytorch_model.bin")), model)


def test_the_towers_own_settings_go_before_in_early_configurations(tmp_path: Path) -> None:
    """OpenAI's folder for ViT-L/14 says everything twice; transformers takes `text_config_dict`."""
    model = saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"vision_config_dict": VISION, "text_config_dict": TEXT, "text_config": {"hidden_size": 999}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_equal_features(load_public(str(tmp_path)), model)


def test_a_silent_configuration_means_transformers_defaults() -> None:
    from domix.encoders.hf import open_clip_config

    everything = open_clip_config(CLIPConfig().to_dict(), which="it")
    assert open_clip_config({"model_type": "clip"}, which="it") == everything


def test_images_are_prepared_as_by_transformers(tmp_path: Path) -> None:
    """The two resize alike, up to a grey level in rounding: images have no greys that bicubic sums would exceed."""
    saved(tmp_path)
    processor = CLIPImageProcessor(**SIZES, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4])
    processor.save_pretrained(tmp_path)
    found = load_public(str(tmp_path)).preprocess
    images = torch.stack([64 + make_images(4)[row] // 2 for row in range(4)])
    cut = [found.cut(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images]
    mine = found.normalise(torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2))
    theirs = processor([image.permute(1, 2, 0).numpy() for image in images], return_tensors="pt")["pixel_values"]
    deviation = torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    greys = ((mine - theirs) * deviation * 255).abs()
    assert greys.max() < 1.01
    assert greys.mean() < 0.3


def test_a_processor_of_transformers_five_is_read_too(tmp_path: Path) -> None:
    saved(tmp_path)
    described = {"image_processor": json.loads((tmp_path / "preprocessor_config.json").read_text())}
    described["image_processor"]["image_mean"] = [0.5, 0.4, 0.3]
    (tmp_path / "processor_config.json").write_text(json.dumps(described))
    (tmp_path / "preprocessor_config.json").unlink()
    assert "image_processor" in CLIPProcessor.get_attributes()
    assert load_public(str(tmp_path)).preprocess.mean == (0.5, 0.4, 0.3)


@pytest.mark.parametrize("resample", [2, 3])
def test_squashed_images_are_those_of_transformers(resample: int, tmp_path: Path) -> None:
    saved(tmp_path)
    described = {"size": {"height": 32, "width": 32}, "do_center_crop": False, "resample": resample}
    change("preprocessor_config.json", **described)(tmp_path)
    found = load_public(str(tmp_path)).preprocess
    assert (found.resize_mode, found.interpolation) == ("squash", {2: "bilinear", 3: "bicubic"}[resample])


def test_without_a_description_images_are_prepared_as_for_clip(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    found = load_public(str(tmp_path)).preprocess
    assert (found.mean, found.std) == (CLIP_MEAN, CLIP_STD)


def change(file: str, **changes: Any) -> Any:
    """Return what writes `changes` into a JSON file of a folder."""

    def apply(folder: Path) -> None:
        described = json.loads((folder / file).read_text())
        for key, value in changes.items():
            section, _, name = key.rpartition("__")
            (described[section] if section else described)[name] = value
        (folder / file).write_text(json.dumps(described))

    return apply


FAULTS = {
    "another model": (change("config.json", model_type="siglip"), "type 'siglip', and only clip is known"),
    "another activation": (change("config.json", vision_config__hidden_act="relu"), "hidden_act 'relu', but only"),
    "two activations": (change("config.json", text_config__hidden_act="gelu"), "text_config.hidden_act 'gelu'"),
    "another end of text": (change("config.json", text_config__eos_token_id=5), "eos_token_id 5, but only 49407 or 2"),
    "grey images": (change("config.json", vision_config__num_channels=1), "num_channels 1, but only 3"),
    "a smaller vocabulary": (change("config.json", text_config__vocab_size=999), "vocab_size is 999, fewer than"),
    "other shapes": (change("config.json", vision_config__hidden_size=48), "are another model's: .* 24.* there and 48"),
    "nearest": (change("preprocessor_config.json", resample=0), "with resample 0, but only 2 or 3 is done here"),
    "another square": (
        change("preprocessor_config.json", size={"height": 40, "width": 40}),
        "with size .* is done here",
    ),
    "a margin": (change("preprocessor_config.json", size={"shortest_edge": 40}), "with size .* is done here"),
    "uncut": (change("preprocessor_config.json", do_center_crop=False), "do_center_crop False, but only True"),
    "in -1..1": (change("preprocessor_config.json", rescale_factor=1 / 127.5), "rescale_factor"),
    "no deviation": (change("preprocessor_config.json", image_std=[0, 0, 0]), "deviation is .*, not three numbers"),
    "in pieces": (
        lambda folder: (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors"),
        "holds no weights: it needs one of model.safetensors, pytorch_model.bin, in one piece",
    ),
}


@pytest.mark.parametrize(("break_it", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_what_cannot_be_as_in_transformers_is_refused(break_it: Any, message: str, tmp_path: Path) -> None:
    saved(tmp_path)
    break_it(tmp_path)
    with pytest.raises((DataError, ValueError), match=message) as caught:
        load_public(str(tmp_path))
    assert "\n" not in str(caught.value)
