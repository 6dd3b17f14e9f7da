"""WiSE-FT's weights between a model and what fine-tuning made of it (Wortsman et al. 2022, section 3).

    theta_a = (1 - a) theta_0 + a theta_1

of every weight and buffer of tower and head, batch norm's running means and variances among them, as the reference
does it to state dicts. Of integer buffers (batch norm's count of batches) the same, rounded to the next whole number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from domix.encoders.classifiers import load_any_classifier
from domix.finetuning.wise_ft import START
from domix.model.checkpoint import CONFIG, WEIGHTS, fill, load_tensors, save_tensors
from domix.model.classifier import Classifier
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import atomic_folder, read_json, write_json

ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def interpolate(zero_shot: Mapping[str, Tensor], fine_tuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return the weights and buffers at `alpha`: 0 is the zero-shot model, 1 the fine-tuned one, both exactly.

    Raises:
        ParameterError: alpha is none from 0 to 1.
        DataError: the two are of different models.
    """
    if not 0 <= alpha <= 1:
        raise ParameterError(f"alpha must be from 0 to 1, not {alpha}", argument="alpha")
    if differing := sorted(zero_shot.keys() ^ fine_tuned.keys()):
        raise DataError(f"the two models are not one before and after fine-tuning: one lacks {differing[0]}")
    found = {}
    for name, start in zero_shot.items():
        end = fine_tuned[name]
        if start.shape != end.shape:
            raise DataError(
                f"the two models are not one before and after fine-tuning: {name} is {tuple(start.shape)} and"
                f" {tuple(end.shape)}"
            )
        if start.is_floating_point():
            found[name] = (1 - alpha) * start + alpha * end
        else:
            found[name] = ((1 - alpha) * start.double() + alpha * end.double()).round().to(start.dtype)
    return found


def along(folder: Path, alphas: Sequence[float]) -> Iterator[tuple[float, Classifier]]:
    """Yield each alpha and the classifier of a fine-tuned folder there; it is one module, whose weights change.

    Raises:
        DataError: the folder is not of a fine-tuning, or a file is damaged.
        ParameterError: an alpha is none from 0 to 1.
    """
    model, start, end = _both(folder)
    for alpha in alphas:
        fill(model, interpolate(start, end, alpha), f"the weights in {folder} are", remake=folder)
        yield alpha, model.eval()


def write_interpolated(folder: Path, alpha: float, out: Path) -> None:
    """Write the model of a fine-tuned folder at `alpha` as a model folder of its own, whole or not at all.

    Raises:
        DataError, ParameterError: as `along`.
        DomixError: it cannot be written.
    """
    _, start, end = _both(folder)
    config: dict[str, Any] = read_json(folder / CONFIG)
    tensors = interpolate(start, end, alpha)
    with atomic_folder(out) as temporary:
        save_tensors(tensors, temporary / WEIGHTS)
        write_json(temporary / CONFIG, config | {"alpha": alpha})


def _both(folder: Path) -> tuple[Classifier, dict[str, Tensor], dict[str, Tensor]]:
    if not (folder / START).is_file():
        raise DataError(f"{folder} holds no model before its fine-tuning: name a folder that domix finetune wrote")
    model, _ = load_any_classifier(folder)
    return model, load_tensors(folder / START), load_tensors(folder / WEIGHTS)
