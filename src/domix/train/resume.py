"""The state from which a training that was cut short goes on, exactly.

A store is a folder of its own for each training, named by a digest of everything that defines it. It holds a folder a
saved state, `step_00000040/{state.safetensors,state.json}`, the newest few, and the weights that were asked for on the
way, `checkpoints/epoch_NNN.safetensors`. States appear whole, by a rename; one that is damaged all the same (a power
cut) is recognised by its digest, and the one before it is used.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domix.model.checkpoint import fill, load_tensors, save_tensors
from domix.runtime.errors import DataError
from domix.runtime.files import atomic_folder, explain, read_json, sha256_file, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

MODEL, OPTIMIZER = "model/", "optimizer/"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """Where a training stands after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    notes: dict[str, Any]  # what the log needs to go on; JSON


class Store:
    """The saved states of one training."""

    def __init__(self, folder: Path, *, kept: int = 2, code: str = "") -> None:
        """Keep the newest `kept` states below `folder`, which is made when the first is saved.

        `code` is the digest of the code that trains: states of other code are not gone on from, since what came of it
        would be no model of either.
        """
        self.folder, self.kept, self.code = folder, kept, code
        self.checkpoints = folder / "checkpoints"

    def _saved(self) -> list[Path]:
        return sorted(self.folder.glob("step_*"), reverse=True)

    def prepare(self) -> None:
        """Make the folder, and learn at once, not when the first state is due, whether it can be written to.

        Raises:
            DomixError: it cannot.
        """
        with explain(self.folder / "step"):
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()

    def save(self, state: State) -> None:
        """Save a state, and drop all but the newest."""
        with atomic_folder(self.folder / f"step_{state.step:08d}") as temporary:
            tensors = temporary / "state.safetensors"
            save_tensors(state.tensors, tensors)
            write_json(
                temporary / "state.json",
                {"step": state.step, "sha256": sha256_file(tensors), "code": self.code, "notes": state.notes},
            )
        for old in self._saved()[self.kept :]:
            shutil.rmtree(old, ignore_errors=True)

    def latest(self) -> State | None:
        """Return the newest state that is whole and of the same code, or None."""
        for folder in self._saved():
            try:
                if dict(read_json(folder / "state.json")).get("code") != self.code:
                    logger.warning(
                        "the saved states in %s are of other code: the training begins anew (to go on with them, bring"
                        " back the code that they are of, before the next state is saved)",
                        self.folder,
                    )
                    return None
                return _read(folder)
            except (DataError, KeyError, TypeError) as error:
                logger.warning("the saved state %s is damaged and dropped (%s)", folder, error)
                shutil.rmtree(folder, ignore_errors=True)
        return None

    def checkpoint(self, epoch: int) -> Path:
        """Return where the weights after an epoch are kept until the training ends."""
        return self.checkpoints / f"epoch_{epoch:03d}.safetensors"

    def clear(self) -> None:
        """Forget the training."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(folder: Path) -> State:
    described = read_json(folder / "state.json")
    path = folder / "state.safetensors"
    tensors = load_tensors(path)
    if sha256_file(path) != described["sha256"]:
        raise DataError(f"{path} does not match its digest")
    return State(described["step"], tensors, described["notes"])


def pack(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Gather a model's weights and buffers and its optimiser's state, by parameter name."""
    tensors = {MODEL + name: tensor for name, tensor in model.state_dict().items()}
    for name, weight in model.named_parameters():
        for key, value in optimizer.state.get(weight, {}).items():
            tensors[f"{OPTIMIZER}{key}/{name}"] = value
    return tensors


def unpack_model(tensors: dict[str, Tensor], model: nn.Module, folder: Path) -> None:
    """Put the weights and buffers of a state, saved in `folder`, into `model`.

    Raises:
        DataError: they are another model's.
    """
    mine = {name[len(MODEL) :]: tensor for name, tensor in tensors.items() if name.startswith(MODEL)}
    fill(model, mine, f"the saved states in {folder} are", remake=folder)


def unpack_optimizer(tensors: dict[str, Tensor], model: nn.Module, optimizer: Optimizer) -> None:
    """Put a state's moments into `optimizer`, on its weights' devices and laid out as they are.

    The layout matters: a fused optimiser walks weights and moments in the order in which they lie in memory.
    """
    import torch

    weights = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if name.startswith(OPTIMIZER):
            key, weight_name = name[len(OPTIMIZER) :].split("/", 1)
            weight = weights[weight_name]
            like = weight if tensor.shape == weight.shape else tensor.to(weight.device)
            optimizer.state[weight][key] = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
