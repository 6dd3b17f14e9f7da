"""Models: found by name, built from a seed without a network, saved and loaded whole."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from domix.model import checkpoint, clip
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from tests.tiny import CONFIG


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("a network was asked for")

    monkeypatch.setattr("socket.socket.connect", refuse)


def test_models_are_found_among_ours_open_clips_and_files(tmp_path: Path) -> None:
    assert clip.load_config("mini")["vision_cfg"]["image_size"] == 32
    assert clip.load_config("RN50")["vision_cfg"]["layers"] == [3, 4, 6, 3]
    path = tmp_path / "own.json"
    path.write_text(json.dumps(CONFIG))
    assert clip.load_config(str(path)) == CONFIG


@pytest.mark.parametrize(("name", "meant"), [("RN5O", "RN50"), ("vit-b-32", "ViT-B-32"), ("minni", "mini")])
def test_an_unknown_model_is_refused_with_the_nearest_names(name: str, meant: str) -> None:
    with pytest.raises(ParameterError, match=rf"^there is no model '{name}'; did you mean .*{meant}") as caught:
        clip.load_config(name)
    assert caught.value.argument == "name"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "is missing: correct it"),
        ("{", "not valid JSON"),
        ("[]", "it lacks embed_dim"),
        ("{}", "embed_dim, vision_cfg"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "model.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ParameterError, match=says):
        clip.load_config(str(path))


VISION = {
    "ModifiedResNet": CONFIG["vision_cfg"],
    "VisionTransformer": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "TimmModel": {"image_size": 32, "timm_model_name": "resnet10t", "timm_model_pretrained": True, "timm_pool": "avg"},
}


@pytest.mark.parametrize("tower", VISION)
def test_every_kind_of_image_tower_is_built_without_a_network(tower: str) -> None:
    config = CONFIG | {"vision_cfg": VISION[tower]}
    given = copy.deepcopy(config)
    model = clip.build(config, seed=0)
    assert type(model.visual).__name__ == tower
    assert model.encode_image(torch.zeros(2, 3, 32, 32)).shape == (2, 16)
    assert config == given


def test_weights_depend_on_the_seed_alone_and_leave_the_random_state_as_it_was() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (clip.build(CONFIG, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["token_embedding.weight"], other["token_embedding.weight"])


@pytest.mark.parametrize("key", ["hf_model_name", "hf_tokenizer_name"])
def test_towers_that_need_a_network_are_refused(key: str) -> None:
    config = CONFIG | {"text_cfg": CONFIG["text_cfg"] | {key: "roberta-base"}}
    with pytest.raises(ParameterError, match="needs 'roberta-base' from a network"):
        clip.build(config, seed=0)
    with pytest.raises(ParameterError, match="needs 'roberta-base' from a network"):
        clip.tokenizer(config)


def test_a_configuration_that_open_clip_refuses_gives_one_sentence() -> None:
    config = CONFIG | {"vision_cfg": CONFIG["vision_cfg"] | {"wdith": 3}}
    with pytest.raises(ParameterError, match=r"open_clip cannot build this model: .*wdith"):
        clip.build(config, seed=0)


def test_the_tokenizer_respects_the_context_length() -> None:
    tokens = clip.tokenizer(CONFIG)(["a cat", "a very " + "long " * 30 + "caption"])
    assert tokens.shape == (2, 16)
    assert tokens[1, -1] == 49407


def test_a_vocabulary_too_small_for_the_tokenizer_is_refused() -> None:
    config = CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"vocab_size": 1000}}
    with pytest.raises(ParameterError, match=r"vocab_size is 1000, fewer than the tokenizer's 49408"):
        clip.tokenizer(config)


def test_images_are_square() -> None:
    assert clip.image_size({"vision_cfg": {"image_size": [64, 64]}}) == 64
    with pytest.raises(ParameterError, match="must be square"):
        clip.image_size({"vision_cfg": {"image_size": [64, 32]}})


def test_a_model_folder_gives_back_the_model_that_was_saved(tmp_path: Path) -> None:
    model = clip.build(CONFIG, seed=3).to(memory_format=torch.channels_last)
    checkpoint.save_weights(model, tmp_path / checkpoint.WEIGHTS)
    write_json(tmp_path / checkpoint.CONFIG, {"model": CONFIG, "seed": 3})
    loaded, config = checkpoint.load_model(tmp_path)
    assert config["seed"] == 3
    assert not loaded.training
    wanted = model.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text"])
def test_damaged_weights_are_refused_with_the_file(tmp_path: Path, damage: str) -> None:
    model, path = clip.build(CONFIG, seed=0), tmp_path / "model.safetensors"
    checkpoint.save_weights(model, path)
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": data[: len(data) // 2], "text": b"not found" * 99}[damage])
    with pytest.raises(DataError, match=r"model\.safetensors are (missing$|damaged \(.*\)$)") as caught:
        checkpoint.load_weights(model, path)
    assert caught.value.remake == path


def test_weights_of_another_configuration_are_refused_by_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save_weights(clip.build(CONFIG, seed=0), path)
    wider = clip.build(CONFIG | {"embed_dim": 32}, seed=0)
    with pytest.raises(
        DataError, match="another model's: text_projection is 8x16 there and 8x32 in the configuration"
    ) as caught:
        checkpoint.load_weights(wider, path)
    assert caught.value.remake == path
    deeper = CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"layers": 2}}
    with pytest.raises(DataError, match=r"resblocks\.1\.\S+ is absent there"):
        checkpoint.load_weights(clip.build(deeper, seed=0), path)
