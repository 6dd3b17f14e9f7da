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
from dvc.scm import RevError

from domix.report.view.place import FILES, Place
from domix.runtime.errors import DataError, ParameterError
from stages.common import ARTIFACTS
from stages.studies.places import LOCK, PARAMS, read_place


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
def of_revisions(root: Path, names: Sequence[str]) -> Generator[list[Place]]:
    """Yield the places of some revisions, whose files lie in a temporary folder until the block ends.

    Raises:
        ParameterError: there is no such revision.
        DataError: a revision is of no study.
    """
    with tempfile.TemporaryDirectory(prefix="domix-study-") as folder:
        yield [_bring(root, name, Path(folder) / str(number)) for number, name in enumerate(names)]


def _bring(root: Path, name: str, folder: Path) -> Place:
    """Copy what the study view reads of one revision into `folder`."""
    files = DVCFileSystem(str(root), rev=name)
    try:
        for path in (PARAMS, LOCK):
            _copy(files, path, folder)
    except RevError:
        raise ParameterError(
            f"--rev {name!r} is no commit, branch, tag or experiment (git log, dvc exp list)"
        ) from None
    label = f"revision {name}"
    if not (folder / PARAMS).exists():
        raise DataError(f"{label} has no {PARAMS}: leave it out")
    problem = ""
    try:
        for path in FILES:
            _copy(files, (ARTIFACTS / path).as_posix(), folder)
    except (OSError, DvcException):
        problem = (
            f"its {ARTIFACTS / 'eval'} and {ARTIFACTS / 'mixtures'} are not all in DVC's cache: run git checkout {name}"
            f" (an experiment: dvc exp apply {name}) and dvc pull, or dvc repro evaluate there"
        )
    return dataclasses.replace(read_place(folder, label), problem=problem)


def _copy(files: DVCFileSystem, path: str, folder: Path) -> None:
    """Copy a file of a revision, if the revision has it."""
    if files.exists(path):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(path, str(target))
