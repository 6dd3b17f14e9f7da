"""What `domix finetune` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from domix.cli.options import AnyModel, Architecture, names, params_of


def finetune(
    context: typer.Context,
    model: AnyModel,
    images: Annotated[str, typer.Option(help="Images to train on: a packed source, or a folder <class>/<file>.")],
    out: Annotated[Path, typer.Option(help="New folder for the fine-tuned model.")],
    architecture: Architecture = None,
    test: Annotated[str, typer.Option(help="Sets to measure the weights in between on, with commas between.")] = "",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images (default: 10).")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images a step (default: 256).")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate (default: 3e-5).")] = None,
    warmup: Annotated[
        float | None, typer.Option(min=0, help="Linear warm-up: steps, or a share below 1 (default: 500).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the images' order and crops.")] = 0,
) -> None:
    """Fine-tune a CLIP model as WiSE-FT does.

    More: docs/fine-tuned.md.
    """
    params = params_of(context)
    from domix.cli.models import finetune as command

    recipe = {"epochs": epochs, "batch": batch, "lr": lr, "warmup": warmup}
    command.main(params, model, images, out, command.Asked(architecture, names(test), recipe, seed))
