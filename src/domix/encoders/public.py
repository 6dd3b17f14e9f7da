"""Models that others have trained, ready to evaluate, from wherever their weights lie on this disk.

    weights                                                              architecture
    a folder: open_clip's or transformers' for Hugging Face, or Domix's   null: the folder describes its model
    hf-hub:owner/name, such a folder in Hugging Face's cache              null
    a file of weights in such a folder                                    null
    a file of weights alone (.safetensors, .pt, .pth, .bin, .ckpt)               a name or a JSON file
    a tag of open_clip's, in Hugging Face's or open_clip's cache          open_clip's name

Nothing is downloaded, and no file can run code (domix.encoders.weights.weight_files).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domix.encoders.hf import open_clip_config, open_clip_weights
from domix.encoders.hub import WEIGHTS as OPEN_CLIP_WEIGHTS
from domix.encoders.hub import Caches, describe_tag, find_repository, find_weights
from domix.encoders.preprocess import Preprocess, from_open_clip, from_transformers, square
from domix.encoders.weights.weight_files import SUFFIXES, read_tensors
from domix.model.checkpoint import CONFIG
from domix.model.checkpoint import WEIGHTS as SAFE_WEIGHTS
from domix.model.clip import build, image_size, load_config, tokenizer
from domix.runtime.errors import DataError, DomixError, ParameterError, passing
from domix.runtime.files import read_json

if TYPE_CHECKING:
    from torch import Tensor

    from domix.model.clip import Clip

log = logging.getLogger(__name__)

REPOSITORY = "hf-hub:"
OPEN_CLIP_CONFIG = "open_clip_config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")  # the second: transformers 5's, of all processors
TRANSFORMERS_WEIGHTS = (SAFE_WEIGHTS, "pytorch_model.bin")
SECTIONS = {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict}  # of open_clip's configurations
BIAS = "logit_bias"  # of the sigmoid loss
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")  # numbers in OpenAI's own state dicts


@dataclass(frozen=True)
class PublicClip:
    """A model that was not trained here."""

    model: Clip  # ready to evaluate
    config: dict[str, Any]  # open_clip's
    preprocess: Preprocess
    file: Path  # its weights
    converted: bool  # whether they are transformers' there, renamed and joined to be open_clip's


@dataclass(frozen=True)
class _Description:
    """What a model is, before its weights are read."""

    config: dict[str, Any]
    preprocess: Preprocess
    file: Path
    transformers: bool = False  # whether the weights are named as that library names them


def load_public(weights: str, architecture: str | None = None, *, caches: Caches | None = None) -> PublicClip:
    """Load the model that `weights` and `architecture` name, as the table above says.

    Raises:
        ParameterError: they name nothing, or one of them is missing or too much.
        DataError: weights are absent, damaged, unsafe to read or another model's, or the model reads images or texts
            in a way that is not possible here.
    """
    try:
        found = _find(weights, architecture, caches or Caches())
        model = _build(found.config, weights)
    except DomixError:
        raise
    except Exception as error:  # a description of others may hold anything, and open_clip and timm trust what they get
        raise DataError(f"the description of the model {weights} makes no sense: {_in_a_line(error)}") from error
    tensors = read_tensors(found.file)
    if any(name.startswith("vision_model.") for name in tensors) and not found.transformers:
        raise DataError(f"{found.file} has transformers' names of weights: name its folder, which says what it is")
    _fill(model, open_clip_weights(tensors) if found.transformers else tensors, found)
    return PublicClip(model.eval(), found.config, found.preprocess, found.file, found.transformers)


def _build(config: dict[str, Any], weights: str) -> Clip:
    """Build a described model, if its texts and images can be prepared here."""
    _refuse_impossible(config, weights)
    with passing(config=f"the model {weights}"):
        return build(config, seed=0)


def _refuse_impossible(config: dict[str, Any], weights: str) -> None:
    """Refuse a model that cannot be built, or whose texts or images cannot be prepared, without making its weights."""
    import torch

    if ":" in str(config["vision_cfg"].get("timm_model_name", "")):
        raise DataError(f"the model {weights} has an image tower from a network: {config['vision_cfg']}")
    with passing(config=f"the model {weights}"):
        tokenizer(config)
        image_size(config)
        with torch.device("meta"):
            build(config, seed=0)


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _find(weights: str, architecture: str | None, caches: Caches) -> _Description:
    path = Path(weights).expanduser()
    if weights.startswith(REPOSITORY):
        path = find_repository(weights.removeprefix(REPOSITORY), caches)
    if path.is_dir():
        if architecture is not None:
            raise ParameterError(f"the folder {weights} says what its model is: give no architecture with it")
        return _describe(path, None)
    if path.is_file():
        if architecture is None:
            return _describe(path.parent, path)
        config = _configuration(architecture)
        return _Description(config, square(_size(config, architecture)), path)
    if path.suffix in SUFFIXES or "/" in weights:
        raise ParameterError(f"there is no file or folder {weights}")
    if architecture is None:
        raise ParameterError(f"there is no file or folder {weights}, and a tag of open_clip's needs an architecture")
    return _tagged(architecture, weights, caches)


def _configuration(architecture: str) -> dict[str, Any]:
    with passing(name="the architecture"):
        return load_config(architecture)


def _tagged(architecture: str, tag: str, caches: Caches) -> _Description:
    """Describe a tag's model; what cannot be evaluated anyway is refused before its weights are asked for."""
    config, described = _configuration(architecture), describe_tag(architecture, tag)
    _refuse_impossible(config, tag)
    preprocess = from_open_clip(described, size=_size(config, architecture), which=f"{architecture} {tag}")
    file = find_weights(architecture, tag, described, caches)
    quick = bool(described.get("quick_gelu", False))
    if quick != bool(config.get("quick_gelu", False)):
        log.info("%s of %s was trained with quick_gelu %s, and is evaluated so", tag, architecture, quick)
    return _Description(config | {"quick_gelu": quick}, preprocess, file)


