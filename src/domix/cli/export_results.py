"""`domix export-results`: a run's results as the reference study writes them. What the files hold: docs/export.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np

from domix.evaluate.reference_results import arrays, read_answers, results, results_topk
from domix.project.common import ARTIFACTS, SUMMARY
from domix.runtime.errors import ParameterError
from domix.runtime.files import atomic_file, read_json, write_json
from domix.settings.params import Params
from domix.study import Run, study_of

Kind = Literal["clip", "supervised"]


def main(params: Params, name: str, seed: int, out: Path, kind: Kind = "clip") -> None:
    """Write results.json and, of a CLIP model, results_topk.json and the arrays."""
    summary = read_json(SUMMARY)
    model = Run(kind, _own_name(name, summary), seed)
    study = study_of(summary, [model], where=SUMMARY)
    answers = read_answers(ARTIFACTS / "embeddings" / kind / model.name, kind, study)
    write_json(out / "results.json", results(answers, study, imagenet=kind == "clip"))
    if kind == "clip":
        write_json(out / "results_topk.json", results_topk(answers, study, params.evaluate.top_k))
        for array_name, array in arrays(answers, study).items():
            with atomic_file(out / f"{array_name}.npy") as path, open(path, "wb") as file:
                np.save(file, array)
    print(f"export_results: {len(answers.steps)} checkpoints of {model.mixture} in {out}", file=sys.stderr)


def _own_name(name: str, summary: dict[str, Any]) -> str:
    """Return what the study calls a mixture: its own name, its standard name or the reference's are understood."""
    for mixture in summary["mixtures"]:
        if name in (mixture["name"], mixture["standard_name"], mixture["alias"]):
            return mixture["name"]
    known = ", ".join(mixture["name"] for mixture in summary["mixtures"])
    raise ParameterError(f"the study has no mixture {name!r}: it has {known}")
