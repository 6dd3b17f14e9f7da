"""What a run's linear head reads, and the head: what CLIP models and classifiers have in common.

    kind         activations [N, D]                               head [K, D]                      bias [K]
    clip         image embeddings, of length one                  the prototypes of the classes    none
    supervised   features: what the last layer reads              its rows of the study's classes  its own

of classifiers in these files beside their scores (domix.embed.embeddings):

    features.npy        float32 [N, D] (of checkpoints float16), of sets, too
    head.safetensors    float32 weight [K, D] and bias [K], of the study's images alone

Shapes: N images, D width, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from domix.embed.embeddings import SUPERVISED, load_scored
from domix.runtime.errors import DataError

FEATURES, HEAD = "features.npy", "head.safetensors"


@dataclass(frozen=True)
class Readout:
    """Activations of a run's evaluation images, and the head that reads them: logits = activations @ head.T + bias.

    Attributes:
        rows: of the images, with the columns of embeddings.ROWS.
        domains: of the study.
        classes: of the study, in label order.
        activations: [N, D].
        head: [K, D], in label order.
        bias: [K]; of a zero-shot head none.
    """

    rows: pd.DataFrame
    domains: list[str]
    classes: list[str]
    activations: NDArray[np.float32]
    head: NDArray[np.float32]
    bias: NDArray[np.float32] | None = None


def load_activations(
    folder: Path, kind: str, *, checkpoint: int | None = None, source: str | None = None
) -> NDArray[np.floating[Any]]:
    """Return what the head of a run reads of its test images, or of a set's [N, D]; see embeddings.load_scored.

    Raises:
        DataError: a file is missing or damaged, the parts do not fit each other, or the classifier has no linear head.
    """
    scored = load_scored(folder, kind, checkpoint=checkpoint, source=source)
    if kind != SUPERVISED:
        return scored.image_embeddings
    path = scored.folder / FEATURES
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(_no_features(path), remake=folder) from None
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is damaged ({error})", remake=folder) from error
    if found.ndim != 2 or found.dtype not in (np.float16, np.float32) or len(found) != len(scored.rows):
        raise DataError(
            f"{path} is {found.dtype} {found.shape}, not the features of {len(scored.rows)} images", remake=folder
        )
    return found


def load_classifier_readout(folder: Path) -> Readout:
    """Return the features of a classifier's test images, and its last layer.

    Raises:
        DataError: as `load_activations`.
    """
    scored = load_scored(folder, SUPERVISED)
    activations = np.array(load_activations(folder, SUPERVISED), dtype=np.float32)
    path = folder / HEAD
    try:
        layer = load_file(path)
        head, bias = layer["weight"], layer["bias"]
    except FileNotFoundError:
        raise DataError(_no_features(path), remake=folder) from None
    except (SafetensorError, OSError, KeyError) as error:
        raise DataError(f"{path} is damaged ({error})", remake=folder) from error
    classes = len(scored.classes)
    if head.shape != (classes, activations.shape[1]) or bias.shape != (classes,):
        raise DataError(
            f"{path} has a layer {head.shape} with a bias {bias.shape}, for {classes} classes and features"
            f" {activations.shape[1]} wide",
            remake=folder,
        )
    return Readout(scored.rows, scored.meta["domains"], scored.classes, activations, head, bias)


def _no_features(path: Path) -> str:
    return f"{path} is missing (older embeddings have none, nor classifiers whose last layer is no linear one)"
