"""Put two experiments side by side: `python -m stages.compare A B`.

    python -m stages.compare main my-experiment              two revisions: commits, branches, tags, DVC's experiments
    python -m stages.compare HEAD .                          the last commit, and this workspace
    python -m stages.compare ../old . --out difference.html  two folders that hold params.yaml and artifacts

One page: every metric with both intervals, every test class, changed parameters. It trains and measures nothing.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from domix.config import Params
from domix.report.page.compare import Experiment, read_experiment, render
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_text
from stages.common import ARTIFACTS, run
from stages.studies.places import PARAMS, read_place
from stages.studies.revisions import of_revisions


def main(params: Params, *arguments: str) -> None:
    asked = parse(arguments)
    with ExitStack() as stack:
        text = render(bring(asked.a, stack), bring(asked.b, stack))
    write_text(Path(asked.out), text)
    print(asked.out)


def bring(name: str, stack: ExitStack) -> Experiment:
    """Read an experiment from a folder or a revision; a revision's files live as long as the stack."""
    if (Path(name) / PARAMS).is_file():
        place = read_place(Path(name), "this workspace" if name == "." else f"folder {name}")
    else:
        try:
            place = stack.enter_context(of_revisions(Path.cwd(), [name]))[0]
        except (DataError, ParameterError):
            raise ParameterError(
                f"{name!r} is neither a folder with {PARAMS} nor a commit, branch, tag or experiment that holds a study"
            ) from None
    if not place.problem and not (place.artifacts / "eval").is_dir():
        raise DataError(f"{place.label} has no evaluation within reach: run dvc repro there, or dvc pull what it made")
    if place.problem:
        raise DataError(f"{place.label} cannot be compared: {place.problem}")
    return read_experiment(place.label, place.params, place.artifacts)


def parse(arguments: tuple[str, ...]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("a", help="a folder or a revision")
    parser.add_argument("b", help="another")
    parser.add_argument("--out", default=str(ARTIFACTS / "compare.html"), help="file to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run(main, timed=False)
