"""Run one analysis over all runs of the study: `python -m stages.analyse <name>`."""

from domix.analyses.contract import StudyInputs
from domix.analyses.registry import find
from domix.analyses.runner import analyse
from domix.project.common import ARTIFACTS, STATE, SUMMARY, original_root, run
from domix.runtime.errors import ParameterError, passing
from domix.runtime.kept import Kept
from domix.settings.params import Params
from domix.settings.shared import shared_of
from domix.study import list_runs, read_study


def main(params: Params, name: str) -> None:
    analysis = find(name)
    if name not in params.analyses:
        raise ParameterError(f"the analysis {name} has no block in analyses: add `{name}: {{}}` to run it")
    inputs = StudyInputs(
        study=read_study(SUMMARY, list_runs(params.mixtures, params.seeds)),
        sources=tuple(params.sources),
        artifacts=ARTIFACTS,
        cache=original_root() / STATE,
        shared=shared_of(params),
    )
    kept = Kept(original_root() / STATE / "analyses")
    keys = {field: f"analyses.{name}.{field}" for field in type(params.analyses[name]).model_fields}
    with passing(indices=ARTIFACTS / "shards", data=ARTIFACTS / "shards", **keys):
        analyse(analysis, params.analyses[name], inputs, ARTIFACTS / "analysis" / name, kept)


if __name__ == "__main__":
    run(main)
