"""Read what an analysis has written, for the runs that are asked for.

Tables may hold rows of runs that are asked for no longer: they are dropped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from domix.analyses.contract import Analysis, Findings
from domix.runs import CLIP
from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from domix.runtime.tables import TableSchema

if TYPE_CHECKING:
    import pandas as pd

    from domix.study import Run

FACTS = "meta.json"


def read_findings(analysis: Analysis, folder: Path, runs: Sequence[Run], missing: list[str] | None = None) -> Findings:
    """Read an analysis' tables and facts from its `folder`.

    Args:
        runs: those asked for; rows of others are dropped, and rows come in their order.
        missing: where to name tables or runs that are not there, of an unfinished study; None: that is an error.

    Raises:
        DataError: a file is missing or damaged, is not as declared, or holds nothing for a run (unless the analysis
            chooses among them, or declares the table optional).
    """
    schemas = {Path(schema.path).stem: schema for schema in analysis.written()}
    runs = [run for run in runs if run.kind in analysis.kinds]
    tables = {
        name: _of_runs(analysis, schemas[name], folder, runs, missing, analysis.chooses or name in analysis.optional)
        for name in analysis.tables
    }
    if not analysis.joint_tables:
        return Findings(tables)
    if missing is not None and not _has_all(folder, analysis, runs):
        missing.append(f"the {analysis.name} audit of all these mixtures")
        return Findings(tables | {name: schemas[name].empty() for name in analysis.joint_tables})
    tables |= {name: _of_mixtures(analysis, schemas[name], folder, runs) for name in analysis.joint_tables}
    facts = folder / FACTS
    return Findings(tables, read_json(facts) if facts.exists() else {})


def _of_runs(
    analysis: Analysis, schema: TableSchema, folder: Path, runs: Sequence[Run], missing: list[str] | None, some: bool
) -> pd.DataFrame:
    path = folder / Path(schema.path).name
    if missing is not None and not path.exists():
        missing.append(f"{folder.name}/{path.name}")
        return schema.empty()
    frame, names = schema.read(path), analysis.run_columns
    wanted = {tuple(run.keys[name] for name in names): run for run in runs}
    found = _keys(frame, names)
    if not some and (lacking := [str(wanted[key]) for key in sorted(set(wanted) - set(found))]):
        if missing is None:
            raise DataError(f"{path} holds nothing for {lacking[0]}", remake=path)
        missing += [f"{run} in {folder.name}/{path.name}" for run in lacking]
    return _ordered(frame[found.isin(set(wanted))], runs, names[:-1])


def _of_mixtures(analysis: Analysis, schema: TableSchema, folder: Path, runs: Sequence[Run]) -> pd.DataFrame:
    path, names = folder / Path(schema.path).name, analysis.run_columns[:-1]
    frame = schema.read(path)
    if "mixture" not in frame:
        return frame
    wanted = {tuple(run.keys[name] for name in names): run for run in runs}
    found = _keys(frame, names)
    if lacking := sorted(set(wanted) - set(found)):
        raise DataError(f"{path} holds nothing for {_named(wanted[lacking[0]])}", remake=path)
    return _ordered(frame[found.isin(set(wanted))], runs, names)


def _has_all(folder: Path, analysis: Analysis, runs: Sequence[Run]) -> bool:
    """Tell whether every table of all runs together is there, and knows the mixtures asked for."""
    names = list(analysis.run_columns[:-1])
    wanted = {tuple(run.keys[name] for name in names) for run in runs}
    for schema in analysis.joint_tables.values():
        path = folder / f"{schema.name}.parquet"
        if not path.exists():
            return False
        if "mixture" in schema.names and wanted - set(_keys(schema.read(path, names), names)):
            return False
    return True


def _keys(frame: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """Return what names the model, or the mixture, of each row."""
    import pandas as pd

    return pd.Series(list(zip(*(frame[name] for name in names), strict=True)), index=frame.index, dtype=object)


def _ordered(frame: pd.DataFrame, runs: Sequence[Run], names: Sequence[str]) -> pd.DataFrame:
    """Return rows in the order of the runs' mixtures, those of one group of models after the other."""
    order = {key: place for place, key in enumerate(dict.fromkeys(tuple(r.keys[name] for name in names) for r in runs))}
    places = [order[key] for key in _keys(frame, names)]
    return frame.iloc[sorted(range(len(places)), key=places.__getitem__)].reset_index(drop=True)


def _named(run: Run) -> str:
    """Name a run's mixture in a sentence."""
    return run.mixture if run.kind == CLIP else f"{run.kind} {run.mixture}"
