"""Run one analysis over all runs of the study: `python -m stages.analyse <name>`."""

from domix.analyses.registry import find
from domix.analyses.runner import analyse
from domix.project.analysing import kept_tables, passing_settings, study_inputs
from domix.project.common import ARTIFACTS, run
from domix.project.threads import limited_threads
from domix.runtime.errors import ParameterError
from domix.settings.params import Params


def main(params: Params, name: str) -> None:
    analysis = find(name)
    if name not in params.analyses:
        raise ParameterError(f"the analysis {name} has no block in analyses: add `{name}: {{}}` to run it")
    with limited_threads(params.trainer.threads), passing_settings(params, name):
        analyse(analysis, params.analyses[name], study_inputs(params), ARTIFACTS / "analysis" / name, kept_tables())


if __name__ == "__main__":
    run(main)
