"""Results of other revisions: Git's commits, branches and tags, and DVC's experiments, read out of DVC's cache."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import RevError, resolve_rev

from domix.cli.studies.places import LOCK, PARAMS, read_place, stages_of
from domix.project.common import ARTIFACTS
from domix.report.paper.place import FILES, ResultsPlace
from domix.runtime.errors import DataError, ParameterError


def experiments(root: Path) -> list[str]:
    """List DVC's experiments on the commit that is checked out.

    Raises:
        ParameterError: there are none.
    """
    with Repo(str(root)) as repo:
        found = [name for entries in repo.experiments.ls().values() for name, _ in entries]
    if not found:
        raise ParameterError("--experiments: DVC has none on this commit (dvc exp list): make some with dvc exp run")
    return sorted(found)


@contextmanager
def of_revisions(root: Path, names: Sequence[str]) -> Generator[list[ResultsPlace]]:
    """Yield the places of some revisions, whose files lie in a temporary folder until the block ends.

    Raises:
        ParameterError: there is no such revision.
        DataError: a revision is of no study.
    """
    with tempfile.TemporaryDirectory(prefix="domix-study-") as folder:
        yield [_bring(root, name, Path(folder) / str(number)) for number, name in enumerate(names)]


def _bring(root: Path, name: str, folder: Path) -> ResultsPlace:
    """Copy what the study view reads of one revision into `folder`."""
    label = f"revision {name}"
    files = DVCFileSystem(str(root), rev=_resolve(root, name))
    for path in (PARAMS, LOCK):
        _copy(files, path, folder)
    if not (folder / PARAMS).exists():
        raise DataError(f"{label} has no {PARAMS}: leave it out")
    place = read_place(folder, label)
    try:
        for path in FILES:
            _copy(files, (ARTIFACTS / path).as_posix(), folder)
    except (OSError, DvcException):
        return dataclasses.replace(place, problem=_not_cached(name))
    made = stages_of(folder / LOCK)
    outs = {"mixtures": "mixtures/summary.json", "evaluate": "eval/metrics.parquet"}
    if any(stage in made and not (place.artifacts / path).exists() for stage, path in outs.items()):
        return dataclasses.replace(place, problem=_not_cached(name))
    return place


def _resolve(root: Path, name: str) -> str:
    """Return the commit that a name stands for."""
    try:
        with Repo(str(root)) as repo:
            return resolve_rev(repo.scm, name)
    except RevError:
        raise ParameterError(
            f"--rev {name!r} is no commit, branch, tag or experiment: look at git log and dvc exp list"
        ) from None


def _not_cached(name: str) -> str:
    return (
        f"its {ARTIFACTS / 'eval'} and {ARTIFACTS / 'mixtures'} are not all in DVC's cache: run git checkout {name} (an"
        f" experiment: dvc exp apply {name}), and dvc pull there, or dvc repro evaluate"
    )


def _copy(files: DVCFileSystem, path: str, folder: Path) -> None:
    """Copy a file of a revision, if the revision has it."""
    if files.exists(path):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(path, str(target))
