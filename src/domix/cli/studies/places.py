"""Results in folders: this workspace, or the copies of the repository in which a sweep has run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from domix.project.common import ARTIFACTS, SWEEPS
from domix.project.tracking import KINDS
from domix.report.paper.place import RequestedRun, ResultsPlace, asked_runs
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json, read_text

PARAMS, LOCK = "params.yaml", "dvc.lock"


def this_workspace(root: Path) -> ResultsPlace:
    """Return the workspace itself, with the runs of its params.yaml."""
    return read_place(root, "this workspace")


def read_place(root: Path, label: str, runs: tuple[RequestedRun, ...] | None = None) -> ResultsPlace:
    """Return a folder that holds params.yaml, dvc.lock and artifacts; `runs` None: those of its params.yaml.

    Raises:
        DataError: params.yaml is missing, or no parameter file.
    """
    params = _read_yaml(root / PARAMS)
    if params is None or not {"test_domain", "evaluate"} <= set(params):
        raise DataError(f"{label} has no {PARAMS} of a study: leave it out")
    asked = asked_runs(params) if runs is None else runs
    return ResultsPlace(label, params["test_domain"], root / ARTIFACTS, params, _data_digest(root / LOCK), asked)


def of_sweep(root: Path, name: str) -> list[ResultsPlace]:
    """Return a sweep's copies, one a test domain, with the runs that were asked of them and how far these have come.

    Raises:
        ParameterError: there is no such sweep.
        DataError: its sweep.json is damaged.
    """
    path = root / SWEEPS / name / "sweep.json"
    if Path(name).name != name or not path.exists():
        there = sorted(found.parent.name for found in (root / SWEEPS).glob("*/sweep.json"))
        known = f"there are {', '.join(there)}" if there else "there is none; domix sweep makes one"
        raise ParameterError(f"--sweep {name!r} names no sweep of this repository ({path} is missing): {known}")
    sweep = read_json(path)
    try:
        return [_of_domain(root, sweep, domain) for domain in sweep["asked"]["test_domains"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not what a sweep writes (no {error}): run the sweep again") from error


def _of_domain(root: Path, sweep: dict[str, Any], domain: str) -> ResultsPlace:
    folder, label = root / sweep["workspaces"][domain], f"sweep {sweep['name']}, {domain}"
    trainings = [run for run in sweep["runs"] if run["test_domain"] == domain and run["kind"] in KINDS]
    runs = tuple(
        RequestedRun(KINDS[run["kind"]], run["mixture"], run["seed"], run["state"], run["note"], run["log"])
        for run in trainings
    )
    if not (folder / PARAMS).exists():  # the copy is not made yet
        return ResultsPlace(label, domain, folder / ARTIFACTS, {}, None, runs)
    public = tuple(run for run in asked_runs(_read_yaml(folder / PARAMS) or {}) if run.kind == "public")
    return replace(read_place(folder, label, (*runs, *public)), test_domain=domain)  # not what it has since become


def stages_of(lock: Path) -> dict[str, Any]:
    """Return what dvc.lock says of each stage that has run; nothing where there is no such file."""
    return (_read_yaml(lock) or {}).get("stages") or {}


def _data_digest(lock: Path) -> str | None:
    """Return what dvc.lock says of the packed images that the mixtures were made from; None where it says nothing."""
    deps = stages_of(lock).get("mixtures", {}).get("deps") or []
    return next((dep.get("md5") for dep in deps if dep.get("path") == "artifacts/shards"), None)


def _read_yaml(path: Path) -> Any:
    """Read a YAML file; None where there is none.

    Raises:
        DataError: it is no YAML.
    """
    if not path.is_file():
        return None
    try:
        return YAML(typ="safe", pure=True).load(read_text(path, mend="restore it from Git"))
    except YAMLError as error:
        raise DataError(f"{path} is not valid YAML ({str(error).splitlines()[0]}): restore it from Git") from error
