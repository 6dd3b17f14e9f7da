"""What the analyses say of a study: each one's section, from what it found."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pandas as pd

from domix.analyses.contract import AnalysisResults, Images, Section
from domix.analyses.groups import label
from domix.analyses.registry import find
from domix.report.load.study import Results
from domix.report.page import claim
from domix.report.page.examples import data_uri
from domix.report.tables.claim import scored
from domix.runtime.settings import Settings
from domix.settings.params import Params
from domix.settings.shared import shared_of
from domix.study import CLIP, SUPERVISED, Run, study_of
from domix.study import Study as Asked

logger = logging.getLogger(__name__)


def make_sections(
    study: Results, params: Params, read: Callable[[str, int], bytes]
) -> tuple[dict[str, Section], pd.DataFrame]:
    """Return the sections of the analyses that the parameters ask for, by name, in their order, and what tests them.

    With them goes what they say of held-out classes and of models, beside accuracy (domix.report.tables.claim.SCORES).

    Args:
        read: returns the encoded image of a source and a row of its index.

    Raises:
        DataError: a section is not as its analysis declares it.
    """
    classes = study.predictions.drop_duplicates("row").set_index("row")["class"]
    images = Images(lambda source, row: data_uri(read(source, row)), lambda row: str(classes[row]))
    shared = shared_of(params)
    asked, unlike = asked_study(study), say_unlike(study)
    if unlike:
        logger.warning("%s", unlike)

    def section(name: str, settings: Settings) -> Section:
        found = study.analyses[name]
        results = AnalysisResults(found.tables, found.facts, settings, shared, images, params.sources[0], unlike=unlike)
        return find(name).section(results, asked)

    made = {name: section(name, settings) for name, settings in params.analyses.items() if name in study.analyses}
    of_classes = {name: frame for each in made.values() for name, frame in each.scores.items()}
    of_models = {name: frame for each in made.values() for name, frame in each.model_scores.items()}
    of_others: dict[str, dict[str, pd.DataFrame]] = {}
    for each in made.values():
        for kind, frames in each.other_scores.items():
            of_others.setdefault(kind, {}).update(frames)
    scores = scored(study, of_classes, of_models, of_others)
    tested = claim.section(study, scores, resamples=params.evaluate.bootstrap, seed=params.evaluate.seed)
    return made | ({claim.NAME: tested} if tested else {}), scores


def metrics(sections: dict[str, Section]) -> dict[str, float | int | str]:
    """Return the sections' metrics, each led by the name of its analysis."""
    return {f"{name}.{key}": value for name, section in sections.items() for key, value in section.metrics.items()}


def say_unlike(study: Results) -> str:
    """Say in one sentence how the CLIP models and classifiers of a study do not read images alike; nothing if they do.

    All read the central square, normalised alike (domix.encoders.preprocess.square): they differ in its size alone.
    """
    sizes: dict[int, list[str]] = {}
    for (mixture, _), found in study.models.items() if study.further.classifiers else ():
        shape = found["config"]["model"]["vision_cfg"].get("image_size", 224)  # open_clip's default
        sizes.setdefault(shape if isinstance(shape, int) else shape[0], []).append(mixture)
    for (mixture, _), found in study.further.classifiers.items():
        sizes.setdefault(found["config"]["encoder"]["image_size"], []).append(label(SUPERVISED, mixture))
    if len(sizes) < 2:
        return ""
    each = "; ".join(f"{size} x {size} pixels: {', '.join(dict.fromkeys(names))}" for size, names in sizes.items())
    return f"CLIP models and classifiers do not read the images alike, from which differences may come ({each})."


def asked_study(study: Results) -> Asked:
    """Return what a study asks, without what was found."""
    trained = [Run(CLIP, mixture, seed) for mixture, seed in study.models]
    return study_of(study.summary, [*trained, *study.study.runs_of(SUPERVISED)])
