"""Models of others: found and loaded from every kind of place, with the activation and images of their training."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save, save_file

from domix.data.loading.augment import CLIP_MEAN, CLIP_STD
from domix.encoders.hub import Caches, describe_tag, find_weights
from domix.encoders.public import load_public
from domix.model.checkpoint import save_weights
from domix.model.clip import build
from domix.runtime.errors import DataError, DomixError, ParameterError
from tests.public_models import (
    INCEPTION,
    REPOSITORY,
    VIT,
    features,
    tiny_clip,
    weights_of,
    write_hub_cache,
    write_open_clip_folder,
)
from tests.tiny import CONFIG

TAG = "laion2b_s34b_b79k"
WEIGHTS = save(weights_of(tiny_clip()))
NO_CACHE = Caches(hub=Path("nowhere"), open_clip=Path("nowhere"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every attempt to reach a network fail the test, also where it would be forgiven."""

    def connect(*_: object) -> None:
        attempts.append(1)
        raise OSError("no network in tests")

    attempts: list[int] = []
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    yield
    assert attempts == []


@pytest.fixture(autouse=True)
def small_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a tiny model where open_clip has ViT-B-32, so that its tags can be tried."""
    plain = {key: value for key, value in VIT.items() if key != "quick_gelu"}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", plain)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32-quickgelu", VIT)


def assert_same(found: open_clip.CLIP | Any, model: open_clip.CLIP | Any) -> None:
    for mine, theirs in zip(features(found), features(model), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def architecture(tmp_path: Path, config: dict[str, Any] = VIT) -> str:
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps(config))
    return str(path)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "x.bin"])
def test_a_bare_file_with_an_architecture(name: str, tmp_path: Path) -> None:
    model = tiny_clip()
    weights = {f"module.{key}": value for key, value in weights_of(model).items()}
    if name.endswith(".safetensors"):
        save_file(weights, tmp_path / name)
    else:
        torch.save({"epoch": 1, "name": "x", "state_dict": weights}, tmp_path / name)
    found = load_public(str(tmp_path / name), architecture(tmp_path))
    assert_same(found.model, model)
    assert not found.model.training
    assert (found.preprocess.mean, found.preprocess.std) == (CLIP_MEAN, CLIP_STD)
    assert found.file == tmp_path / name


def test_weights_in_half_precision_are_computed_with_in_single(tmp_path: Path) -> None:
    model = tiny_clip().half()
    save_file(weights_of(model), tmp_path / "x.safetensors")
    found = load_public(str(tmp_path / "x.safetensors"), architecture(tmp_path))
    assert_same(found.model, model.float())


def test_the_bias_of_a_sigmoid_loss_is_left_out_where_the_architecture_has_none(tmp_path: Path, caplog) -> None:
    torch.save(weights_of(tiny_clip()) | {"logit_bias": torch.tensor(-10.0)}, tmp_path / "x.pt")
    with caplog.at_level(logging.INFO):
        assert_same(load_public(str(tmp_path / "x.pt"), architecture(tmp_path)).model, tiny_clip())
    assert "x.pt was trained with a bias" in caplog.text
    with_bias = tiny_clip(VIT | {"init_logit_bias": -10})
    torch.save(weights_of(with_bias), tmp_path / "x.pt")
    found = load_public(str(tmp_path / "x.pt"), architecture(tmp_path, VIT | {"init_logit_bias": -10}))
    assert torch.equal(found.model.logit_bias, with_bias.logit_bias)


def test_a_lightning_checkpoint_of_a_compiled_model_beside_its_loss(tmp_path: Path) -> None:
    weights = {f"model._orig_mod.{name}": tensor for name, tensor in weights_of(tiny_clip()).items()}
    saved = {"state_dict": weights | {"loss.labels": torch.ones(2)}, "hyper_parameters": {"args": Namespace(lr=1.0)}}
    torch.save(saved, tmp_path / "last.ckpt")
    assert_same(load_public(str(tmp_path / "last.ckpt"), architecture(tmp_path)).model, tiny_clip())


def test_a_residual_network_keeps_its_statistics(tmp_path: Path) -> None:
    model = tiny_clip(CONFIG)
    torch.save(weights_of(model), tmp_path / "x.pt")
    assert_same(load_public(str(tmp_path / "x.pt"), architecture(tmp_path, CONFIG)).model, model)


def test_a_folder_of_open_clips(tmp_path: Path) -> None:
    model = tiny_clip()
    folder = write_open_clip_folder(tmp_path / "m", model, mean=INCEPTION, std=(0.2, 0.3, 0.4))
    for place in (folder, folder / "open_clip_model.safetensors"):
        found = load_public(str(place))
        assert_same(found.model, model)
        assert found.preprocess.mean == INCEPTION
        assert found.preprocess.std == (0.2, 0.3, 0.4)


def test_open_clip_reads_the_same_from_that_folder(tmp_path: Path) -> None:
    """Guards the tests' own folder: it is what open_clip takes for one."""
    folder = write_open_clip_folder(tmp_path / "m", tiny_clip(), mean=list(INCEPTION))
    theirs, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    assert_same(load_public(str(folder)).model, theirs.eval())
    assert tuple(transform.transforms[-1].mean) == INCEPTION


