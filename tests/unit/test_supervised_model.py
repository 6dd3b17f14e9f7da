"""Classifiers: towers, heads, names, and their weights on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from domix.encoders.sites import site_modules
from domix.model import classifier as supervised
from domix.model import clip
from domix.model.checkpoint import save_weights
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from tests.tiny import CONFIG
from tests.tiny_supervised import NORMLESS, RESNET, TIMM

ENCODERS = [RESNET, NORMLESS, TIMM]
NAMES = ["resnet", "vit", "timm"]


def images(encoder: dict[str, Any], count: int = 3) -> torch.Tensor:
    size = encoder["image_size"]
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_the_tower_is_clips() -> None:
    mine, theirs = supervised.build(RESNET, outputs=5, seed=3), clip.build(CONFIG, seed=3)
    weights, expected = mine.visual.state_dict(), theirs.visual.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)


@pytest.mark.parametrize("encoder", ENCODERS, ids=NAMES)
def test_weights_depend_on_the_seed_alone(encoder: dict[str, Any]) -> None:
    """Seed 0 is a seed like any other, whatever torch's own random state is."""
    made = []
    for state, seed in ((1, 0), (2, 0), (2, 1)):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        made.append(supervised.build(encoder, outputs=5, seed=seed).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    first, again, other = made
    assert all(torch.equal(first[name], again[name]) for name in first)
    head = next(name for name in first if "head" in name and name.endswith("weight"))
    assert not torch.equal(first[head], other[head])


def test_clips_logits_are_a_linear_layer_over_relu() -> None:
    model: Any = supervised.build(RESNET, outputs=5, seed=0).eval()
    given = images(RESNET)
    embedding, features = model.visual(given), model.features(given)
    assert embedding.min() < 0
    assert torch.equal(features, embedding.clamp(min=0))
    assert features.shape == (3, CONFIG["embed_dim"])
    expected = features @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(given), expected)


def test_timms_logits_are_its_own() -> None:
    """They are not rectified, as the reference's were."""
    model: Any = supervised.build(TIMM, outputs=5, seed=0).eval()
    with torch.no_grad():
        model.visual.head.weight.normal_(generator=torch.Generator().manual_seed(0))  # timm's is zero
    given = images(TIMM)
    logits = model(given)
    assert logits.shape == (3, 5)
    assert logits.min() < 0
    torch.testing.assert_close(model.visual.head(model.features(given)), logits)


@pytest.mark.parametrize("encoder", ENCODERS, ids=NAMES)
def test_a_model_comes_back_from_its_folder(tmp_path: Path, encoder: dict[str, Any]) -> None:
    model = supervised.build(encoder, outputs=5, seed=4)
    save_weights(model, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", {"encoder": encoder, "classes": [*"abcd", None]})
    loaded, config = supervised.load_classifier(tmp_path)
    assert not loaded.training
    assert config["classes"] == [*"abcd", None]
    given = images(encoder)
    assert torch.equal(loaded(given), model.eval()(given))


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    save_weights(supervised.build(RESNET, outputs=5, seed=4), tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", {"model": CONFIG})
    with pytest.raises(DataError, match="holds a model that is no classifier"):
        supervised.load_classifier(tmp_path)
    write_json(tmp_path / "config.json", {"encoder": RESNET, "classes": [*"abcdef"]})
    with pytest.raises(DataError, match=r"head\.weight is 5x16 there and 6x16 in the configuration"):
        supervised.load_classifier(tmp_path)


@pytest.mark.parametrize("encoder", ENCODERS, ids=NAMES)
def test_layers_are_found_as_in_clip(encoder: dict[str, Any]) -> None:
    assert site_modules(supervised.build(encoder, outputs=5, seed=0).visual)


def test_encoders_are_named() -> None:
    assert supervised.load_encoder("clip", "mini") == {"clip": clip.load_config("mini"), "image_size": 32}
    assert supervised.load_encoder("test_vit", "mini") == TIMM


@pytest.mark.parametrize(
    ("name", "model", "says"),
    [
        ("resnet51", "mini", r"^there is no encoder 'resnet51'; did you mean .*resnet50"),
        ("Clip", "mini", r"there is no encoder 'Clip'; did you mean clip"),
        ("rn50_clip", "mini", r"did you mean rn50-clip"),
        ("hf-hub:timm/resnet18", "mini", r"there is no encoder 'hf-hub:timm/resnet18'"),
        ("+", "mini", r"known are clip, rn50-clip, vit-b-32-clip, vit-b-32-timm and timm's models"),
        ("vit_base_patch16_sapiens2", "mini", r"reads images \(3, 1024, 768\), not square ones"),
        ("clip", "RN51", r"^there is no model 'RN51'; did you mean RN50"),
    ],
)
def test_unknown_encoders_are_refused(name: str, model: str, says: str) -> None:
    with pytest.raises(ParameterError, match=says) as caught:
        supervised.load_encoder(name, model)
    assert caught.value.argument == ("model_name" if name == "clip" else "name")


def test_what_timm_cannot_build_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def refuse(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ParameterError, match=r"^timm cannot build test_vit: no such thing$") as caught:
        supervised.build(TIMM, outputs=5, seed=0)
    assert caught.value.argument == "encoder"
