"""Collect studies into figures and tables for print: `python -m stages.study`.

    python -m stages.study                                   this workspace's study
    python -m stages.study --sweep default                   all test domains of a sweep, finished or not
    python -m stages.study --experiments                     DVC's experiments on this commit
    python -m stages.study --rev clipart --rev sketch        branches, tags, commits, experiments

It trains and measures nothing, and writes artifacts/study/index.html, or what --out names.
"""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack
from pathlib import Path

from domix.config import Params
from domix.report.paper.collection import collect
from domix.report.paper.publish import publish
from domix.runtime.errors import ParameterError
from domix.runtime.files import atomic_folder
from stages.common import ARTIFACTS, run
from stages.studies.places import of_sweep, this_workspace
from stages.studies.revisions import experiments, of_revisions


def main(params: Params, *arguments: str) -> None:
    asked = parse(arguments)
    out = Path(asked.out)
    if out.exists() and not (out / "study.json").exists():
        raise ParameterError(f"--out {out} is there already and holds no study view: name another folder")
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # tells of every letter that it puts into a PDF file
    root = Path.cwd()
    with ExitStack() as stack:
        places = [place for name in asked.sweep for place in of_sweep(root, name)]
        names = [*asked.rev, *(experiments(root) if asked.experiments else [])]
        places += stack.enter_context(of_revisions(root, list(dict.fromkeys(names))))
        study = collect(places or [this_workspace(root)])
        with atomic_folder(out) as folder:
            publish(study, folder, params.report.title)
    for note in [*study.notes, *([f"{study.mark} (tables/missing.md names the others)"] if study.mark else [])]:
        logging.warning("study: %s", note)
    print(out / "index.html")


def parse(arguments: tuple[str, ...]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.study", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sweep", action="append", default=[], help="a sweep's name (stages.sweep; may be repeated)")
    parser.add_argument("--rev", action="append", default=[], help="a revision or experiment (may be repeated)")
    parser.add_argument("--experiments", action="store_true", help="all of DVC's experiments on this commit")
    parser.add_argument("--out", default=str(ARTIFACTS / "study"), help="folder to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run(main, timed=False)