def test_open_clips_weights_go_before_transformers_in_a_folder_with_both(tmp_path: Path) -> None:
    model = tiny_clip()
    folder = write_open_clip_folder(tmp_path / "m", model)
    save_file({"vision_model.x": torch.zeros(1)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    assert_same(load_public(str(folder)).model, model)


def test_a_model_folder_of_domix_and_its_checkpoints(tmp_path: Path) -> None:
    last, first = tiny_clip(), build(VIT, seed=0).eval()
    (tmp_path / "checkpoints").mkdir()
    save_weights(last, tmp_path / "model.safetensors")
    save_weights(first, tmp_path / "checkpoints/epoch_000.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model": VIT}))
    assert_same(load_public(str(tmp_path)).model, last)
    assert_same(load_public(str(tmp_path / "checkpoints/epoch_000.safetensors")).model, first)


def test_a_repository_in_the_cache(tmp_path: Path) -> None:
    model = tiny_clip()
    folder = write_open_clip_folder(tmp_path / "m", model)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    snapshot = write_hub_cache(tmp_path / "hub", "someone/theirs", files)
    found = load_public("hf-hub:someone/theirs", caches=Caches(hub=tmp_path / "hub"))
    assert_same(found.model, model)
    assert found.file == snapshot / "open_clip_model.safetensors"


def tag_in_cache(tmp_path: Path, repository: str = REPOSITORY) -> Caches:
    weights = save(weights_of(tiny_clip()))
    write_hub_cache(tmp_path / "hub", repository, {"open_clip_model.safetensors": weights})
    return Caches(hub=tmp_path / "hub", open_clip=tmp_path / "clip")


def test_a_tag_in_the_cache(tmp_path: Path) -> None:
    found = load_public(TAG, "ViT-B-32", caches=tag_in_cache(tmp_path))
    assert found.config["quick_gelu"] is False
    assert_same(found.model, tiny_clip(VIT | {"quick_gelu": False}))


def test_a_tag_is_found_where_open_clip_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    caches = tag_in_cache(tmp_path)
    described = describe_tag("ViT-B-32", TAG)
    path = find_weights("ViT-B-32", TAG, described, caches)
    theirs = open_clip.download_pretrained(open_clip.get_pretrained_cfg("ViT-B-32", TAG), cache_dir=str(caches.hub))
    assert (str(path), described["mean"]) == (theirs, CLIP_MEAN)


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-32-quickgelu"])
def test_a_tag_gets_the_activation_of_its_training(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """OpenAI trained with QuickGELU, which open_clip's ViT-B-32 does not have."""
    caches = tag_in_cache(tmp_path, "timm/vit_base_patch32_clip_224.openai")
    with caplog.at_level(logging.INFO):
        found = load_public("openai", name, caches=caches)
    assert found.config["quick_gelu"] is True
    assert_same(found.model, tiny_clip(VIT))
    assert ("openai of ViT-B-32 was trained with quick_gelu True" in caplog.text) == (name == "ViT-B-32")


def test_every_tags_activation_is_known_to_open_clip() -> None:
    """No tag of a -quickgelu architecture says that it was trained without."""
    for name, tag in open_clip.list_pretrained():
        if name.endswith("-quickgelu"):
            assert open_clip.get_pretrained_cfg(name, tag)["quick_gelu"], (name, tag)


def test_a_file_that_open_clip_downloaded_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(weights_of(tiny_clip()), tmp_path / "x.pt")
    digest = hashlib.sha256((tmp_path / "x.pt").read_bytes()).hexdigest()
    name = f"vit_b_32-quickgelu-laion400m_e32-{digest[:8]}.pt"
    url = f"https://github.com/mlfoundations/open_clip/releases/download/v0.2/{name}"
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED["ViT-B-32-quickgelu"], "own", {"url": url, "quick_gelu": True})
    caches = Caches(hub=tmp_path / "hub", open_clip=tmp_path)
    with pytest.raises(DataError, match="the weights own of ViT-B-32-quickgelu are not on this disk"):
        load_public("own", "ViT-B-32-quickgelu", caches=caches)
    (tmp_path / "x.pt").rename(tmp_path / name)
    assert_same(load_public("own", "ViT-B-32-quickgelu", caches=caches).model, tiny_clip())
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(DataError, match=r"is not what https://.*: delete it and download it again"):
        load_public("own", "ViT-B-32-quickgelu", caches=caches)


