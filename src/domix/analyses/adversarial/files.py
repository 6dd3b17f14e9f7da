"""Adversarial images as files: one PNG an image, beside those of the pair, made once and gone on with after a kill.

<cache>/adversarial/<digest>/pairs.parquet        each pair: what its images are, and their files
<cache>/adversarial/<digest>/source-0000.png      the foreign image as the model reads it
<cache>/adversarial/<digest>/target-0000.png      the training image
<cache>/adversarial/<digest>/<variant>-0000.png   the foreign image as it was changed, rounded to 8 bit
<cache>/adversarial/states/<digest>/              what is done so far, of images that are not yet all made

Shapes: P pairs, H x W what the model reads.
"""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from domix.analyses.adversarial.perturbation import perturb
from domix.data.loading.image_cache import digest_of_images
from domix.data.store import images
from domix.embed.passes import PACKAGES
from domix.model.checkpoint import WEIGHTS
from domix.runtime.code_digest import code_digest
from domix.runtime.files import atomic_file, digest_of, explain, sha256_file
from domix.runtime.kept import Kept
from domix.runtime.seeds import torch_generator
from domix.runtime.tables import write_table

if TYPE_CHECKING:
    from domix.analyses.adversarial.draw import Draw
    from domix.analyses.adversarial.settings import Settings
    from domix.embed.run_model import RunModel

TABLE = "pairs.parquet"
SOURCE, TARGET, VARIANTS = "source", "target", ("smooth", "patchy")
KINDS = (SOURCE, TARGET, *VARIANTS)
log = logging.getLogger(__name__)


def open_images(model: RunModel, drawn: Draw, source: str, settings: Settings) -> dict[str, Tensor]:
    """Return the images of all pairs, uint8 [P, 3, H, W] by `source`, `target` and variant, made where none are kept.

    Args:
        model: that is deceived; it reads both sources.
        drawn: its images.
        source: the packed source of the targets.
        settings: of the analysis.

    Raises:
        DataError: an image cannot be read, or the model has no gradients or gives values that are not finite.
        DomixError: there is no room on the disk.
    """
    home = model.context.cache / "adversarial"
    key = _key(model, drawn, source, settings)
    states = home / "states" / digest_of(**key)

    def make(folder: Path) -> None:
        with explain(states):
            states.mkdir(parents=True, exist_ok=True)
        for start in range(0, drawn.pairs, settings.batch):
            numbers = range(start, min(start + settings.batch, drawn.pairs))
            if not all((states / _name(what, number)).exists() for what in KINDS for number in numbers):
                _write(states, numbers, _changed(model, drawn, source, numbers, settings))
            log.info("adversarial images of %s: %d of %d pairs", model.folder.name, numbers.stop, drawn.pairs)
        for name in [_name(what, number) for what in KINDS for number in range(drawn.pairs)]:
            shutil.copyfile(states / name, folder / name)
        write_table(folder / TABLE, pairs_table(drawn, source))

    folder = Kept(home).open(key, make, what="adversarial images")
    shutil.rmtree(states, ignore_errors=True)  # only now that all are kept
    log.info("the adversarial images of %s lie in %s", model.folder.name, folder)
    return {what: _read(folder, what, drawn.pairs) for what in KINDS}


def pairs_table(drawn: Draw, source: str) -> pd.DataFrame:
    """Return what each pair's images are, and the names of their files."""
    sides = {SOURCE: (drawn.sources, drawn.origin), TARGET: (drawn.targets, source)}
    columns: dict[str, Any] = {"pair": np.arange(drawn.pairs)}
    for side, (rows, where) in sides.items():
        columns[f"{side}_set"] = where
        columns |= {f"{side}_{name}": rows[name].to_numpy() for name in ("row", "domain", "class")}
    columns |= {f"{what}_file": [_name(what, number) for number in range(drawn.pairs)] for what in KINDS}
    return pd.DataFrame(columns)


def as_png(image: Tensor) -> bytes:
    """Return an image, uint8 [3, H, W], as a PNG file."""
    return images.encode(Image.fromarray(image.permute(1, 2, 0).numpy()))


def _changed(model: RunModel, drawn: Draw, source: str, numbers: range, settings: Settings) -> Mapping[str, Tensor]:
    """Return the images of some pairs; both variants are computed in one batch."""
    part = slice(numbers.start, numbers.stop)
    foreign = torch.cat(list(model.batches(drawn.origin, drawn.sources.iloc[part])))
    known = torch.cat(list(model.batches(source, drawn.targets.iloc[part])))
    weights = torch.tensor([settings.smoothness, 0.0]).repeat_interleave(len(foreign))
    found = perturb(
        model.encoder,
        foreign.repeat(2, 1, 1, 1),
        known.repeat(2, 1, 1, 1),
        steps=settings.steps,
        lr=settings.lr,
        smoothness=weights.to(model.encoder.device),
        generators=[torch_generator(settings.seed, "adversarial", name, n) for name in VARIANTS for n in numbers],
    )
    return {SOURCE: foreign, TARGET: known} | dict(zip(VARIANTS, found.chunk(2), strict=True))


def _key(model: RunModel, drawn: Draw, source: str, settings: Settings) -> dict[str, Any]:
    """Return all that the images depend on."""
    return {
        "weights": sha256_file(model.folder / WEIGHTS),
        "sources": [drawn.origin, digest_of_images(drawn.sources)],
        "targets": [source, digest_of_images(drawn.targets)],
        "preprocess": str(model.encoder.preprocess),
        "settings": settings.model_dump(include={"steps", "lr", "smoothness", "seed"}),
        "code": code_digest(__name__),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _name(what: str, number: int) -> str:
    return f"{what}-{number:04d}.png"


def _write(folder: Path, numbers: range, found: Mapping[str, Tensor]) -> None:
    for what, tensors in found.items():
        for number, tensor in zip(numbers, tensors, strict=True):
            with atomic_file(folder / _name(what, number)) as path:
                path.write_bytes(as_png(tensor))


def _read(folder: Path, what: str, pairs: int) -> Tensor:
    read = [images.decode((folder / _name(what, number)).read_bytes()) for number in range(pairs)]
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in read])
