"""A small project for `domix ood`: packed images of known classes, a CLIP model, folders of foreign images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from domix.data.store.index import read_index, write_index
from domix.model.checkpoint import save_weights
from domix.project.common import load_params
from domix.runtime.files import write_json
from domix.runtime.settings import replace
from domix.settings.params import Params
from tests.commands import domix
from tests.public_models import VIT, tiny_clip
from tests.tiny import write_project

MODEL = "artifacts/models/clip/tiny-s0"


def write_ood_project(folder: Path) -> Params:
    """Write 48 packed test images of 12 classes, a model, and a folder of 8 images, in the working directory."""
    write_project(folder, count=48, config=VIT)
    index = read_index(Path("artifacts/shards/emoji"))
    write_index(Path("artifacts/shards/emoji"), index.assign(split="test").astype(index.dtypes))
    Path(MODEL).mkdir(parents=True)
    save_weights(tiny_clip(), Path(MODEL) / "model.safetensors")
    write_json(Path(MODEL) / "config.json", {"model": VIT})
    write_folder(Path("odd"), {"": 8})
    made = load_params()
    return replace(made, embed=replace(made.embed, templates="a {}."), pack=replace(made.pack, workers=1))


def write_folder(folder: Path, classes: dict[str, int], *, first: int = 0) -> None:
    """Write images of noise, so many of each class; of no name, beside each other."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.random.default_rng(100 * first + number).integers(0, 255, (40, 36, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{first}{number}.png")
        first += 1


def printed(
    params: Params, capsys: pytest.CaptureFixture[str], *arguments: str, model: str = MODEL
) -> tuple[str, pd.DataFrame]:
    """Return the lines above the command's table, and the table."""
    capsys.readouterr()
    domix(params, "ood", model, *arguments)
    lines = capsys.readouterr().out.splitlines()
    head = next(number for number, line in enumerate(lines) if line.split()[:2] == ["score", "set"])
    rows = [line.split() for line in lines[head + 1 :]]
    return "\n".join(lines[:head]), pd.DataFrame(rows, columns=lines[head].split())
