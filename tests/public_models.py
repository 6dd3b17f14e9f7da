"""Tiny models saved as others publish theirs: open_clip's and transformers' folders, tags in a cache, bare files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from domix.model.clip import build
from tests.tiny import CONFIG

if TYPE_CHECKING:
    from domix.model.clip import Clip

VIT: dict[str, Any] = CONFIG | {
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
}
INCEPTION = (0.5, 0.5, 0.5)
REPOSITORY = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"  # that of the tag laion2b_s34b_b79k


def tiny_clip(config: dict[str, Any] = VIT) -> Clip:
    """Return a model whose every weight differs from its starting value."""
    model = build(config, seed=3).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand(tensor.shape, generator=generator)
    return model


def weights_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return a model's weights as a file may hold them: each in memory of its own."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}


def write_open_clip_folder(folder: Path, model: Clip, config: dict[str, Any] = VIT, **preprocess: Any) -> Path:
    """Write what open_clip's push_to_hf_hub writes."""
    folder.mkdir(parents=True, exist_ok=True)
    described = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    save_file(weights_of(model), folder / "open_clip_model.safetensors")
    return folder


def write_hub_cache(cache: Path, repository: str, files: dict[str, bytes]) -> Path:
    """Write a repository into a Hugging Face cache, as a download leaves it; return the snapshot's folder."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)
    return snapshot


def features(model: Clip) -> tuple[Tensor, Tensor]:
    """Return a model's features of two images of noise and two captions."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 32, 32, generator=generator)
    tokens = torch.tensor([[49406, 320, 1125, 49407] + [0] * 12, [49406, 2368, 49407] + [0] * 13])
    with torch.inference_mode():
        return model.encode_image(images), model.encode_text(tokens)
