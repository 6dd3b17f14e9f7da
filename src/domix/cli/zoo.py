"""How `domix zoo` is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from domix.cli.options import names, params_of


def zoo(
    context: typer.Context,
    models: Annotated[str, typer.Argument(help="A YAML file that lists models, or `public`.")],
    images: Annotated[
        str, typer.Option(help="Known images: a packed source or a folder; <set>:<domain> for one domain.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    shifts: Annotated[str, typer.Option(help="Shifted images of these classes: such sets, with commas.")] = "",
    sites: Annotated[str, typer.Option(help="Sites whose CKA is wanted, too, with commas.")] = "",
) -> None:
    """Hold many models' signatures against robustness.

    More: docs/zoo.md.
    """
    params = params_of(context)
    from domix.cli.models import zoo as command

    command.main(params, models, images, names(shifts), out, sites=names(sites))
