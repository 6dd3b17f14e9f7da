"""Sparse autoencoders as files: our own, the reference study's checkpoints, and SAELens' layout.

<folder>/autoencoder.safetensors    the weights, by their names
<folder>/autoencoder.json           activation and k

Nothing that is read here runs code: checkpoints of torch.save are read for their tensors alone.

Shapes: C channels, F units.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from domix.analyses.sae.autoencoder import Activation, SparseAutoencoder
from domix.encoders.weights.weight_files import read_tensors
from domix.model.checkpoint import fill, load_tensors, save_tensors
from domix.runtime.errors import DataError
from domix.runtime.files import read_json, write_json

WEIGHTS, ABOUT = "autoencoder.safetensors", "autoencoder.json"
SAELENS_WEIGHTS, SAELENS_CONFIG = "sae_weights.safetensors", "cfg.json"
SAELENS_FORMAT = "6.0.0"  # whose layout it is; without a version SAELens takes an older one, and forgets the metadata
# What the reference study calls the weights; its tensors have an axis of length one in front.
REFERENCE = {
    "tied_bias": "tied_bias",
    "encoder._weight": "encoder_weight",
    "encoder._bias": "encoder_bias",
    "decoder._weight": "decoder_weight",
}


def save(autoencoder: SparseAutoencoder, folder: Path) -> None:
    """Write an autoencoder into a folder.

    Raises:
        DomixError: there is no room, or the folder cannot be written.
    """
    save_tensors(autoencoder.state_dict(), folder / WEIGHTS)
    write_json(folder / ABOUT, {"activation": autoencoder.activation, "k": autoencoder.k})


def load(folder: Path) -> SparseAutoencoder:
    """Read an autoencoder from a folder, ready to evaluate.

    Raises:
        DataError: a file is missing or damaged.
    """
    about, tensors = read_json(folder / ABOUT), load_tensors(folder / WEIGHTS)
    try:
        activation, k = about["activation"], int(about["k"])
        channels, units = tensors["decoder_weight"].shape
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder} holds no sparse autoencoder: delete it and train again") from error
    if activation not in get_args(Activation):
        raise DataError(f"{folder / ABOUT} names the activation {activation!r}, not {', '.join(get_args(Activation))}")
    made = SparseAutoencoder(channels, units, activation=activation, k=k)
    fill(made, tensors, f"the weights {folder / WEIGHTS} are", remake=folder)
    return made.eval()


def load_reference(path: Path) -> SparseAutoencoder:
    """Read a checkpoint of the reference study, `sparse_autoencoder_final.pt`.

    Raises:
        DataError: the file is missing or damaged, or holds something else.
    """
    tensors = read_tensors(path)
    if missing := [name for name in REFERENCE if name not in tensors]:
        raise DataError(f"{path} is no sparse autoencoder of the reference study: it lacks {', '.join(missing)}")
    return _of_tensors({ours: _single(tensors[name], path) for name, ours in REFERENCE.items()}, path)


def export_reference(autoencoder: SparseAutoencoder) -> dict[str, Tensor]:
    """Return the state dict that the reference study's `SparseAutoencoder` loads.

    Raises:
        DataError: the autoencoder's activation is none of the reference's.
    """
    if autoencoder.activation != "relu":
        raise DataError(f"the reference study's autoencoders have a ReLU, not {autoencoder.activation}")
    ours = autoencoder.state_dict()
    made = {name: ours[own][None].clone() for name, own in REFERENCE.items()}
    return made | {f"{where}._bias_reference": made["tied_bias"] for where in ("pre_encoder_bias", "post_decoder_bias")}


def export_saelens(autoencoder: SparseAutoencoder, folder: Path, *, site: str = "", model: str = "") -> None:
    """Write an autoencoder as SAELens loads it (`SAE.load_from_disk`): weights and cfg.json.

    One of batchtopk becomes a `jumprelu` one with its threshold, as SAELens keeps its own.

    Args:
        autoencoder: that has learnt.
        folder: is made if need be.
        site: whose activations it reads, for its metadata.
        model: what they are of.

    Raises:
        DomixError: there is no room, or the folder cannot be written.
    """
    names = {"relu": "standard", "topk": "topk", "batchtopk": "jumprelu"}
    weights = {
        "W_enc": autoencoder.encoder_weight.T,
        "b_enc": autoencoder.encoder_bias,
        "W_dec": autoencoder.decoder_weight.T,
        "b_dec": autoencoder.tied_bias,
    }
    config: dict[str, Any] = {
        "architecture": names[autoencoder.activation],
        "d_in": autoencoder.channels,
        "d_sae": autoencoder.units,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"model_name": model, "hook_name": site, "sae_lens_version": SAELENS_FORMAT},
    }
    if autoencoder.activation == "topk":
        config |= {"k": autoencoder.k, "rescale_acts_by_decoder_norm": False}
    if autoencoder.activation == "batchtopk":
        weights["threshold"] = autoencoder.threshold.nan_to_num(0.0).expand(autoencoder.units)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(weights, folder / SAELENS_WEIGHTS)
    write_json(folder / SAELENS_CONFIG, config)


def _single(tensor: Tensor, path: Path) -> Tensor:
    if tensor.shape[0] != 1:
        raise DataError(f"{path} holds {tensor.shape[0]} sparse autoencoders in one: save them one by one")
    return tensor[0]


def _of_tensors(tensors: Mapping[str, Tensor], path: Path) -> SparseAutoencoder:
    weight = tensors["decoder_weight"]
    if weight.ndim != 2:
        raise DataError(f"{path} is no sparse autoencoder: its decoder has the shape {tuple(weight.shape)}")
    made = SparseAutoencoder(*weight.shape)
    whole = {name: tensor.float() for name, tensor in tensors.items()} | {"threshold": torch.tensor(float("nan"))}
    fill(made, whole, f"the weights {path} are", remake=path)
    return made.eval()