def custom_text(tmp_path: Path) -> str:
    return architecture(tmp_path, VIT | {"custom_text": True})


def test_weights_from_before_the_text_tower_stood_alone(tmp_path: Path) -> None:
    save_file(weights_of(tiny_clip()), tmp_path / "x.safetensors")
    found = load_public(str(tmp_path / "x.safetensors"), custom_text(tmp_path))
    assert isinstance(found.model, open_clip.CustomTextCLIP)
    for mine, theirs in zip(features(found.model), features(tiny_clip()), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_openais_own_state_dict_needs_its_activation(tmp_path: Path) -> None:
    extras = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(16), "vocab_size": torch.tensor(1)}
    torch.save(weights_of(tiny_clip()) | extras, tmp_path / "x.pt")
    assert_same(load_public(str(tmp_path / "x.pt"), architecture(tmp_path)).model, tiny_clip())
    plain = architecture(tmp_path, VIT | {"quick_gelu": False})
    with pytest.raises(DataError, match="OpenAI's weights, trained with QuickGELU: name an architecture that ends in"):
        load_public(str(tmp_path / "x.pt"), plain)


def saved(tmp_path: Path, **changes: Any) -> str:
    """Write an open_clip folder whose configuration has been changed."""
    folder = write_open_clip_folder(tmp_path / "m", tiny_clip())
    described = {"model_cfg": VIT, "preprocess_cfg": {}} | changes
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    return str(folder)


def bare(tmp_path: Path, name: str = "x.safetensors") -> str:
    save_file(weights_of(tiny_clip()), tmp_path / name)
    return str(tmp_path / name)


def folder_with(tmp_path: Path, text: str, name: str = "config.json") -> str:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).write_text(text)
    return str(tmp_path / "m")


def without_weights(tmp_path: Path) -> str:
    folder = saved(tmp_path)
    (Path(folder) / "open_clip_model.safetensors").unlink()
    return folder


@pytest.mark.parametrize(("name", "tag"), [*open_clip.list_pretrained()[::7], ("coca_ViT-B-32", "laion2b_s13b_b90k")])
def test_a_tag_that_cannot_be_evaluated_is_refused_before_its_weights_are_asked_for(name: str, tag: str) -> None:
    with pytest.raises(DomixError) as caught:
        load_public(tag, name, caches=NO_CACHE)
    text = open_clip.get_model_config(name)["text_cfg"]
    other = "hf_tokenizer_name" in text or "hf_model_name" in text or name.startswith("coca")
    assert ("not on this disk" in str(caught.value)) != other
    assert ("from a network" in str(caught.value) or "CoCa" in str(caught.value)) == other


