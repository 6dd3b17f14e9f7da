"""Weights that others have saved, read without running anything that the file might hold.

Safetensors files hold tensors and nothing else. Files of torch.save are pickles, which may call any function when they
are read: torch's own restricted reader takes tensors and plain containers from them. Where a trainer has saved more
(its arguments, a number of NumPy), domix.encoders.weights.inert_pickle reads the tensors and lets the rest be.

Trainers save weights under names of their own, which are taken off: dictionaries about the state dict (`state_dict`,
`model`), what wraps a model or a part of it (DistributedDataParallel, torch.compile), and the attribute that holds the
model in a LightningModule.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domix.encoders.weights.inert_pickle import Inert, load_inert
from domix.runtime.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")  # the last: model_best.pth.tar
# What stands about a model or a part of it, and holds nothing else.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
PLACES = ("state_dict", "model_state_dict", "model_state", "model", "module", "weights", "params")  # the first counts
NOT_WEIGHTS = ("optimizer", "optimizer_states", "lr_schedulers", "scaler", "state", "scheduler")  # but of the training
DEEPEST = 4  # dictionaries in one another
SCALE, TOWERS = "logit_scale", ("visual.", "vision_model.")  # what every CLIP has
SAFE = "save its state dict with safetensors.torch.save_file instead"

Tree = dict[tuple[str, bool], Any]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict, on the CPU: of a safetensors file, or of torch.save, bare or as a trainer keeps it.

    What is no tensor is left out, and so is what lies beside a CLIP that has a place of its own in the state dict.

    Raises:
        DataError: the file is missing, damaged, another kind of file, holds no tensors by name, or several models.
    """
    if not path.is_file():
        raise DataError(f"the weights {path} are missing")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} is no file of weights: known endings are {', '.join(SUFFIXES)}")
    safe = path.suffix.lower() == ".safetensors"
    tensors = _read_safetensors(path) if safe else _state_dict(_read_torch(path), path)
    return _only_model(dict(_unwrapped(_tree(tensors))), path)


def _tree(tensors: Mapping[str, Tensor]) -> Tree:
    """Return weights by the parts of their names: (part, whether more parts follow) -> a tree, or the tensor."""
    root: Tree = {}
    for name, tensor in tensors.items():
        *above, last = name.split(".")
        node = root
        for part in above:
            node = node.setdefault((part, True), {})
        node[last, False] = tensor
    return root


def _unwrapped(node: Tree, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield a tree's weights with their names, without wrappers at any place: parts with nothing beside them."""
    while len(node) == 1 and (only := next(iter(node)))[1] and only[0] in WRAPPERS:
        node = node[only]
    for (part, more), value in node.items():
        if more:
            yield from _unwrapped(value, f"{path}{part}.")
        else:
            yield f"{path}{part}", value


def _only_model(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Take a CLIP out of what holds it, if one does (`model.visual...`, with `loss...` beside it)."""
    places = [name.removesuffix(SCALE) for name in tensors if name.rpartition(".")[2] == SCALE]
    places = [p for p in places if any(name.startswith(tuple(p + tower for tower in TOWERS)) for name in tensors)]
    if "" in places or not places:
        return tensors
    if len(places) > 1:
        raise DataError(f"{path} holds {len(places)} models, {' and '.join(places)}: save the weights of one of them")
    return {name.removeprefix(places[0]): tensor for name, tensor in tensors.items() if name.startswith(places[0])}


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
    except Exception as refusal:  # torch's reader passes on whatever the bytes lead it to
        try:
            return load_inert(path)
        except Exception:  # and so does ours
            raise DataError(f"the weights {path} are damaged, or no file of torch.save: copy them again") from refusal


def _is_program(path: Path) -> bool:
    """Tell whether a file is an archive of torch.jit.save; one of torch.save has no constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).name == "constants.pkl" for name in archive.namelist())


def _state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:
    """Return the tensors by name that a file holds, however deep they lie."""
    if (found := _find_tensors(loaded, DEEPEST)) is not None:
        return found
    others = loaded.items() if isinstance(loaded, dict) else [("", loaded)]
    if any(isinstance(value, Inert) for _, value in others):
        raise DataError(f"{path} holds objects whose code would have to be run, and no state dict: {SAFE}")
    several = [str(name) for name, value in others if name and _find_tensors(value, DEEPEST) is not None]
    what = f"several state dicts, {' and '.join(several)}" if several else "no state dict"
    raise DataError(f"{path} holds {what}: {SAFE}")


def _find_tensors(loaded: Any, depth: int) -> dict[str, Tensor] | None:
    """Return the tensors by name of the first of PLACES in a dictionary, its own, or those of its only other value."""
    import torch

    if not isinstance(loaded, dict) or not depth:
        return None
    for place in PLACES:
        if (found := _find_tensors(loaded.get(place), depth - 1)) is not None:
            return found
    if own := {k: v for k, v in loaded.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}:
        return own
    others = [_find_tensors(value, depth - 1) for name, value in loaded.items() if name not in NOT_WEIGHTS]
    known = [found for found in others if found is not None]
    return known[0] if len(known) == 1 else None
