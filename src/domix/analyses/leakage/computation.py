"""The tables of all runs together: one encoder reads the training samples of every mixture once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from domix.analyses.contract import Findings
from domix.analyses.leakage.audit import Search, audit, choose_encoder
from domix.analyses.leakage.settings import Settings
from domix.data.mixtures.composition import CELLS
from domix.data.mixtures.mixture import read_mixture
from domix.model.checkpoint import WEIGHTS
from domix.runtime.files import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

    from domix.analyses.contract import StudyInputs


def joint_key(inputs: StudyInputs, settings: Settings) -> Mapping[str, Any]:
    """Return digests of the mixtures, the indices of their sources, and the encoder's weights."""
    encoder = _encoder(inputs, settings)
    weights = encoder / WEIGHTS
    files = {
        **{f"mixture {name}": path for name, path in _mixtures(inputs).items()},
        **{f"index {name}": folder / "index.parquet" for name, folder in _shards(inputs).items()},
    }
    digests = {name: sha256_file(path) for name, path in files.items() if path.exists()}
    return digests | {"encoder": encoder.name, "weights": sha256_file(weights) if weights.exists() else None}


def run_jointly(inputs: StudyInputs, settings: Settings) -> Findings:
    """Look for held-out images in all mixtures.

    Raises:
        DataError: a file is missing or damaged, or the encoder's training has diverged.
        ParameterError: the settings name an encoder that the study lacks.
    """
    from domix.embed.passes import here

    search = Search(
        study=inputs.study,
        similarity=settings.similarity,
        near_bits=inputs.shared.near_bits,
        confidence=inputs.shared.confidence,
        context=here(inputs.cache, inputs.shared.batch),
    )
    mixtures = {name: read_mixture(path).rows for name, path in _mixtures(inputs).items()}
    return audit(mixtures, _shards(inputs), _encoder(inputs, settings), search)


def _encoder(inputs: StudyInputs, settings: Settings) -> Path:
    cells = CELLS.read(inputs.artifacts / "mixtures" / "cells.parquet", ["mixture", "samples"])
    return inputs.of_run(choose_encoder(inputs.study.runs, cells, settings.encoder)).model_folder


def _mixtures(inputs: StudyInputs) -> dict[str, Path]:
    names = dict.fromkeys(run.mixture for run in inputs.study.runs)
    return {name: inputs.artifacts / "mixtures" / f"{name}.parquet" for name in names}


def _shards(inputs: StudyInputs) -> dict[str, Path]:
    return {source: inputs.artifacts / "shards" / source for source in inputs.sources}