Place = Callable[[Path], tuple[str, str | None]]
WIDER = VIT | {"embed_dim": 20}
FAULTS: dict[str, tuple[Place, str]] = {
    "no such file": (lambda p: ("models/x.pt", "ViT-B-32"), r"there is no file or folder models/x\.pt"),
    "no such tag": (lambda p: ("laion2b_s34b", "ViT-B-32"), "no such weights of ViT-B-32; did you mean laion2b_"),
    "a tag like no other": (lambda p: ("zzz", "ViT-B-32"), "no such weights of ViT-B-32; it knows openai, "),
    "a tag of no architecture": (lambda p: (TAG, None), "a tag of open_clip's needs an architecture"),
    "a tag of Domix's architecture": (lambda p: (TAG, "mini"), "open_clip has no weights for mini"),
    "a tag of the other activation": (lambda p: (TAG, "ViT-B-32-quickgelu"), "name the architecture ViT-B-32$"),
    "a tag that is not here": (lambda p: (TAG, "ViT-B-32"), f"{TAG} of ViT-B-32 are not on this disk: run `python -c"),
    "a repository that is not here": (lambda p: ("hf-hub:a/b", None), "a/b is not on this disk: run `hf download a/b`"),
    "no repository": (lambda p: ("hf-hub:a/b/c", None), "write hf-hub:owner/name"),
    "no architecture of that name": (lambda p: (bare(p), "ViT-B-23"), "the architecture: .* did you mean ViT-B-32"),
    "a file and no architecture": (lambda p: (bare(p), None), "says what model it is: name its architecture, too"),
    "a folder and an architecture": (lambda p: (saved(p), "ViT-B-32"), "give no architecture with it"),
    "a folder that says nothing": (lambda p: (str(p), None), "describes no model"),
    "a folder without weights": (lambda p: (without_weights(p), None), "holds no weights: it needs one of open_clip_"),
    "no model in the description": (lambda p: (saved(p, model_cfg={}), None), "describes no model: its model_cfg"),
    "a list": (lambda p: (folder_with(p, "[1]"), None), "it is list, not an object"),
    "no JSON": (lambda p: (folder_with(p, "{"), None), "is not valid JSON"),
    "nothing known": (lambda p: (folder_with(p, "{}"), None), "neither Domix's, nor one of transformers"),
    "a classifier": (lambda p: (folder_with(p, '{"encoder": {}}'), None), "holds a classifier, which knows no prompts"),
    "an unknown part": (lambda p: (saved(p, model_cfg=VIT | {"zzz": 1}), None), "open_clip cannot build this model"),
    "a tokenizer from elsewhere": (
        lambda p: (saved(p, model_cfg=VIT | {"text_cfg": VIT["text_cfg"] | {"hf_tokenizer_name": "t5"}}), None),
        "the model .*: the text tower needs 't5' from a network",
    ),
    "a tower from elsewhere": (
        lambda p: (saved(p, model_cfg=VIT | {"vision_cfg": {"timm_model_name": "hf-hub:a/b", "image_size": 32}}), None),
        "has an image tower from a network",
    ),
    "another shape": (
        lambda p: (bare(p), architecture(p, WIDER)),
        "another model's: text_projection is 8x16 there and 8x20 in the architecture",
    ),
    "another network": (
        lambda p: (bare(p), architecture(p, CONFIG)),
        r"another model's: visual\.conv1\.weight is 16x3x8x8 there and 2x3x3x3 in the architecture \(154 differ\)",
    ),
    "images resized in an unknown way": (
        lambda p: (saved(p, preprocess_cfg={"resize_mode": "fit"}), None),
        "asks for images with resize_mode 'fit', but only shortest or longest or squash is done here",
    ),
    "nearest pixels": (lambda p: (saved(p, preprocess_cfg={"interpolation": "nearest"}), None), "'nearest'"),
    "images of another size": (lambda p: (saved(p, preprocess_cfg={"size": 64}), None), "size 64, but only 32"),
    "a mean of one number": (lambda p: (saved(p, preprocess_cfg={"mean": 0.5}), None), "mean is 0.5, not three"),
    "oblong images": (
        lambda p: (saved(p, model_cfg=VIT | {"vision_cfg": VIT["vision_cfg"] | {"image_size": [32, 64]}}), None),
        "images must be square",
    ),
}


@pytest.mark.parametrize(("place", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_told_in_a_sentence(place: Place, message: str, tmp_path: Path) -> None:
    weights, named = place(tmp_path)
    with pytest.raises(DomixError, match=message) as caught:
        load_public(weights, named, caches=NO_CACHE)
    assert "\n" not in str(caught.value)
    assert "model.name" not in str(caught.value)
    assert isinstance(caught.value, (DataError, ParameterError))


@pytest.mark.parametrize("section", ["", "vision_cfg", "text_cfg"])
def test_nonsense_in_a_description_is_told_in_a_sentence(section: str, tmp_path: Path) -> None:
    """Whatever stands where a number should: the model loads as it was saved, or is refused in one line."""
    refused = 0
    for key in VIT[section] if section else VIT:
        for value in (-1, "x"):
            config = VIT | ({section: VIT[section] | {key: value}} if section else {key: value})
            (tmp_path / "m").mkdir(exist_ok=True)
            (tmp_path / "m/open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
            (tmp_path / "m/open_clip_model.safetensors").write_bytes(WEIGHTS)
            try:
                load_public(str(tmp_path / "m"))
            except DomixError as error:
                assert "\n" not in str(error), (key, value)
                refused += 1
    assert refused >= 5


@pytest.mark.parametrize("value", [-1, "x", [], {"x": 1}], ids=str)
def test_nonsense_about_images_is_told_in_a_sentence(value: Any, tmp_path: Path) -> None:
    for key in ("mean", "std", "size", "interpolation", "resize_mode"):
        with pytest.raises(DomixError) as caught:
            load_public(saved(tmp_path, preprocess_cfg={key: value}))
        assert "\n" not in str(caught.value)


def test_a_word_for_a_description_of_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the description of the model .* makes no sense: AttributeError"):
        load_public(saved(tmp_path, preprocess_cfg="x"))
