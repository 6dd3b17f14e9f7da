"""Weights that others have saved, read without running anything that the file might hold.

Safetensors files hold tensors and nothing else. Files of torch.save are pickles, which may call any function when they
are read: torch's own restricted reader takes tensors and plain containers from them, and refuses the rest.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domix.runtime.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
PREFIXES = ("module.", "_orig_mod.")  # of a model saved inside DistributedDataParallel or torch.compile
SAFE = "save its state dict with safetensors.torch.save_file instead"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict, on the CPU: of a safetensors file, or of torch.save, bare or as a trainer's `state_dict`.

    Raises:
        DataError: the file is missing, damaged, another kind of file, or holds more than tensors and plain containers.
    """
    if not path.is_file():
        raise DataError(f"the weights {path} are missing")
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} is no file of weights: known endings are {', '.join(SUFFIXES)}")
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _state_dict(_read_torch(path), path)
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"the weights {path} are damaged ({error}): copy or download them again") from error


def _read_torch(path: Path) -> Any:
    import torch

    if _is_program(path):
        raise DataError(
            f"{path} is a TorchScript program, as OpenAI published its models, and would have to be run: take the same"
            f" weights by their open_clip tag (openai), or {SAFE}"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader passes on whatever the bytes lead it to
        if re.search("unsupported (global|class)", str(error), re.IGNORECASE):
            raise DataError(f"{path} holds more than tensors, which could run code, and is not read: {SAFE}") from error
        raise DataError(f"the weights {path} are damaged, or no file of torch.save: copy them again") from error


def _is_program(path: Path) -> bool:
    """Tell whether a file is an archive of torch.jit.save; one of torch.save has no constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).name == "constants.pkl" for name in archive.namelist())


def _state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:
    import torch

    found = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(found, dict) or not found:
        raise DataError(f"{path} holds no state dict: {SAFE}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise DataError(f"{path} holds no state dict: its entry {name!r} is no tensor; {SAFE}")
    return dict(found)
