"""Commands of `domix`, run within the test's own process."""

from __future__ import annotations

from pathlib import Path

from domix.cli.app import app
from domix.project.remedies import sentence
from domix.settings.params import Params

PIPELINE = Path(__file__).resolve().parents[1] / "dvc.yaml"


def told(error: BaseException) -> str:
    """Return what a user reads of an error that a stage or a command has raised here."""
    return sentence(error, PIPELINE)


def domix(params: Params | None, *arguments: str) -> None:
    """Run a command with these parameters (None: those of params.yaml) as the command line does; errors are raised."""
    app(list(arguments), standalone_mode=False, prog_name="domix", obj=params)
