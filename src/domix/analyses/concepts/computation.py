"""The tables of one run: average precision of its units for the concepts that test images show.

Shapes: N images, U units, C concepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.analyses.concepts import ANALYSIS
from domix.analyses.concepts.settings import Settings
from domix.analyses.concepts.study_concepts import study_concepts
from domix.analyses.model_facts import model_facts
from domix.analyses.sampling import draw_rows
from domix.runtime.errors import DataError
from domix.signature.concepts import THRESHOLDS, concept_curve

if TYPE_CHECKING:
    from domix.analyses.contract import RunInputs

OUTPUT = "output"


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Measure one run.

    Raises:
        DataError: an input is missing or damaged, the model lacks a site, or too few images show any concept.
    """
    rows = inputs.readout.rows
    drawn = draw_rows(rows["domain"].to_numpy(dtype=object), settings.images, seed=settings.seed)
    every = study_concepts(rows.iloc[drawn], inputs.artifacts / "shards" / inputs.sources[0])
    known = every.usable(settings.negatives, settings.least)
    named = {"concept": known.names, "category": [known.categories[place] for place in known.category]}
    sizes = {"shown": known.images, "images": known.candidates(settings.negatives)}
    tables: dict[str, list[pd.DataFrame]] = {"concepts": [], "units": [], "curve": []}
    for site, values in activations_of(inputs, drawn, settings.sites):
        signs = (1, -1) if settings.negated else (1,)
        try:
            ap = np.concatenate([known.ap(sign * values, settings.negatives) for sign in signs])
        except DataError as error:
            raise error.prefixed(f"site {site} of {inputs.run.name}") from error
        width = values.shape[1]
        best = ap.argmax(axis=0)
        head = {"ap": ap.max(axis=0), "unit": best % width, "sign": np.array(signs)[best // width]}
        tables["concepts"].append(pd.DataFrame({"site": site, **named, **sizes, **head}))
        unit, concept = np.nonzero(ap >= THRESHOLDS[0])
        pairs = {"unit": unit % width, "sign": np.array(signs)[unit // width]}
        pairs |= {name: np.array(values, dtype=object)[concept] for name, values in named.items()}
        tables["units"].append(pd.DataFrame({"site": site, **pairs, "ap": ap[unit, concept]}))
        tables["curve"].append(pd.DataFrame({"site": site, **vars(concept_curve(ap))}))
    return {name: _typed(name, parts) for name, parts in tables.items()} | {"models": model_facts(inputs)}


def activations_of(
    inputs: RunInputs, drawn: NDArray[np.int64], sites: list[str]
) -> Iterator[tuple[str, NDArray[np.floating[Any]]]]:
    """Yield (site, activations [N, U]) of some test images: what the head reads, then channels averaged over positions.

    Raises:
        DataError: the model lacks a site, or an image cannot be read.
    """
    yield OUTPUT, np.asarray(inputs.readout.activations[drawn])
    if sites:
        from domix.encoders.sites import require_site

        model, images = inputs.model, inputs.test_images().iloc[drawn]
        for name in sites:
            require_site(name, {site.name: site for site in model.encoder.sites})
        batches = model.batches(inputs.sources[0], images)
        passes = [model.encoder.forward(batch, sites, pooled=True).sites for batch in batches]
        for name in sites:
            yield name, np.concatenate([found[name].cpu().float().numpy() for found in passes])


def _typed(name: str, parts: list[pd.DataFrame]) -> pd.DataFrame:
    kinds = {column.name: column.dtype for column in ANALYSIS.tables[name].columns}
    table = pd.concat(parts, ignore_index=True).rename(columns={"thresholds": "threshold"})
    return table[list(kinds)].astype(kinds)
