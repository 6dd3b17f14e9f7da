"""The tables of one run: the pairs, how well changed images are still told from known ones, and a few to look at.

An image's score is the cosine with the nearest image of a bank of training images; foreign ones should score low. What
is scored are the images as their files hold them, in 8 bit.

Shapes: P pairs, N known test images, M of the bank, D embedding.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from domix.activations.encode import unit_embeddings
from domix.analyses.adversarial import ANALYSIS
from domix.analyses.adversarial.draw import Draw, draw_images
from domix.analyses.adversarial.files import SOURCE, TARGET, VARIANTS, as_png, open_images, pairs_table
from domix.analyses.adversarial.perturbation import budgets
from domix.analyses.adversarial.settings import Settings
from domix.embed.run_model import RunModel, open_run_model
from domix.evaluate.statistics import percentile_interval
from domix.ood.neighbours import nearest
from domix.ood.resampling import bootstrap_scores

if TYPE_CHECKING:
    from domix.analyses.contract import RunInputs

Floats = NDArray[np.floating]
Scores = Mapping[tuple[str, str], Floats]  # by what is scored and the bank
KNOWN, FOREIGN = "known", "foreign"
BANKS = ("all", "without")  # with the targets, or without them


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Make adversarial images of one run's model, and measure whether they deceive it; no rows where none is foreign.

    Raises:
        DataError: the model or images are missing or damaged, nothing is known to the run, or the model has no
            gradients or gives values that are not finite.
        ParameterError: there is no such set of foreign images.
    """
    drawn = draw_images(inputs, settings)
    if drawn is None:
        return {name: schema.empty() for name, schema in ANALYSIS.tables.items()}
    source, model = inputs.sources[0], _model(inputs, drawn)
    images = open_images(model, drawn, source, settings)
    batch = inputs.shared.batch
    embedded = {
        what: np.concatenate(list(unit_embeddings(model.encoder, tensors.split(batch))))
        for what, tensors in images.items()
    }
    bank = np.concatenate(list(model.embeddings(source, drawn.bank)))
    known = inputs.embeddings.image_embeddings[drawn.tests]
    banks = dict(zip(BANKS, (bank, bank[drawn.pairs :]), strict=True))  # the targets come first
    scores = {
        (what, name): nearest(rows, some, 1).similarity[:, 0]
        for name, some in banks.items()
        for what, rows in (embedded | {KNOWN: known}).items()
        if what != TARGET
    }
    return {
        "pairs": _pairs(images, embedded, scores, pairs_table(drawn, source)),
        "detection": _detection(scores, settings, inputs.shared.confidence),
        "examples": _examples(images, drawn, settings.shown),
    }


def _model(inputs: RunInputs, drawn: Draw) -> RunModel:
    """Return the run's model, which reads the foreign images as well."""
    if drawn.origin in inputs.model.readers:
        return inputs.model
    shards = {name: inputs.artifacts / "shards" / name for name in (*inputs.sources, drawn.origin)}
    return open_run_model(inputs.model_folder, inputs.run.kind, shards, inputs.model.context)


def _pairs(
    images: Mapping[str, Tensor], embedded: Mapping[str, Floats], scores: Scores, table: pd.DataFrame
) -> pd.DataFrame:
    kept = table[[name for name in table if not name.endswith("_file")]]
    parts = []
    for variant in VARIANTS:
        columns = budgets(images[SOURCE], images[variant])
        for when, what in (("before", SOURCE), ("after", variant)):
            found = {"cosine_{}": (embedded[what] * embedded[TARGET]).sum(axis=1)}
            found |= {"score_{}": scores[what, "all"], "score_{}_without": scores[what, "without"]}
            columns |= {name.format(when): values.astype(np.float64) for name, values in found.items()}
        parts.append(kept.assign(variant=variant, file=table[f"{variant}_file"], **columns))
    return pd.concat(parts, ignore_index=True)


def _detection(scores: Scores, settings: Settings, confidence: float) -> pd.DataFrame:
    """Return AUROC before and after, and how far it has moved, each with its interval over known and foreign images.

    All see the same draws, so that the interval of a difference is that of the same images before and after.
    """
    names = {f"{what}, {bank}": (what, bank) for what, bank in product((SOURCE, *VARIANTS), BANKS)}
    known = {name: scores[KNOWN, bank] for name, (_, bank) in names.items()}
    foreign = {name: scores[pair] for name, pair in names.items()}
    resampled = bootstrap_scores(known, {FOREIGN: foreign}, resamples=settings.resamples, seed=settings.seed)
    found = {pair: resampled[name, FOREIGN] for name, pair in names.items()}
    rows = []
    for variant, bank in product(VARIANTS, BANKS):
        before, after = found[SOURCE, bank], found[variant, bank]
        intervals = {
            "original": before.interval("auroc", confidence),
            "adversarial": after.interval("auroc", confidence),
            "difference": percentile_interval(
                after.auroc - before.auroc,
                after.aurocs - before.aurocs,
                confidence=confidence,
                classes=before.images,
                least=-1.0,
            ),
        }
        sizes = (len(scores[KNOWN, bank]), len(scores[SOURCE, bank]))
        rows += [(variant, bank, name, i.estimate, i.low, i.high, *sizes) for name, i in intervals.items()]
    return pd.DataFrame(rows, columns=["variant", "bank", "images", "auroc", "low", "high", "n_known", "n_foreign"])


def _examples(images: Mapping[str, Tensor], drawn: Draw, shown: int) -> pd.DataFrame:
    rows = []
    for number in range(min(shown, drawn.pairs)):
        for what, tensors in images.items():
            of = (drawn.targets if what == TARGET else drawn.sources).iloc[number]
            png = base64.b64encode(as_png(tensors[number])).decode("ascii")
            rows.append((number, what, f"{of['domain']}, {of['class']}", png))
    return pd.DataFrame(rows, columns=["pair", "image", "name", "png"]).astype({"pair": "int64"})
