"""Which analyses there are: every sub-package of domix.analyses that declares one, found without importing its work."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from domix.analyses.contract import Analysis
from domix.runtime.errors import DomixError, ParameterError
from domix.runtime.settings import Settings

PACKAGE = "domix.analyses"
PARTS = ("computation", "section")


@cache
def analyses(package: str = PACKAGE) -> Mapping[str, Analysis]:
    """Return the analyses of a package by name, in the order of their folders.

    Raises:
        DomixError: a folder is no analysis, or is declared amiss.
    """
    found: dict[str, Analysis] = {}
    for folder in _folders(package):
        analysis = _load(folder, f"{package}.{folder.name}")
        if analysis.name in found:
            other = found[analysis.name].package.rpartition(".")[2]
            raise DomixError(f"two analyses are called {analysis.name!r}, in {other} and {folder.name}: rename one")
        found[analysis.name] = analysis
    for name, analysis in found.items():
        folder = analysis.package.rpartition(".")[2]
        if name != folder:
            raise DomixError(f"the analysis in the folder {folder} calls itself {name!r}: name it as its folder")
    return found


def find(name: str, package: str = PACKAGE) -> Analysis:
    """Return an analysis by its name.

    Raises:
        ParameterError: there is none of this name.
        DomixError: a folder is no analysis, or is declared amiss.
    """
    known = analyses(package)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        raise ParameterError(f"there is no analysis {name}: {hint}")
    return known[name]


def read_settings(blocks: Mapping[str, Any], package: str = PACKAGE) -> dict[str, Settings]:
    """Read the parameters' blocks of the analyses asked for, by name, in their order; settings stay as they are.

    Raises:
        ParameterError: an analysis that does not exist, or a key that is unknown, mistyped or out of range.
    """
    settings = {}
    for name, block in blocks.items():
        try:
            cls = find(str(name), package).Settings
        except ParameterError as error:
            raise ParameterError(f"analyses.{name}: {error}") from error
        settings[str(name)] = block if isinstance(block, cls) else cls.read(block, f"analyses.{name}")
    return settings


def _folders(package: str) -> list[Path]:
    """List the sub-folders that hold code; Git leaves empty ones behind."""
    homes = [Path(home) for home in importlib.import_module(package).__path__]
    return sorted(path for home in homes for path in home.iterdir() if path.is_dir() and any(path.glob("*.py")))


def _load(folder: Path, package: str) -> Analysis:
    declared = getattr(importlib.import_module(package), "ANALYSIS", None)
    if not isinstance(declared, Analysis):
        raise DomixError(
            f"{package} is no analysis: its __init__.py must declare ANALYSIS (docs/adding-an-analysis.md), "
            "or the folder lie elsewhere"
        )
    for part in PARTS:
        if not (folder / f"{part}.py").is_file():
            raise DomixError(f"the analysis {declared.name} has no {part}.py: add it to {package}")
    _check_settings(declared)
    return declared


def _check_settings(analysis: Analysis) -> None:
    cls = analysis.Settings
    if not (isinstance(cls, type) and issubclass(cls, Settings)):
        raise DomixError(f"the analysis {analysis.name} has no settings: declare Settings, be it without a field")
    for name, declared in cls.model_fields.items():
        if declared.default is PydanticUndefined and declared.default_factory is None:
            raise DomixError(f"the setting {name} of the analysis {analysis.name} has no default: give it one")
        if not declared.description:
            raise DomixError(
                f"the setting {name} of the analysis {analysis.name} has no description: say what it means"
            )
