"""Any image model by one call: CLIP models, timm's, torchvision's, and Domix's own, with weights from this disk alone.

    model                     weights
    timm/<name>               a file, or null: timm's own, in Hugging Face's or torch's cache
    torchvision/<name>        a file, or the name of torchvision's weights (null: its default), in torch's cache
    anything else             see domix.encoders.public, whose `weights` this is; with an architecture where need be;
                              or the folder of one of Domix's classifiers

Nothing is downloaded, and no file can run code (domix.encoders.weights.weight_files).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from domix.encoders.classifiers import load_any_classifier
from domix.encoders.crops import from_timm, from_torchvision, of_classifier_folder, plp_backbone, plp_baseline
from domix.encoders.encoder import ImageEncoder, clip_encoder
from domix.encoders.hub import Caches
from domix.encoders.preprocess import Preprocess
from domix.encoders.public import PublicClip, load_public
from domix.encoders.split import SplitModel, last_linear, split_classifier, split_clip, split_last_linear, split_timm
from domix.encoders.weights.weight_files import read_tensors
from domix.model.checkpoint import CONFIG, WEIGHTS
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json

if TYPE_CHECKING:
    from torch import Tensor

TIMM, TORCHVISION = "timm/", "torchvision/"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # what timm keeps on Hugging Face
Output = Literal["tower", "joint", "logits"]


@dataclass(frozen=True)
class Backbone:
    """A model whose output was asked for by name."""

    encoder: ImageEncoder  # images -> the output
    split: SplitModel  # its two parts: features, and the head behind them
    file: Path  # of its weights
    built_from: dict[str, Any]  # what its tower is built from again: domix.encoders.classifiers.build_tower
    clip: PublicClip | None = None  # with a text tower, of CLIP models


@dataclass(frozen=True)
class _Opened:
    whole: nn.Module  # images -> joint embeddings, or logits
    split: SplitModel
    preprocess: Preprocess
    file: Path
    built_from: dict[str, Any]
    clip: PublicClip | None = None


def open_backbone(
    model: str,
    weights: str | None = None,
    *,
    output: Output,
    classes: int | None = None,
    parity: bool = False,
    device: str = "cpu",
    caches: Caches | None = None,
) -> Backbone:
    """Open a model, as the table above says.

    Args:
        model: its name; for CLIP models of no folder the architecture.
        weights: where they are.
        output: tower: features before the last linear layer; joint: CLIP's embedding behind it; logits: a classifier's.
        classes: outputs that the head must have; None: as many as the weights have.
        parity: read images of timm's and torchvision's models as PLP's code does, not as they were trained.
        device: of the model.
        caches: where Hugging Face's files are.

    Raises:
        ParameterError: there is no such model, or it has no such output.
        DataError: weights are absent, damaged, another model's, or have a head of another width.
    """
    if model.startswith(TIMM):
        opened = _timm(model.removeprefix(TIMM), weights, caches or Caches())
    elif model.startswith(TORCHVISION):
        opened = _torchvision(model.removeprefix(TORCHVISION), weights)
    else:
        opened = _domix(model) if weights is None else None
        opened = opened or _clip(model, weights, caches)
    _require_output(model, output, opened)
    _require_width(model, classes, opened)
    preprocess = opened.preprocess
    if parity and opened.clip is None and model.startswith((TIMM, TORCHVISION)):
        preprocess = plp_baseline(model) if output == "logits" else plp_backbone()
    if output == "tower":
        encoder = ImageEncoder(opened.split.tower, opened.split.tower, preprocess, output="features", device=device)
    elif opened.clip is not None:
        encoder = clip_encoder(opened.clip.model, preprocess, device=device)
    else:
        encoder = ImageEncoder(opened.whole, opened.whole, preprocess, output="logits", device=device)
    return Backbone(encoder, opened.split, opened.file, opened.built_from, opened.clip)


def _require_output(model: str, output: Output, opened: _Opened) -> None:
    if output == "joint" and opened.clip is None:
        raise ParameterError(
            f"{model} has no text tower, so no joint space: ask for tower or logits", argument="output"
        )
    if output == "logits" and opened.clip is not None:
        raise ParameterError(
            f"{model} is a CLIP model, which has no logits without class names: ask for tower or joint",
            argument="output",
        )
    if output == "logits" and isinstance(opened.split.head, nn.Identity):
        raise ParameterError(f"{model} has no head, so no logits: ask for tower", argument="output")


def _require_width(model: str, classes: int | None, opened: _Opened) -> None:
    head = opened.split.head
    if classes is not None and isinstance(head, nn.Linear) and head.out_features != classes:
        raise DataError(
            f"the head of {model} in {opened.file} has {head.out_features} outputs, not {classes}: name weights that"
            " were trained on these classes, or ask for tower and train a probe"
        )


def _clip(model: str, weights: str | None, caches: Caches | None) -> _Opened:
    """Open a CLIP model: `model` is its architecture where `weights` are named, else its folder or file."""
    found = load_public(model if weights is None else weights, None if weights is None else model, caches=caches)
    split, built_from = split_clip(found.model.visual), {"clip": found.config}
    return _Opened(found.model.visual, split, found.preprocess, found.file, built_from, found)


def _domix(model: str) -> _Opened | None:
    """Open a classifier that Domix trained, if `model` is the folder of one."""
    folder = Path(model).expanduser()
    if not (folder / CONFIG).is_file() or "encoder" not in read_json(folder / CONFIG):
        return None
    classifier, config = load_any_classifier(folder)
    built_from = {"classifier": config["encoder"], "outputs": len(config["classes"])}
    split, preprocess = split_classifier(classifier), of_classifier_folder(config)
    return _Opened(classifier, split, preprocess, folder / WEIGHTS, built_from)


def _timm(name: str, weights: str | None, caches: Caches) -> _Opened:
    import timm
    from timm.data import resolve_model_data_config

    _require_known(name, timm.list_models() + timm.list_pretrained(), "timm")
    described = timm.get_pretrained_cfg(name)
    if described is None:
        raise ParameterError(f"timm describes no weights of {name}: name one of its models with such")
    file = Path(weights).expanduser() if weights else _timm_file(name, described, caches)
    tensors = read_tensors(file)
    outputs = _outputs(tensors, described.classifier, described.num_classes)
    if outputs == described.num_classes + (described.label_offset or 0):  # a background class that timm takes away
        outputs = described.num_classes
    overlay = {"state_dict": tensors, "num_classes": outputs}
    try:
        module = timm.create_model(name, pretrained=True, num_classes=outputs, pretrained_cfg_overlay=overlay).eval()
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"the weights {file} are another model's than timm's {name}: {_brief(error)}") from error
    preprocess = from_timm(resolve_model_data_config(module), which=f"timm's {name}")
    return _Opened(module, split_timm(module), preprocess, file, {"timm": name, "outputs": outputs})


def _timm_file(name: str, described: Any, caches: Caches) -> Path:
    """Find a model's own weights in Hugging Face's cache, or in torch's."""
    from huggingface_hub import try_to_load_from_cache

    for filename in HUB_FILES if described.hf_hub_id else ():
        found = try_to_load_from_cache(described.hf_hub_id, described.hf_hub_filename or filename, cache_dir=caches.hub)
        if isinstance(found, str):
            return Path(found)
    if described.url and (file := _torch_cache() / described.url.rpartition("/")[2]).is_file():
        return file
    raise DataError(
        f"the weights of timm's {name} are not on this disk: run `python -c \"import timm; timm.create_model('{name}',"
        ' pretrained=True)"` once with a network (and without HF_HUB_OFFLINE), or name a file of weights'
    )


