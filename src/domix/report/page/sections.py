"""What the analyses say of a study: each one's section, from what it found."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from domix.analyses.contract import AnalysisResults, Images, Section
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
    asked = asked_study(study)

    def section(name: str, settings: Settings) -> Section:
        found = study.analyses[name]
        results = AnalysisResults(found.tables, found.facts, settings, shared, images, params.sources[0])
        return find(name).section(results, asked)

    made = {name: section(name, settings) for name, settings in params.analyses.items() if name in study.analyses}
    of_classes = {name: frame for each in made.values() for name, frame in each.scores.items()}
    of_models = {name: frame for each in made.values() for name, frame in each.model_scores.items()}
    scores = scored(study, of_classes, of_models)
    tested = claim.section(study, scores, resamples=params.evaluate.bootstrap, seed=params.evaluate.seed)
    return made | ({claim.NAME: tested} if tested else {}), scores


def metrics(sections: dict[str, Section]) -> dict[str, float | int | str]:
    """Return the sections' metrics, each led by the name of its analysis."""
    return {f"{name}.{key}": value for name, section in sections.items() for key, value in section.metrics.items()}


def asked_study(study: Results) -> Asked:
    """Return what a study asks, without what was found."""
    trained = [Run(CLIP, mixture, seed) for mixture, seed in study.models]
    return study_of(study.summary, [*trained, *study.study.runs_of(SUPERVISED)])
