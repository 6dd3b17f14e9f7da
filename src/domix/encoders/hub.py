"""Published weights that are on this disk already: in Hugging Face's cache, or in open_clip's. Never downloads.

Names: a *tag* is open_clip's name of weights for one of its architectures (`laion2b_s34b_b79k` of `ViT-B-32`); a
*repository* is a model's place on Hugging Face (`laion/CLIP-ViT-B-32-laion2B-s34B-b79K`).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import sha256_file

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
QUICK = "-quickgelu"
HOST = "https://github.com/mlfoundations/"  # OpenAI's host has TorchScript programs alone, which are not read here


@dataclass(frozen=True)
class Caches:
    """Where published weights are kept."""

    hub: Path | None = None  # Hugging Face's; None: where that library keeps it
    open_clip: Path = Path("~/.cache/clip")


def describe_tag(architecture: str, tag: str) -> dict[str, Any]:
    """Return what open_clip says of a tag's weights: `quick_gelu`, `mean`, `std` and the like, and where they lie.

    Raises:
        ParameterError: open_clip knows no such tag of this architecture.
    """
    import open_clip

    described = open_clip.get_pretrained_cfg(architecture, tag)
    if not described:
        raise ParameterError(_unknown(architecture, tag))
    return described


def find_weights(architecture: str, tag: str, described: Mapping[str, Any], caches: Caches) -> Path:
    """Return the file of a tag's weights, as `describe_tag` describes them.

    Raises:
        DataError: it is not on this disk.
    """
    path = _hub_file(described.get("hf_hub", ""), caches.hub) or _url_file(described.get("url", ""), caches.open_clip)
    if path is None:
        fetch = f"import open_clip as o; o.download_pretrained(o.get_pretrained_cfg({architecture!r}, {tag!r}))"
        raise DataError(
            f'the weights {tag} of {architecture} are not on this disk: run `python -c "{fetch}"` once with a network'
            " (and without HF_HUB_OFFLINE), or name a file of weights"
        )
    return path


def find_repository(name: str, caches: Caches) -> Path:
    """Return the folder of a Hugging Face repository in the cache.

    Raises:
        ParameterError: no repository can be called so.
        DataError: it is not on this disk.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, cache_dir=caches.hub, local_files_only=True))
    except HFValidationError:
        raise ParameterError(f"hf-hub:{name} names no Hugging Face repository: write hf-hub:owner/name") from None
    except LocalEntryNotFoundError:
        raise DataError(
            f"the Hugging Face repository {name} is not on this disk: run `hf download {name}` once with a network, or"
            " name a folder"
        ) from None


def _hub_file(place: str, cache: Path | None) -> Path | None:
    """Find `owner/name/` or `owner/name/file` in the cache, safetensors first, as open_clip does."""
    from huggingface_hub import try_to_load_from_cache

    repository, filename = os.path.split(place)
    if not repository:
        return None
    names = (str(Path(filename).with_suffix(".safetensors")), filename) if filename else WEIGHTS
    for name in names:
        found = try_to_load_from_cache(repository, name, cache_dir=cache)
        if isinstance(found, str):
            return Path(found)
    return None


def _url_file(url: str, cache: Path) -> Path | None:
    """Find what open_clip itself would have downloaded; its name ends in the first digits of its sha256."""
    path = cache.expanduser() / url.rpartition("/")[2]
    if not url.startswith(HOST) or not path.is_file():
        return None
    if not sha256_file(path).startswith(path.stem.rpartition("-")[2]):
        raise DataError(f"{path} is not what {url} holds: delete it and download it again")
    return path


def _unknown(architecture: str, tag: str) -> str:
    import open_clip

    other = architecture.removesuffix(QUICK) if architecture.endswith(QUICK) else architecture + QUICK
    if open_clip.get_pretrained_cfg(other, tag):
        return f"the weights {tag} were not trained with {architecture}'s activation: name the architecture {other}"
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not tags:
        return f"there is no file or folder {tag!r}, and open_clip has no weights for {architecture}"
    near = difflib.get_close_matches(tag.lower().replace("-", "_"), tags, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it knows {', '.join(tags)}"
    return f"there is no file or folder {tag!r}, and open_clip knows no such weights of {architecture}; {hint}"