def _torchvision(name: str, weights: str | None) -> _Opened:
    import torch
    from torchvision import models
    from torchvision.models import get_model, get_model_weights, list_models

    _require_known(name, list_models(module=models), "torchvision")
    every: Any = get_model_weights(name)
    known = {member.name: member for member in every}
    member = known.get(weights or "", every.DEFAULT)
    if weights is None or weights in known:
        file = _torch_cache() / member.url.rpartition("/")[2]
        if not file.is_file():
            raise DataError(
                f"the weights {member.name} of torchvision's {name} are not on this disk: run `python -c \"import"
                f" torchvision; torchvision.models.get_model('{name}', weights='{member.name}')\"` once with a network,"
                " or name a file of weights"
            )
    else:
        file = Path(weights).expanduser()
        if not file.is_file():
            raise ParameterError(
                f"there is no file {weights}, and torchvision's weights of {name} are {', '.join(known)}"
            )
    tensors = read_tensors(file)
    with torch.device("meta"):
        head = last_linear(get_model(name, weights=None))
    outputs = _outputs(tensors, head, len(member.meta["categories"]))
    module = get_model(name, weights=None, num_classes=outputs)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"the weights {file} are another model's than torchvision's {name}: {_brief(error)}") from error
    preprocess = from_torchvision(member.transforms(), which=f"torchvision's {name}")
    built_from = {"torchvision": name, "outputs": outputs}
    return _Opened(module.eval(), split_last_linear(module), preprocess, file, built_from)


def _outputs(tensors: Mapping[str, Tensor], classifier: Any, default: int) -> int:
    """Return how many outputs the head of some weights has; `default` where it is called by another name."""
    first = classifier if isinstance(classifier, str) else next(iter(classifier or ()), "")
    found = tensors.get(f"{first}.weight")
    return default if found is None else len(found)


def _require_known(name: str, known: list[str], where: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"python -c 'import {where}' lists them"
        raise ParameterError(f"{where} has no model {name!r}: {hint}", argument="model")


def _torch_cache() -> Path:
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints"


def _brief(error: Exception) -> str:
    """Return the first lines of what torch says of weights that do not fit."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
