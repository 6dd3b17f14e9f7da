"""CLIP models of the library transformers in open_clip's terms: configuration and weights.

The two name the same network's parts differently. transformers keeps queries, keys and values as three matrices and
projections as linear layers, open_clip one matrix of the three under another and the transposed projections.

Shapes: W width of a tower, D embedding.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from domix.runtime.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

# What transformers takes where a configuration is silent: CLIPVisionConfig, CLIPTextConfig.
COMMON = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_hidden_layers": 12}
VISION = COMMON | {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
VISION |= {"num_channels": 3, "image_size": 224, "patch_size": 32}
TEXT = COMMON | {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
TEXT |= {"vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 49407}
ACTIVATIONS = {"quick_gelu": True, "gelu": False}  # name -> whether it is open_clip's quick_gelu
END_OF_TEXT = (49407, 2)  # CLIP's token; 2 stands in early configurations, whose models took the greatest token as well
NORM_EPS = 1e-5  # torch's, and so open_clip's

PLACES = {  # transformers' name -> open_clip's
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "logit_scale": "logit_scale",
}
PROJECTIONS = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
BLOCK = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
TOWERS = {"text": "transformer.resblocks", "vision": "visual.transformer.resblocks"}
PARTS = {"self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2"}
PARTS |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
QUERIES, KEYS, VALUES = "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"


def open_clip_config(config: dict[str, Any], *, which: str) -> dict[str, Any]:
    """Turn transformers' configuration of a CLIPModel into open_clip's; `which` names the model.

    Raises:
        DataError: it is no CLIP model's, or one with parts that open_clip's CLIP lacks.
    """
    if config.get("model_type") != "clip":
        raise DataError(f"{which} is a transformers model of type {config.get('model_type')!r}, and only clip is known")
    vision, text = _section(config, "vision_config", VISION), _section(config, "text_config", TEXT)
    for key, found, allowed in (
        ("hidden_act", vision["hidden_act"], tuple(ACTIVATIONS)),
        ("text_config.hidden_act", text["hidden_act"], (vision["hidden_act"],)),
        ("num_channels", vision["num_channels"], (3,)),
        ("eos_token_id", text["eos_token_id"], END_OF_TEXT),
    ):
        if found not in allowed:
            raise DataError(f"{which} has {key} {found!r}, but only {' or '.join(map(repr, allowed))} is possible here")
    return {
        "embed_dim": config.get("projection_dim", 512),
        "quick_gelu": ACTIVATIONS[vision["hidden_act"]],
        "vision_cfg": _tower(vision)
        | {
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
        },
        "text_cfg": _tower(text)
        | {
            "heads": text["num_attention_heads"],
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
        },
    }


def _section(config: dict[str, Any], key: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return one tower's configuration; an early file's `<key>_dict` goes before `<key>`, as transformers has it."""
    return defaults | (config.get(f"{key}_dict") or config.get(key) or {})


def _tower(section: dict[str, Any]) -> dict[str, Any]:
    """Return what both towers have in common."""
    width, hidden = section["hidden_size"], section["intermediate_size"]
    tower = {"width": width, "layers": section["num_hidden_layers"], "mlp_ratio": hidden / width}
    if int(width * tower["mlp_ratio"]) != hidden:  # open_clip rounds down, and a quotient may lie just below
        tower["mlp_ratio"] = (hidden + 0.5) / width
    if section["layer_norm_eps"] != NORM_EPS:
        tower["norm_kwargs"] = {"eps": section["layer_norm_eps"]}
    return tower


def open_clip_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename and join transformers' weights; names that it does not know stay, and so are noticed later."""
    import torch

    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(".position_ids"):  # 0, 1, 2, ..., kept by early versions
            continue
        block = BLOCK.fullmatch(name)
        if name in PROJECTIONS:
            result[PROJECTIONS[name]] = tensor.T.contiguous()  # [W, D]
        elif block is None:
            result[PLACES.get(name, name)] = tensor
        elif block[3] == QUERIES:
            three = [
                tensors[part] for kind in (QUERIES, KEYS, VALUES) if (part := name.replace(QUERIES, kind)) in tensors
            ]
            result[f"{_block(block)}.attn.in_proj_{block[4]}"] = torch.cat(three)  # [3 W, W] or [3 W]
        elif block[3] not in (KEYS, VALUES):
            result[f"{_block(block)}.{PARTS.get(block[3], block[3])}.{block[4]}"] = tensor
    return result


def _block(match: re.Match[str]) -> str:
    return f"{TOWERS[match[1]]}.{match[2]}"
