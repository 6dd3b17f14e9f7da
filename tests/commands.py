"""Commands of `domix`, run within the test's own process."""

from __future__ import annotations

from domix.cli.app import app
from domix.settings.params import Params


def domix(params: Params | None, *arguments: str) -> None:
    """Run a command with these parameters (None: those of params.yaml) as the command line does; errors are raised."""
    app(list(arguments), standalone_mode=False, prog_name="domix", obj=params)