def _describe(folder: Path, file: Path | None) -> _Description:
    """Describe the model of a folder; `file` is the file of weights that was named, if one was."""
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return _open_clip_folder(folder, file)
    if file is not None and folder.name == "checkpoints" and (folder.parent / CONFIG).is_file():
        return _domix_folder(folder.parent, _read_description(folder.parent / CONFIG), file)
    if not (folder / CONFIG).is_file():
        if file is not None:
            raise ParameterError(f"nothing beside {file} says what model it is: name its architecture, too")
        raise ParameterError(
            f"{folder} describes no model (it has neither {OPEN_CLIP_CONFIG} nor {CONFIG}): name a file of weights and"
            " an architecture"
        )
    config = _read_description(folder / CONFIG)
    if "encoder" in config or isinstance(config.get("model"), dict):
        return _domix_folder(folder, config, file)
    if "model_type" in config:
        return _transformers_folder(folder, config, file)
    raise DataError(f"{folder / CONFIG} describes no CLIP model: neither Domix's, nor one of transformers")


def _open_clip_folder(folder: Path, file: Path | None) -> _Description:
    path = folder / OPEN_CLIP_CONFIG
    described = _read_description(path)
    config = described.get("model_cfg")
    if not isinstance(config, dict) or not all(isinstance(config.get(key), kind) for key, kind in SECTIONS.items()):
        raise DataError(f"{path} describes no model: its model_cfg lacks embed_dim, vision_cfg or text_cfg")
    preprocess = from_open_clip(described.get("preprocess_cfg") or {}, size=_size(config, path), which=str(folder))
    return _Description(config, preprocess, file or _weights_in(folder, OPEN_CLIP_WEIGHTS + TRANSFORMERS_WEIGHTS))


def _transformers_folder(folder: Path, described: dict[str, Any], file: Path | None) -> _Description:
    config = open_clip_config(described, which=str(folder))
    processor: dict[str, Any] = {}
    for name in reversed(PROCESSORS):
        if (folder / name).is_file():
            read = _read_description(folder / name)
            processor = read.get("image_processor", read)
    preprocess = from_transformers(processor, size=_size(config, folder / CONFIG), which=str(folder))
    return _Description(config, preprocess, file or _weights_in(folder, TRANSFORMERS_WEIGHTS), transformers=True)


def _domix_folder(folder: Path, described: dict[str, Any], file: Path | None) -> _Description:
    if "encoder" in described:
        raise DataError(f"{folder} holds a classifier, which knows no prompts: name the folder of a CLIP model")
    size = _size(described["model"], folder / CONFIG)
    return _Description(described["model"], square(size), file or folder / SAFE_WEIGHTS)


def _read_description(path: Path) -> dict[str, Any]:
    described = read_json(path, mend="copy or download it again")
    if not isinstance(described, dict):
        raise DataError(f"{path} describes no model: it is {type(described).__name__}, not an object")
    return described


def _size(config: dict[str, Any], which: object) -> int:
    with passing(config=str(which)):
        return image_size(config)


def _weights_in(folder: Path, names: Sequence[str]) -> Path:
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise DataError(f"{folder} holds no weights: it needs one of {', '.join(names)}, in one piece")
    return found


def _fill(model: Clip, tensors: dict[str, Tensor], found: _Description) -> None:
    """Put the weights into the model, where names and shapes are those of its architecture.

    Raises:
        DataError: they are another architecture's, or need another activation.
    """
    extras = [tensors.pop(name) for name in OPENAI_EXTRAS if name in tensors]
    if extras and not found.config.get("quick_gelu"):
        raise DataError(
            f"{found.file} holds OpenAI's weights, trained with QuickGELU: name an architecture that ends in -quickgelu"
        )
    wanted = model.state_dict()
    tensors = _as_now(tensors, wanted)
    if BIAS not in wanted and tensors.pop(BIAS, None) is not None:
        log.info("%s was trained with a bias of all similarities, which changes no answer and is left out", found.file)
    differing = [name for name in wanted if name not in tensors or tensors[name].shape != wanted[name].shape]
    differing += sorted(tensors.keys() - wanted.keys())
    if differing:
        name = differing[0]
        raise DataError(
            f"the weights {found.file} are another model's: {name} is {_shape(tensors, name)} there and"
            f" {_shape(wanted, name)} in the architecture ({len(differing)} differ)"
        )
    model.load_state_dict(tensors)


def _as_now(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name weights as today's open_clip does, which has a text tower of its own in some models."""
    from open_clip.model import convert_to_custom_text_state_dict

    if "positional_embedding" in tensors and "positional_embedding" not in wanted:
        tensors = convert_to_custom_text_state_dict(tensors)
    both = tensors.keys() & wanted.keys()
    scalars = [name for name in ("logit_scale", BIAS) if name in both and tensors[name].numel() == 1]
    return tensors | {name: tensors[name].reshape(wanted[name].shape) for name in scalars}


def _shape(tensors: dict[str, Tensor], name: str) -> str:
    return "x".join(map(str, tensors[name].shape)) or "a number" if name in tensors else "absent"
