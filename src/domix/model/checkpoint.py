"""Weights as safetensors and configurations as JSON; nothing that runs code when it is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domix.model.clip import build
from domix.runtime.errors import DataError
from domix.runtime.files import atomic_file, read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from domix.model.clip import Clip

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file, whole or not at all; the layout in memory (channels-last) is not kept.

    Raises:
        DomixError: disk full, folder read-only, quota used up, name taken by a file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_file(path) as temporary:
        try:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)
        except SafetensorError as error:  # which tells of the operating system's error in words alone
            if (number := re.search(r"os error (\d+)", str(error))) is None:
                raise
            raise OSError(int(number[1]), str(error)) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        DataError: the file is missing, cut short or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(f"the weights {path} are missing", remake=path) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"the weights {path} are damaged ({error})", remake=path) from error


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights and buffers."""
    save_tensors(model.state_dict(), path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights and buffers into `model`.

    Raises:
        DataError: the file is missing or damaged, or holds the weights of another model.
    """
    fill(model, load_tensors(path), f"the weights {path} are", remake=path)


def fill(model: nn.Module, tensors: dict[str, Tensor], which: str, *, remake: Path) -> None:
    """Put weights and buffers into `model`.

    Args:
        model: to be filled.
        tensors: weights and buffers by name.
        which: tells of them, for the message.
        remake: the file or folder that they were read from.

    Raises:
        DataError: they are another model's.
    """
    wanted = model.state_dict()
    differing = sorted(tensors.keys() ^ wanted.keys())
    differing += [name for name in wanted if name in tensors and tensors[name].shape != wanted[name].shape]
    if differing:
        found, asked = _shape(tensors, differing[0]), _shape(wanted, differing[0])
        raise DataError(
            f"{which} another model's: {differing[0]} is {found} there and {asked} in the configuration"
            f" ({len(differing)} differ)",
            remake=remake,
        )
    model.load_state_dict(tensors)


def _shape(tensors: dict[str, Tensor], name: str) -> str:
    return "x".join(map(str, tensors[name].shape)) or "a number" if name in tensors else "absent"


def load_model(folder: Path) -> tuple[Clip, dict[str, Any]]:
    """Return the trained model of a model folder, ready to evaluate, and its config.json.

    Raises:
        DataError: a file is missing or damaged, or weights and configuration do not fit together.
    """
    config = read_json(folder / CONFIG)
    model = build(config["model"], seed=0)
    load_weights(model, folder / WEIGHTS)
    return model.eval(), config
