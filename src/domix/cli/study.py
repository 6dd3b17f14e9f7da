"""`domix study`: studies collected into figures and tables for print. It trains and measures nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from domix.cli.studies.places import of_sweep, this_workspace
from domix.cli.studies.revisions import experiments, of_revisions
from domix.report.paper.collection import collect
from domix.report.paper.publish import publish
from domix.runtime.errors import ParameterError
from domix.runtime.files import atomic_folder
from domix.settings.params import Params


def main(params: Params, out: Path, *, sweeps: Sequence[str], revisions: Sequence[str], of_dvc: bool) -> None:
    """Write the view of sweeps, revisions and, if asked (`of_dvc`), DVC's experiments; else of this workspace.

    Raises:
        ParameterError: the folder is another's, or something named is not there.
        DataError: what was found cannot be read.
    """
    if out.exists() and not (out / "study.json").exists():
        raise ParameterError(f"--out {out} is there already and holds no study view: name another folder")
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # tells of every letter that it puts into a PDF file
    root = Path.cwd()
    with ExitStack() as stack:
        places = [place for name in sweeps for place in of_sweep(root, name)]
        names = [*revisions, *(experiments(root) if of_dvc else [])]
        places += stack.enter_context(of_revisions(root, list(dict.fromkeys(names))))
        study = collect(places or [this_workspace(root)])
        with atomic_folder(out) as folder:
            publish(study, folder, params.report.title)
    for note in [*study.notes, *([f"{study.mark} (tables/missing.md names the others)"] if study.mark else [])]:
        logging.warning("study: %s", note)
    print(out / "index.html")
