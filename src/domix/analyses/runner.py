"""Run an analysis over a study: each run's tables are kept by what they hang on, and made once.

One more mixture or seed so computes the tables of that run alone, and an edit of a section computes none.

<out>/<table>.parquet   every run's rows, led by mixture and seed; or the tables of all runs together
<out>/meta.json         facts of an analysis of all runs together, where it has any
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from domix.analyses.contract import Analysis, Findings, RunInputs, StudyInputs
from domix.analyses.results import FACTS
from domix.runtime.code_digest import code_digest
from domix.runtime.files import atomic_folder, sha256_file, write_json
from domix.runtime.kept import Kept
from domix.runtime.processes.workers import process_pool
from domix.runtime.settings import Settings
from domix.runtime.tables import read_table, write_table
from domix.study import Run, Study

PACKAGES = ("numpy", "pandas", "scikit-learn", "umap-learn", "torch")  # whose versions may change a last digit


def analyse(analysis: Analysis, settings: Settings, inputs: StudyInputs, out: Path, kept: Kept) -> None:
    """Write the tables of an analysis into the folder `out`, whole or not at all.

    Raises:
        DataError: an input is missing or damaged, or the tables are not those declared.
        ParameterError: the settings do not fit the study.
    """
    inputs = replace(inputs, study=analysis.models(inputs.study))
    tables = _tables_of_runs(analysis, settings, inputs, kept)
    with atomic_folder(out) as folder:
        for name, table in tables.items():
            write_table(folder / f"{name}.parquet", table)
        if analysis.joint_tables:
            key = _common_key(analysis, settings) | _joint_key(analysis, settings, inputs)
            kept.give(key, folder, lambda home: _write(analysis.run_jointly(inputs, settings), home), what="analysis")


def keep_run(analysis: Analysis, settings: Settings, inputs: StudyInputs, run: Run, kept: Kept) -> None:
    """Make and keep the tables of one run, if analysis and settings choose it: `analyse` finds them.

    Raises:
        DataError, ParameterError: as `analyse`.
    """
    if analysis.tables and analysis.chosen(settings, [run]):
        mine = inputs.of_run(run)
        _kept_run(analysis, settings, kept, mine, _common_key(analysis, settings) | _run_key(analysis, mine))


def join_runs(parts: Sequence[tuple[Run, pd.DataFrame]], columns: Sequence[str]) -> pd.DataFrame:
    """Put the tables of several runs below each other, led by some of the columns that name a run."""
    tables = []
    for run, table in parts:
        table = table.copy()
        for place, name in enumerate(columns):
            table.insert(place, name, run.keys[name])
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _tables_of_runs(analysis: Analysis, settings: Settings, inputs: StudyInputs, kept: Kept) -> dict[str, pd.DataFrame]:
    if not analysis.tables:
        return {}
    runs = [inputs.of_run(run) for run in analysis.chosen(settings, inputs.study.runs)]
    if not runs:
        return {Path(schema.path).stem: schema.empty() for schema in analysis.written()[: len(analysis.tables)]}
    common = _common_key(analysis, settings)
    work = [(run, common | _run_key(analysis, run)) for run in runs]
    make = partial(_kept_run, analysis, settings, kept)
    missing = [(run, key) for run, key in work if not kept.has(key)]
    if analysis.one_thread and len(missing) > 1:
        with process_pool(min(len(missing), os.cpu_count() or 1)) as pool:
            list(pool.map(make, *zip(*missing, strict=True)))
    found = [make(run, key) for run, key in work]
    return {
        name: join_runs([(run.run, mine[name]) for run, mine in zip(runs, found, strict=True)], analysis.run_columns)
        for name in analysis.tables
    }


def _kept_run(
    analysis: Analysis, settings: Settings, kept: Kept, inputs: RunInputs, key: dict[str, Any]
) -> dict[str, pd.DataFrame]:
    """Return the tables of one run, made where none are kept for `key`."""
    home = kept.open(key, lambda folder: _write(Findings(analysis.run(inputs, settings)), folder), what="analysis")
    return {name: read_table(home / f"{name}.parquet") for name in analysis.tables}


def _write(findings: Findings, folder: Path) -> None:
    for name, table in findings.tables.items():
        write_table(folder / f"{name}.parquet", table)
    if findings.facts:
        write_json(folder / FACTS, findings.facts)


def _common_key(analysis: Analysis, settings: Settings) -> dict[str, Any]:
    return {
        "analysis": analysis.name,
        "settings": settings.model_dump(exclude=set(analysis.section_settings)),
        "code": code_digest(analysis.computation),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _run_key(analysis: Analysis, inputs: RunInputs) -> dict[str, Any]:
    """Return what a run's tables hang on: the study without its other runs, and the embeddings' files.

    These name the model and the images by digest, so they stand for the encoder and its activations as well.
    """
    folder = inputs.embeddings_folder
    found = [*folder.glob("*"), *(folder.glob("sets/*/*") if analysis.reads_sets else ())]
    found += folder.glob("checkpoints/*/*") if analysis.reads_checkpoints else ()
    digests = {str(path.relative_to(folder)): sha256_file(path) for path in sorted(found) if path.is_file()}
    return {"study": _facts_of(inputs.study), "embeddings": digests}


def _joint_key(analysis: Analysis, settings: Settings, inputs: StudyInputs) -> dict[str, Any]:
    return {
        "study": _facts_of(inputs.study),
        "runs": [run.name for run in inputs.study.runs],
        "shared": {name: value for name, value in vars(inputs.shared).items() if name != "drop"},  # for sections
        "inputs": dict(analysis.joint_key(inputs, settings)),
    }


def _facts_of(study: Study) -> dict[str, Any]:
    names = ("test_domain", "natural_domain", "domains", "classes", "test_classes", "standard_names")
    return {name: getattr(study, name) for name in names}
