"""Read what an analysis has written, for the runs that are asked for.

Tables may hold rows of runs that are asked for no longer: they are dropped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from domix.analyses.contract import Analysis, Findings
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
    tables = {
        name: _of_runs(schemas[name], folder, runs, missing, analysis.chooses or name in analysis.optional)
        for name in analysis.tables
    }
    if not analysis.joint_tables:
        return Findings(tables)
    mixtures = list(dict.fromkeys(run.mixture for run in runs))
    if missing is not None and not _has_all(folder, analysis, mixtures):
        missing.append(f"the {analysis.name} audit of all these mixtures")
        return Findings(tables | {name: schemas[name].empty() for name in analysis.joint_tables})
    tables |= {name: _of_mixtures(schemas[name], folder, mixtures) for name in analysis.joint_tables}
    facts = folder / FACTS
    return Findings(tables, read_json(facts) if facts.exists() else {})


def _of_runs(
    schema: TableSchema, folder: Path, runs: Sequence[Run], missing: list[str] | None, some: bool
) -> pd.DataFrame:
    path = folder / Path(schema.path).name
    if missing is not None and not path.exists():
        missing.append(f"{folder.name}/{path.name}")
        return schema.empty()
    import pandas as pd

    frame = schema.read(path)
    wanted = {(run.mixture, run.seed) for run in runs}
    order = {mixture: place for place, mixture in enumerate(dict.fromkeys(run.mixture for run in runs))}
    found = pd.Series(list(zip(frame["mixture"], frame["seed"], strict=True)), index=frame.index, dtype=object)
    if not some and (lacking := sorted(wanted - set(found))):
        if missing is None:
            raise DataError(f"{path} holds nothing for {lacking[0][0]} seed {lacking[0][1]}", remake=path)
        missing += [f"{mixture} seed {seed} in {folder.name}/{path.name}" for mixture, seed in lacking]
    return _ordered(frame[found.isin(wanted)], order)


def _of_mixtures(schema: TableSchema, folder: Path, mixtures: Sequence[str]) -> pd.DataFrame:
    path = folder / Path(schema.path).name
    frame = schema.read(path)
    if "mixture" not in frame:
        return frame
    if lacking := sorted(set(mixtures) - set(frame["mixture"])):
        raise DataError(f"{path} holds nothing for {lacking[0]}", remake=path)
    order = {mixture: place for place, mixture in enumerate(mixtures)}
    return _ordered(frame[frame["mixture"].isin(mixtures)], order)


def _has_all(folder: Path, analysis: Analysis, mixtures: Sequence[str]) -> bool:
    """Tell whether every table of all runs together is there, and knows the mixtures asked for."""
    for schema in analysis.joint_tables.values():
        path = folder / f"{schema.name}.parquet"
        if not path.exists():
            return False
        names = {column.name for column in schema.columns}
        if "mixture" in names and set(mixtures) - set(schema.read(path, ["mixture"])["mixture"]):
            return False
    return True


def _ordered(frame: pd.DataFrame, order: dict[str, int]) -> pd.DataFrame:
    return frame.sort_values("mixture", key=lambda names: names.map(order), kind="stable").reset_index(drop=True)
