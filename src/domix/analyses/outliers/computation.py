"""The tables of one run: the output over all test images and checkpoints, and every site of some of them.

Shapes: N images, D width of the output, C channels of a site.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.analyses.model_facts import model_facts
from domix.analyses.outliers import ANALYSIS
from domix.analyses.outliers.settings import Settings
from domix.analyses.sampling import draw_rows
from domix.embed.readout import load_activations
from domix.encoders.sites import require_site
from domix.evaluate.outcomes import ScoredModel
from domix.evaluate.trajectories import epochs_of
from domix.runtime.errors import DataError
from domix.signature.kurtosis import activation_kurtosis, differing, summarise
from domix.signature.outliers import large_features, outlier_features

if TYPE_CHECKING:
    from domix.analyses.contract import RunInputs
    from domix.encoders.encoder import ImageEncoder
    from domix.encoders.sites import Site

logger = logging.getLogger(__name__)
ALL = "all"
Groups = Mapping[str, NDArray[np.int64]]


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Measure one run.

    Raises:
        DataError: an input is missing or damaged, the model lacks a site, or an activation is not finite or dead.
    """
    sites, features = site_tables(inputs, settings)
    return {
        "output": output_table(inputs, settings),
        "sites": sites,
        "features": features,
        "models": model_facts(inputs),
    }


def output_table(inputs: RunInputs, settings: Settings) -> pd.DataFrame:
    """Measure what the head reads of all test images, at all checkpoints that were embedded."""
    rows = inputs.readout.rows
    groups = groups_of(rows["domain"], inputs.study.domains)
    found = []
    for epoch, checkpoint in epochs_of(ScoredModel(inputs.run, "", inputs.embeddings_folder)):
        activations = np.asarray(load_activations(inputs.embeddings_folder, inputs.run.kind, checkpoint=checkpoint))
        try:
            measured = measure(activations, groups, settings.deviations)
        except DataError as error:
            raise error.prefixed(f"the output of {inputs.run} after {epoch} epochs") from error
        found += [{"checkpoint": epoch, **values} for values in measured]
    return pd.DataFrame(found)


def site_tables(inputs: RunInputs, settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure the sites asked for before training, at every checkpoint and after: the tables `sites` and `features`."""
    sites, features = [], []
    if settings.sites != []:
        images = inputs.test_images()
        drawn = draw_rows(images["domain"].to_numpy(dtype=object), settings.images, seed=settings.seed)
        images = images.iloc[drawn].reset_index(drop=True)
        groups = groups_of(images["domain"], [inputs.study.natural_domain, inputs.study.test_domain])
        for when, site, activations in activations_of(inputs, images, settings.sites):
            head = {**when, "site": site.name, "depth": site.depth}
            try:
                measured = measure(activations, groups, settings.deviations)
            except DataError as error:
                raise error.prefixed(f"site {site.name} of {inputs.run}, {_told(when)}") from error
            for values in measured:
                large = large_features(activations[groups[values["images"]]], settings.magnitude, settings.frequency)
                sites.append(head | {"width": activations.shape[1], **values, "large": len(large)})
            outlying = outlier_features(activations, settings.deviations)
            for feature in outlying.indices:
                size = float(outlying.mean_absolute[feature])
                times = size / float(outlying.mean_absolute.mean())
                features.append(head | {"feature": int(feature), "mean_absolute": size, "times_mean": times})
    return _typed("sites", sites), _typed("features", features)


def activations_of(
    inputs: RunInputs, images: pd.DataFrame, asked: Sequence[str] | None
) -> Iterator[tuple[dict[str, Any], Site, NDArray[np.floating[Any]]]]:
    """Yield (of which weights, site, activations [N, C]) of images, averaged over positions, as training went on."""
    model, source = inputs.model, inputs.sources[0]
    known = {site.name: site for site in model.encoder.sites}
    for name in asked or ():
        require_site(name, known)
    wanted = [site for name, site in known.items() if asked is None or name in asked]
    names = [site.name for site in wanted]
    batches = list(model.batches(source, images))
    for when, encoder in encoders_of(inputs):
        passes = [encoder.forward(batch, names, pooled=True).sites for batch in batches]
        for site in wanted:
            yield when, site, np.concatenate([found[site.name].cpu().float().numpy() for found in passes])


def encoders_of(inputs: RunInputs) -> Iterator[tuple[dict[str, Any], ImageEncoder]]:
    """Yield (of which weights: columns weights and checkpoint, the model with them), as training went on.

    Checkpoints are those that were embedded; one kept before the first step is of the initial weights.
    """
    model = inputs.model
    yield {"weights": "initial", "checkpoint": 0}, model.initial(inputs.run.seed)
    for epochs, checkpoint in epochs_of(ScoredModel(inputs.run, "", inputs.embeddings_folder)):
        if checkpoint is None:
            yield {"weights": "last", "checkpoint": epochs}, model.encoder
        elif epochs > 0:
            yield {"weights": "kept", "checkpoint": epochs}, model.after(epochs)


def _told(when: dict[str, Any]) -> str:
    epochs = f" after {when['checkpoint']} epochs" if when["weights"] == "kept" else ""
    return f"{when['weights']} weights{epochs}"


def measure(activations: NDArray[np.floating[Any]], groups: Groups, deviations: float) -> list[dict[str, Any]]:
    """Return kurtosis and outlier features of activations [N, C] over each group of images.

    Images whose components are all equal (of a model that is dead for them) are left out, and said to be.

    Raises:
        DataError: a value is not finite, or all images of a group are left out.
    """
    differ = differing(activations)
    if left := len(differ) - int(differ.sum()):
        logger.warning("%d of %d images are left out: all components of their activation are equal", left, len(differ))
    kurtosis = np.full(len(differ), np.nan)
    if differ.any():
        kurtosis[differ] = activation_kurtosis(activations[differ])
    found = []
    for name, members in groups.items():
        rows = members[differ[members]]
        if not len(rows):
            raise DataError(
                f"all components of the activation are equal for every one of {len(members)} images, so that none has a"
                " kurtosis: look for a site or a training that is dead"
            )
        over, outlying = summarise(kurtosis[rows]), outlier_features(activations[rows], deviations)
        values = {"kurtosis": over.mean, "median": over.median, "standard_error": over.standard_error}
        values |= {"outliers": len(outlying.indices), "norm_share": outlying.norm_share}
        found.append({"images": name, **values, "n": len(rows)})
    return found


def groups_of(domains: pd.Series, named: Sequence[str]) -> Groups:
    """Return the numbers of all images, and of those of each domain named that has any."""
    of_domain = {name: np.flatnonzero(domains == name) for name in named}
    return {ALL: np.arange(len(domains))} | {name: rows for name, rows in of_domain.items() if len(rows)}


def _typed(name: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows) if rows else ANALYSIS.tables[name].empty()
