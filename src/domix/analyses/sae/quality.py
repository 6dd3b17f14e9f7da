"""How good a sparse autoencoder is: what it leaves out, how sparse it is, and what the model makes of what it says.

The last is an edit: the reconstruction takes the place of the activation, and the model goes on to its zero-shot
prediction. Loss recovered is (L0 - L') / (L0 - L), with L the model's own cross-entropy, L' that with the
reconstruction, and L0 that with zeros in the place of the activation (Bricken et al. 2023); there is none where the
model is no better than the guess that zeros give.

Shapes: N images, C channels, F units, D embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domix.analyses.sae.reconstruction import ImageReconstruction, shares
from domix.analyses.sae.trained import Trained
from domix.encoders.encoder import Edit, Encoder
from domix.encoders.sites import pool_positions
from domix.evaluate.zeroshot import rank_true
from domix.model.checkpoint import WEIGHTS, load_tensors
from domix.runtime.arrays import BLOCK

if TYPE_CHECKING:
    from domix.analyses.sae.autoencoder import SparseAutoencoder

DOMAIN_COLUMNS = (
    "domain",
    "cells",
    "n",
    "explained_variance",
    "l0",
    "accuracy",
    "accuracy_reconstructed",
    "loss",
    "loss_reconstructed",
    "loss_ablated",
    "recovered",
)
Floats = NDArray[np.float32]


def reconstruction_edit(
    autoencoder: SparseAutoencoder, *, unit_length: bool, every_position: bool = False, nhwc: bool = False
) -> Edit:
    """Return the edit that puts the reconstruction in the place of a site's activation.

    An autoencoder of images knows the mean over positions alone: that is replaced, and what the positions differ by
    stays. One of positions replaces each of them.

    Args:
        autoencoder: of the site's activations.
        unit_length: it reads them scaled to length one.
        every_position: it reads positions one by one.
        nhwc: the site's maps have the shape [B, H, W, C].
    """

    def edit(activation: Tensor) -> Tensor:
        if every_position:
            last = activation.movedim(1, -1) if activation.ndim == 4 and not nhwc else activation
            rows = last.reshape(-1, last.shape[-1]).float().split(BLOCK)
            made = torch.cat([_reconstructed(autoencoder, some, unit_length) for some in rows]).reshape(last.shape)
            return (made.movedim(-1, 1) if last is not activation else made).to(activation.dtype)
        mean = pool_positions(activation, nhwc=nhwc).float()
        change = _reconstructed(autoencoder, mean, unit_length) - mean
        if activation.ndim == 4:
            change = change[:, None, None] if nhwc else change[:, :, None, None]
        elif activation.ndim == 3:
            change = change[:, None]
        return activation + change.to(activation.dtype)

    return edit


def _reconstructed(autoencoder: SparseAutoencoder, activations: Tensor, unit_length: bool) -> Tensor:
    """Return what an autoencoder makes of activations [B, C], at the length that they have."""
    length = activations.norm(dim=-1, keepdim=True) if unit_length else torch.ones_like(activations[:, :1])
    return autoencoder(activations / length.clamp_min(1e-12))[1] * length


def edited_embeddings(encoder: Encoder, batches: Iterable[Tensor], site: str, edit: Edit) -> Floats:
    """Return the unit embeddings [N, D] of images [B, 3, H, W] with an edit at a site."""
    outputs = (encoder.forward(batch, edits={site: edit}).output for batch in batches)
    return np.concatenate([F.normalize(output, dim=-1).cpu().numpy() for output in outputs])


def cross_entropy(embeddings: Floats, text: Floats, label: NDArray[np.int64], scale: float) -> NDArray[np.float64]:
    """Return the loss [N] of embeddings [N, D] against the prototypes [K, D] of classes, at the model's logit scale."""
    parts = []
    for start in range(0, len(label), BLOCK):
        some = slice(start, start + BLOCK)
        logits = torch.from_numpy(embeddings[some] @ text.T).double() * scale
        parts.append(F.cross_entropy(logits, torch.tensor(label[some]), reduction="none").numpy())
    return np.concatenate(parts)


def measure(trained: Trained) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure a run's autoencoder on the test images.

    Returns:
        One row of the whole, and DOMAIN_COLUMNS: every domain, its test and its seen classes.

    Raises:
        DataError: embeddings are missing or damaged, or of another study.
    """
    embeddings, reconstruction = trained.inputs.embeddings, trained.reconstruction
    label = embeddings.rows["label"].to_numpy()
    whole = {
        "site": trained.site.name,
        "channels": trained.autoencoder.channels,
        "units": trained.autoencoder.units,
        "n": len(label),
        "explained_variance": reconstruction.variance(np.ones(len(label), dtype=bool)),
        **shares(reconstruction.firing),
    }
    scale = float(load_tensors(trained.inputs.model_folder / WEIGHTS)["logit_scale"].exp())
    versions = {"": embeddings.image_embeddings, **_embeddings(trained)}
    loss = {name: cross_entropy(made, embeddings.text, label, scale) for name, made in versions.items()}
    right = {name: rank_true(made, embeddings.text, label)[1] == 1 for name, made in versions.items()}
    rows, domains = [], embeddings.rows["domain"].to_numpy(dtype=object)
    for domain in embeddings.domains:
        for cells, classes in trained.inputs.study.class_subsets().items():
            here = (domains == domain) & classes[label]
            if not here.any():
                continue
            means = {name: float(values[here].mean()) for name, values in loss.items()}
            gap = means["_ablated"] - means[""]
            rows.append(
                (
                    domain,
                    cells,
                    int(here.sum()),
                    reconstruction.variance(here),
                    reconstruction.l0(here),
                    balanced(right[""][here], label[here]),
                    balanced(right["_reconstructed"][here], label[here]),
                    *means.values(),
                    (means["_ablated"] - means["_reconstructed"]) / gap if gap > 0 else float("nan"),
                )
            )
    return pd.DataFrame([whole]), pd.DataFrame(rows, columns=list(DOMAIN_COLUMNS))


def balanced(right: NDArray[np.bool_], label: NDArray[np.int64]) -> float:
    """Return the mean over classes of the share of their images that are right."""
    return float(pd.Series(right).groupby(label).mean().mean())


def _embeddings(trained: Trained) -> dict[str, Floats]:
    """Return the unit embeddings [N, D] with the reconstruction in place, and with zeros.

    At the last site, which is the embedding, no image has to be read again.
    """
    model, site, reconstruction = trained.inputs.model, trained.site.name, trained.reconstruction
    if site == model.encoder.sites[-1].name and isinstance(reconstruction, ImageReconstruction):
        reconstructed = reconstruction.reconstructed
        length = np.maximum(np.linalg.norm(reconstructed, axis=1, keepdims=True), 1e-12)
        return {"_reconstructed": reconstructed / length, "_ablated": np.zeros_like(reconstructed)}
    edit = reconstruction_edit(
        trained.autoencoder,
        unit_length=trained.settings.unit_length,
        every_position=trained.every_position,
        nhwc=model.encoder.nhwc,
    )
    edits: dict[str, Edit] = {"_reconstructed": edit, "_ablated": torch.zeros_like}
    source = trained.inputs.sources[0]
    return {
        name: edited_embeddings(model.encoder, model.batches(source, trained.rows), site, change)
        for name, change in edits.items()
    }
