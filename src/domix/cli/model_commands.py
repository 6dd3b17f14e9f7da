"""How the commands on any model that need no word from here are called: `domix zoo`, `finetune`, `concepts`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from domix.cli import options
from domix.cli.options import AnyModel, Architecture, names, params_of


def zoo(
    context: typer.Context,
    models: Annotated[str, typer.Argument(help="A YAML file that lists models, or `public`.")],
    images: Annotated[
        str, typer.Option(help="Known images: a packed source or a folder; <set>:<domain> for one domain.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    shifts: Annotated[str, typer.Option(help="Shifted images of these classes: such sets, with commas.")] = "",
    sites: Annotated[str, typer.Option(help="Sites whose CKA is wanted, too, with commas.")] = "",
    concepts: Annotated[
        str | None, typer.Option(help="Seek concepts in the units: Broden's folder, or a set as --images takes it.")
    ] = None,
    threshold: options.Encodes = 0.9,
    templates: Annotated[str | None, typer.Option(help="Prompts: a set of templates, or a sentence with {}.")] = None,
) -> None:
    """Hold many models' signatures against robustness.

    More: docs/zoo.md.
    """
    params = params_of(context)
    from domix.cli.models import zoo as command

    asked = command.Asked(images, names(shifts), names(sites), concepts, threshold, templates)
    command.main(params, models, asked, out)


def finetune(
    context: typer.Context,
    model: AnyModel,
    images: Annotated[str, typer.Option(help="Images to train on: a packed source, or a folder <class>/<file>.")],
    out: Annotated[Path, typer.Option(help="New folder for the fine-tuned model.")],
    architecture: Architecture = None,
    test: Annotated[str, typer.Option(help="Sets to measure the weights in between on, with commas between.")] = "",
    recipe: Annotated[
        Literal["wise-ft", "deit"], typer.Option(help="wise-ft: of a CLIP model; deit: of any encoder.")
    ] = "wise-ft",
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images (default: 10; deit: 100).")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images a step (default: 256; deit: 64).")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate (default: 3e-5; deit: 5e-4 for batches of 512).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the images' order and crops.")] = 0,
    warmup: Annotated[
        float | None, typer.Option(min=0, help="wise-ft: linear warm-up, steps or a share below 1 (default: 500).")
    ] = None,
    warmup_epochs: Annotated[int | None, typer.Option(min=0, help="deit: linear warm-up (default: 5).")] = None,
    cooldown: Annotated[
        int | None, typer.Option(min=0, help="deit: last epochs at the least rate (default: 10).")
    ] = None,
    ema: Annotated[float | None, typer.Option(help="deit: decay of averaged weights (default: 0.99996).")] = None,
    frozen: Annotated[float | None, typer.Option(help="deit: share of the tower's first weights to keep.")] = None,
    share: Annotated[
        float | None, typer.Option(help="deit: share of each class's images that chooses the epoch (default: 0.1).")
    ] = None,
    validate: Annotated[str | None, typer.Option(help="deit: a set that chooses the epoch instead.")] = None,
) -> None:
    """Fine-tune a CLIP model (WiSE-FT), or any encoder (DeiT).

    More: docs/fine-tuned.md.
    """
    params = params_of(context)
    from domix.cli.models import finetune

    shared = {"epochs": epochs, "batch": batch, "lr": lr, "warmup": warmup, "warmup_epochs": warmup_epochs}
    options = shared | {"cooldown": cooldown, "ema": ema, "frozen": frozen, "share": share, "validate": validate}
    asked = finetune.Asked(architecture, names(test), finetune.options_of(recipe, options), seed)
    if recipe == "wise-ft":
        finetune.main(params, model, images, out, asked)
    else:
        from domix.cli.models import finetune_deit

        finetune_deit.main(params, model, images, out, asked)


def concepts(
    context: typer.Context,
    model: AnyModel,
    broden: options.Broden,
    architecture: Architecture = None,
    site: options.Sites = "",
    threshold: options.Encodes = 0.9,
    iou: options.Iou = False,
    out: options.Tables = None,
) -> None:
    """Print which concepts a model's units encode."""
    params = params_of(context)
    from domix.cli.models import concepts as command

    command.main(params, model, command.Asked(broden, architecture, names(site), threshold, iou, out))
