"""The page of a study some of whose runs failed: of those that are there, with a word on which are missing.

DVC evaluates a study whole or not at all. So evaluation, analyses and report run once more beside it, in a folder of
the sweep whose artifacts are links, with the mixtures all of whose runs are there. The pipeline's own outputs stay as
they are.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from domix.cli.sweeps.plan import Sweep
from domix.cli.sweeps.workspaces import PARAMS, Study
from domix.project.common import ARTIFACTS
from domix.runs import CLIP, Run
from domix.runtime.files import write_text
from domix.settings.params import Params

LINKED = ("captions", "embeddings", "mixtures", "models", "raw", "shards")


def write_unfinished(params: Params, sweep: Sweep, environment: Mapping[str, str]) -> Path | None:
    """Write the page of the study in the repository itself, and return it; None where too little is there for one.

    What is written on the way goes to the log `unfinished` of the sweep.
    """
    present = [m for m in params.mixtures if all(_is_embedded(sweep.root, m, seed) for seed in params.seeds)]
    if not present:
        return None
    folder, page = sweep.folder / "unfinished", sweep.folder / "page"
    for old in (folder, page):
        shutil.rmtree(old, ignore_errors=True)
    (folder / ARTIFACTS).mkdir(parents=True)
    (folder / "stages").symlink_to(sweep.root / "stages")
    for name in LINKED:
        (folder / ARTIFACTS / name).symlink_to(sweep.root / ARTIFACTS / name)
    whole = (sweep.root / PARAMS).read_text(encoding="utf-8")
    study = Study(params.test_domain, tuple(present), tuple(params.seeds))
    log = sweep.folder / "logs" / "unfinished.log"
    with open(log, "wb") as out:

        def run(*words: str) -> bool:
            command = [sys.executable, "-m", f"stages.{words[0]}", *words[1:]]
            return not subprocess.run(
                command, cwd=folder, env=environment, stdout=out, stderr=out, check=False
            ).returncode

        write_text(folder / PARAMS, study.edit(whole))
        if not run("evaluate"):
            return None
        for name in params.analyses:
            run("analyse", name)  # the page names those that failed
        write_text(folder / PARAMS, replace(study, mixtures=tuple(params.mixtures)).edit(whole))
        return page / "index.html" if run("report", str(page.resolve())) else None


def _is_embedded(root: Path, mixture: str, seed: int) -> bool:
    name = Run(CLIP, mixture, seed).name
    return (root / ARTIFACTS / "embeddings" / CLIP / name / "meta.json").is_file()
