"""Write a run's results as the reference study does: `python -m stages.export_results <mixture> <seed> <folder>`.

A command, no stage of the pipeline: it reads what `dvc repro` has embedded. What the files hold: docs/export.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from domix.config import Params
from domix.evaluate.reference_results import arrays, read_answers, results, results_topk
from domix.runtime.errors import ParameterError
from domix.runtime.files import atomic_file, read_json, write_json
from domix.study import Run, study_of
from stages.common import ARTIFACTS, SUMMARY, run


def main(params: Params, *arguments: str) -> None:
    """Write results.json and, of a CLIP model, results_topk.json and the arrays."""
    asked = _parse(list(arguments))
    summary = read_json(SUMMARY)
    model = Run(asked.kind, _own_name(asked.mixture, summary), asked.seed)
    study = study_of(summary, [model], where=SUMMARY)
    clip = asked.kind == "clip"
    answers = read_answers(ARTIFACTS / "embeddings" / asked.kind / model.name, model.kind, study)
    write_json(asked.out / "results.json", results(answers, study, imagenet=clip))
    if clip:
        write_json(asked.out / "results_topk.json", results_topk(answers, study, params.evaluate.top_k))
        for name, array in arrays(answers, study).items():
            with atomic_file(asked.out / f"{name}.npy") as path, open(path, "wb") as file:
                np.save(file, array)
    print(f"export_results: {len(answers.steps)} checkpoints of {model.mixture} in {asked.out}", file=sys.stderr)


def _own_name(name: str, summary: dict[str, Any]) -> str:
    """Return what the study calls a mixture: its own name, its standard name or the reference's are understood."""
    for mixture in summary["mixtures"]:
        if name in (mixture["name"], mixture["standard_name"], mixture["alias"]):
            return mixture["name"]
    known = ", ".join(mixture["name"] for mixture in summary["mixtures"])
    raise ParameterError(f"the study has no mixture {name!r}: it has {known}")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.export_results", description="Export a run's results.")
    parser.add_argument("mixture", help="name of a mixture, the study's or the reference's")
    parser.add_argument("seed", type=int)
    parser.add_argument("out", type=Path, help="folder; files of these names in it are replaced")
    parser.add_argument("--kind", choices=["clip", "supervised"], default="clip", help="model (default: clip)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run(main, timed=False)
