"""CLIP models from open_clip configurations: built at random from a seed, never downloaded.

A configuration is open_clip's: `{"embed_dim": ..., "vision_cfg": {...}, "text_cfg": {...}}`. Its `vision_cfg` decides
the image tower: a list of `layers` makes a ModifiedResNet, a number a ViT, `timm_model_name` one of timm's models.

Shapes: B batch, L tokens a caption, D embedding.
"""

from __future__ import annotations

import copy
import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json
from domix.runtime.seeds import derive

if TYPE_CHECKING:
    from open_clip import SimpleTokenizer
    from open_clip.model import CLIP, CustomTextCLIP
    from torch import Tensor

    Clip = CLIP | CustomTextCLIP

CONFIGS = Path(__file__).parent / "configs"
SECTIONS = ("embed_dim", "vision_cfg", "text_cfg")


def load_config(name: str) -> dict[str, Any]:
    """Return the configuration called `name`: one of open_clip's, one under configs/, or the path of a JSON file.

    Raises:
        ParameterError: there is no such model, or the file is not a CLIP configuration.
    """
    if name.endswith(".json"):
        return _read_config(Path(name))
    shipped = {path.stem: path for path in sorted(CONFIGS.glob("*.json"))}
    if name in shipped:
        return _read_config(shipped[name])
    import open_clip

    if (config := open_clip.get_model_config(name)) is not None:
        return config
    known = [*shipped, *open_clip.list_models()]
    folded = {model.lower(): model for model in known}  # names are told apart by case; mistakes in it are common
    near = [folded[match] for match in difflib.get_close_matches(name.lower(), list(folded), n=3)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(shipped)} and open_clip's models"
    raise ParameterError(f"there is no model {name!r}; {hint}", argument="name")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path, mend="correct it, or name another file")
    except DataError as error:
        raise ParameterError(str(error), argument="name") from error
    missing = [key for key in SECTIONS if not isinstance(config, dict) or key not in config]
    if missing:
        raise ParameterError(f"{path} is no open_clip configuration: it lacks {', '.join(missing)}", argument="name")
    return config


def build(config: dict[str, Any], *, seed: int) -> Clip:
    """Build the model of `config` with random weights drawn from `seed`; torch's own random state is left as it was.

    Raises:
        ParameterError: the configuration needs weights or files from a network, or open_clip refuses it.
    """
    import torch
    from open_clip.model import CLIP, CustomTextCLIP

    arguments = copy.deepcopy(config)
    _refuse_remote(arguments)
    kind = CustomTextCLIP if arguments.pop("custom_text", False) else CLIP
    if "timm_model_name" in arguments["vision_cfg"]:
        arguments["vision_cfg"]["timm_model_pretrained"] = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "model"))
        try:
            return kind(**arguments)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise ParameterError(f"open_clip cannot build this model: {error}", argument="config") from error


def _refuse_remote(config: dict[str, Any]) -> None:
    """Refuse what open_clip would fetch from a network, and what has no contrastive loss alone."""
    for key in ("hf_model_name", "hf_tokenizer_name"):
        if value := config["text_cfg"].get(key):
            raise ParameterError(
                f"the text tower needs {value!r} from a network; choose a model without", argument="config"
            )
    if "multimodal_cfg" in config:
        raise ParameterError("CoCa models also learn to write captions; choose a CLIP model", argument="config")


def tokenizer(config: dict[str, Any]) -> SimpleTokenizer:
    """Return CLIP's byte-pair tokenizer for `config`: called with a list of texts, it gives int64 [B, context_length].

    Raises:
        ParameterError: the model needs another tokenizer, or its vocabulary is too small for this one.
    """
    from open_clip import SimpleTokenizer

    _refuse_remote(config)
    text = config["text_cfg"]
    made = SimpleTokenizer(context_length=text.get("context_length", 77), **text.get("tokenizer_kwargs", {}))
    if text.get("vocab_size", made.vocab_size) < made.vocab_size:
        raise ParameterError(
            f"text_cfg.vocab_size is {text['vocab_size']}, fewer than the tokenizer's {made.vocab_size}",
            argument="config",
        )
    return made


def image_size(config: dict[str, Any]) -> int:
    """Return the side in pixels of the square images that the model reads."""
    size = config["vision_cfg"].get("image_size", 224)
    sides = set(size) if isinstance(size, (list, tuple)) else {size}
    if len(sides) != 1:
        raise ParameterError(f"images must be square, but image_size is {size}", argument="config")
    return sides.pop()


def shortest_context(model: Clip, tokens: Tensor) -> Tensor:
    """Cut `tokens` [N, L] after the longest caption's end, where that cannot change what the text tower gives.

    It cannot where attention looks backwards only and the features are those at the end-of-text token, the greatest:
    whatever follows that token is never read.
    """
    if not reads_short(model) or model.text_pool_type != "argmax":
        return tokens
    return tokens[:, : int(tokens.argmax(dim=1).max()) + 1].contiguous()


def reads_short(model: Clip) -> bool:
    """Tell whether `encode_text` takes captions shorter than the model's context: a tower whose attention is causal."""
    from open_clip.model import CLIP

    return isinstance(model, CLIP) and model.attn_mask is not None


def encode_text(model: Clip, tokens: Tensor) -> Tensor:
    """Encode captions [B, L] to features [B, D] as open_clip's `encode_text` does, for any L up to the model's context.

    open_clip's own asks for the whole context, most of which is padding; see `shortest_context` and `reads_short`.
    """
    from open_clip.transformer import text_global_pool
    from torch import nn

    length = tokens.shape[1]
    if length == model.context_length:
        return model.encode_text(tokens)
    tower: Any = model  # the attributes of a module have no types
    dtype = tower.transformer.get_cast_dtype()
    x_BLW = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
    x_BLW = tower.ln_final(tower.transformer(x_BLW, attn_mask=tower.attn_mask[:length, :length]))
    x_BW = text_global_pool(x_BLW, tokens, tower.text_pool_type, eos_token_id=tower.text_eos_id)
    projection = tower.text_projection
    if projection is None:
        return x_BW
    return projection(x_BW) if isinstance(projection, nn.Linear) else x_BW @ projection
