"""`domix compare`: two experiments on one page, with every metric, every test class and the changed parameters."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from domix.cli.studies.places import PARAMS, read_place
from domix.cli.studies.revisions import of_revisions
from domix.report.page.compare import Experiment, read_experiment, render
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_text


def main(a: str, b: str, out: Path) -> None:
    """Write the page of two experiments, folders or revisions."""
    with ExitStack() as stack:
        text = render(bring(a, stack), bring(b, stack))
    write_text(out, text)
    print(out)


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
