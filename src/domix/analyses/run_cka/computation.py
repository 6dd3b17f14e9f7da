"""The table of all runs together: every chosen run against the first of them, on the same test images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.analyses.contract import Findings
from domix.analyses.hsic import LEAST
from domix.analyses.run_cka import ANALYSIS
from domix.analyses.run_cka.minibatch import MinibatchCka, split_rows
from domix.analyses.run_cka.settings import Settings
from domix.analyses.sampling import draw_rows
from domix.encoders.sites import Site, require_site
from domix.model.checkpoint import WEIGHTS
from domix.runtime.files import sha256_file

if TYPE_CHECKING:
    from domix.activations.store import ActivationStore
    from domix.analyses.contract import StudyInputs
    from domix.study import Run

log = logging.getLogger(__name__)

SCHEMA = ANALYSIS.joint_tables["run_cka"]


def joint_key(inputs: StudyInputs, settings: Settings) -> Mapping[str, Any]:
    """Return digests of the runs' weights and of the index of the images."""
    runs = chosen_runs(inputs, settings)
    files = {run.name: inputs.of_run(run).model_folder / WEIGHTS for run in runs}
    files["index"] = inputs.artifacts / "shards" / inputs.sources[0] / "index.parquet"
    return {name: sha256_file(path) if path.exists() else None for name, path in files.items()}


def run_jointly(inputs: StudyInputs, settings: Settings) -> Findings:
    """Compare the chosen runs, the first with itself too; no rows where the study has none of them.

    Raises:
        DataError: a file is missing or damaged, a model lacks a site, or activations are not finite.
    """
    runs = chosen_runs(inputs, settings)
    if not runs:
        return Findings({"run_cka": SCHEMA.empty()})
    images = inputs.of_run(runs[0]).test_images()
    drawn = draw_rows(images["domain"].to_numpy(dtype=object), settings.images, seed=settings.seed)
    images = images.iloc[drawn].reset_index(drop=True)
    opened = [_open(inputs, run, images, settings.sites) for run in runs]
    groups = {"all": np.arange(len(images))}
    groups |= {str(name): np.flatnonzero(images["domain"] == name) for name in inputs.study.domains}
    parts = []
    for name, rows in groups.items():
        if len(rows) < LEAST:
            log.warning("no CKA of %s images: there are %d, and it needs %d", name, len(rows), LEAST)
            continue
        batches = split_rows(rows, size=settings.batch, seed=settings.seed)
        for run, found in zip(runs, opened, strict=True):
            head = {"reference": runs[0].name, "run": run.name, "images": name, "n": len(rows)}
            parts.append(_compare(opened[0], found, batches).assign(**head))
    table = pd.concat([SCHEMA.empty(), *parts], ignore_index=True)
    return Findings({"run_cka": table.astype({column.name: column.dtype for column in SCHEMA.columns})})


def chosen_runs(inputs: StudyInputs, settings: Settings) -> list[Run]:
    """Return the runs to compare, those of the first mixture of the settings first."""
    order = inputs.study.mixtures if settings.mixtures is None else settings.mixtures
    return sorted(ANALYSIS.chosen(settings, inputs.study.runs), key=lambda run: order.index(run.mixture))


Opened = tuple["ActivationStore", Sequence[Site]]


def _open(inputs: StudyInputs, run: Run, images: pd.DataFrame, sites: Sequence[str] | None) -> Opened:
    """Return a run's activations of the images, and its sites that are asked for."""
    model = inputs.of_run(run).model
    known = {site.name: site for site in model.encoder.sites}
    for name in sites or ():
        require_site(name, known)
    wanted = [site for name, site in known.items() if sites is None or name in sites]
    return model.activations(inputs.sources[0], images, [site.name for site in wanted]), wanted


def _compare(reference: Opened, run: Opened, batches: Sequence[NDArray[np.int64]]) -> pd.DataFrame:
    """Return `site_a, depth_a, site_b, depth_b, value` of every two sites that tell images apart."""
    gathered = MinibatchCka()
    for rows in batches:
        a, b = ({site.name: store.take(site.name, rows) for site in sites} for store, sites in (reference, run))
        gathered.update(a, b)
    rows = list(_defined(gathered.result(), reference[1], run[1]))
    return pd.DataFrame(rows, columns=["site_a", "depth_a", "site_b", "depth_b", "value"])


def _defined(
    values: NDArray[np.float64], sites_a: Sequence[Site], sites_b: Sequence[Site]
) -> Iterator[tuple[str, int, str, int, float]]:
    for a, line in zip(sites_a, values, strict=True):
        for b, value in zip(sites_b, line, strict=True):
            if np.isnan(value):
                log.warning("no CKA of the sites %s and %s: one of them does not tell images apart", a.name, b.name)
            else:
                yield a.name, a.depth, b.name, b.depth, float(value)
