"""What the stage `analyse` is given, and the analyses of one run while others still train.

`python -m domix.project.analysing <analysis> <kind> <mixture> <seed>` makes the tables of one run that the stage of the
analysis would make, and finds then: for a core that no training needs. A process each, as stages are: what one library
does to the threads of another would move last digits.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

from domix.analyses.contract import StudyInputs
from domix.analyses.registry import find
from domix.analyses.runner import keep_run
from domix.project.common import ARTIFACTS, STATE, SUMMARY, load_params, original_root, reporting
from domix.project.threads import limited_threads, spin_briefly
from domix.runs import Run
from domix.runtime.errors import passing
from domix.runtime.kept import Kept
from domix.settings.params import Params
from domix.settings.shared import shared_of
from domix.study import list_runs, read_study


def study_inputs(params: Params) -> StudyInputs:
    """Return what the analyses of a study may read.

    Raises:
        DataError: the mixtures' summary is missing or damaged.
    """
    return StudyInputs(
        study=read_study(SUMMARY, list_runs(params.mixtures, params.seeds, supervised=params.supervised.mixtures)),
        sources=tuple(params.sources),
        artifacts=ARTIFACTS,
        cache=original_root() / STATE,
        shared=shared_of(params),
    )


def kept_tables() -> Kept:
    """Return where the tables of runs are kept, for all copies of the repository."""
    return Kept(original_root() / STATE / "analyses")


def passing_settings(params: Params, name: str) -> AbstractContextManager[None]:
    """Name the keys of what an analysis is given, where one of them is wrong."""
    keys = {field: f"analyses.{name}.{field}" for field in type(params.analyses[name]).model_fields}
    return passing(indices=ARTIFACTS / "shards", data=ARTIFACTS / "shards", **keys)


def analyse_run(params: Params, name: str, run: Run) -> None:
    """Make and keep a run's tables of an analysis.

    Raises:
        DataError, ParameterError: as of its stage.
    """
    with limited_threads(params.trainer.threads), passing_settings(params, name):
        keep_run(find(name), params.analyses[name], study_inputs(params), run, kept_tables())


if __name__ == "__main__":
    spin_briefly()  # before anything imports torch
    with reporting("analysing"):
        asked, kind, mixture, seed = sys.argv[1:]
        analyse_run(load_params(), asked, Run(kind, mixture, int(seed)))
