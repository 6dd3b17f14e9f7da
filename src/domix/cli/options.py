"""What several commands take, and how it is read."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from domix.project.common import load_params
from domix.runtime.errors import ParameterError
from domix.settings.params import Params


def params_of(context: typer.Context) -> Params:
    """Return the parameters that the caller gave, else those of params.yaml."""
    return context.obj or load_params()


def names(text: str) -> tuple[str, ...]:
    """Read names with commas between; one that holds a comma stands in double quotes."""
    names = next(csv.reader([text], skipinitialspace=True), [])
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Read an option's whole numbers with commas between."""
    try:
        return tuple(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not whole numbers with commas between", param_hint=option) from None


def mixtures_here(incomplete: str) -> list[str]:
    """Return the mixtures of params.yaml that begin so, for the shell to complete; none where it cannot be read."""
    try:
        return [name for name in load_params().mixtures if name.startswith(incomplete)]
    except ParameterError:
        return []


Mixture = Annotated[
    str, typer.Argument(help="Name of a mixture, as in params.yaml.", autocompletion=mixtures_here, show_default=False)
]
AnyModel = Annotated[
    str, typer.Argument(help="A name of `models`, a tag of open_clip's, a file of weights, or a folder.")
]
Architecture = Annotated[
    str | None, typer.Option(help="Of a tag or a file: an open_clip name, one of Domix's, or a JSON file.")
]
SomeImages = Annotated[str | None, typer.Option(help="A packed source (default: the study's), or a folder of images.")]
Baselines = Annotated[Path | None, typer.Option(help="imagenet-testbed's robustness_top1s.csv, to fit trends anew.")]
Matched = Annotated[bool, typer.Option("--matched", help="Expect from ImageNet's images of a shift's classes.")]
EffectiveTables = Annotated[
    Path | None, typer.Option(help="Folder for effective.csv and effective.md, instead of printing.")
]
Broden = Annotated[Path, typer.Option(help="Folder of Broden (broden1_224).", show_default=False)]
Sites = Annotated[str, typer.Option(help="Where units are, with commas between (default: the last).")]
Iou = Annotated[bool, typer.Option("--iou", help="Also IoU of the sites' feature maps with masks.")]
Encodes = Annotated[float, typer.Option(min=0, max=1, help="Average precision at which a unit encodes a concept.")]
Tables = Annotated[Path | None, typer.Option(help="Folder for concepts.csv, curve.csv and iou.csv.")]
Domains = Annotated[str, typer.Option(help="Test domains, with commas between (default: that of params.yaml).")]
