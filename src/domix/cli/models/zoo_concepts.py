"""The images whose concepts `domix zoo` seeks in the units of its models: Broden's, or a packed source's own.

Shapes: N images, U units, C concepts, K categories.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from domix.analyses.concepts import study_concepts
from domix.analyses.concepts.broden import INDEX, read_broden
from domix.analyses.concepts.settings import Settings
from domix.cli.models.zoo_sets import open_set
from domix.data.loading.image_cache import digest_of_images
from domix.data.loading.samples import Reader
from domix.data.store.shards import ShardReader
from domix.embed.passes import ComputeContext
from domix.project.public_models import from_root
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import DataError
from domix.runtime.files import digest_of, read_json, write_json
from domix.runtime.kept import Kept
from domix.settings.params import Params
from domix.signature.concepts import ConceptSet

NEGATIVES = "category"
NAMES, ARRAYS = "names.json", "concepts.npz"  # of what is kept


@dataclass(frozen=True)
class ConceptImages:
    """Images and the concepts that they show, of which each can be sought.

    Attributes:
        name: of the images.
        concepts: which of the images show what.
        rows: of the images, as of an index.
        open: gives what reads their files.
        digest: of all that what is found depends on beside the model.
    """

    name: str
    concepts: ConceptSet
    rows: pd.DataFrame
    open: Callable[[], AbstractContextManager[Reader]]
    digest: str


@dataclass(frozen=True)
class Files:
    """Image files, read by their places."""

    paths: Sequence[Path]

    def read(self, row: int) -> bytes:
        """Return an image file."""
        return self.paths[row].read_bytes()


def open_concepts(params: Params, asked: str, context: ComputeContext) -> ConceptImages:
    """Open Broden's folder, or a set of images as `--images` takes it: kinds of classes, domains, colours.

    Raises:
        ParameterError: there is no such set.
        DataError: a file is missing or damaged, or too few images show any concept.
    """
    folder = Path(from_root(asked)).expanduser()
    if (folder / INDEX).is_file():
        broden = read_broden(folder, Kept(context.cache / "broden"))
        found, rows, name = broden.concepts, _rows(broden.images), folder.name
        opened: Callable[[], AbstractContextManager[Reader]] = partial(nullcontext, Files(broden.images))
    else:
        name, what = open_set(params, asked, "--concepts")
        rows, opened = what.rows, partial(ShardReader, what.shards)
        found = _concepts_of(rows, what.shards, context)
    known = found.usable(NEGATIVES, Settings().least)
    about = [known.names, known.category.tolist(), known.categories]
    digest = digest_of(
        images=digest_of_images(rows), about=about, shown=_bits(known.shown), told=_bits(known.annotated)
    )
    return ConceptImages(name, known, rows, opened, digest)


def _rows(files: Sequence[Path]) -> pd.DataFrame:
    """Return what tells image files from others, as of an index; size and time of change stand for what they hold."""
    states = [path.stat() for path in files]
    sizes = [_size(path) for path in files]
    return pd.DataFrame(
        {
            "row": np.arange(len(files)),
            "key": [str(path) for path in files],
            "sha256": [str(state.st_mtime_ns) for state in states],
            "shard": "",
            "offset": 0,
            "size": [state.st_size for state in states],
            "width": [width for width, _ in sizes],
            "height": [height for _, height in sizes],
        }
    )


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"the image {path} is damaged: fetch it anew") from error


def _concepts_of(rows: pd.DataFrame, shards: Path, context: ComputeContext) -> ConceptSet:
    """Return the concepts of packed images, whose colours are read off them but once."""
    key = {
        "what": "concepts of images",
        "images": digest_of_images(rows),
        "about": digest_of(rows=rows[["class", "domain"]].to_numpy().tolist(), source=shards.name),
        "code": code_digest(study_concepts.__name__),
    }

    def make(folder: Path) -> None:
        found = study_concepts.study_concepts(rows, shards)
        write_json(folder / NAMES, [found.names, found.categories])
        np.savez(folder / ARRAYS, category=found.category, shown=found.shown, annotated=found.annotated)

    home = Kept(context.cache / "zoo").open(key, make, what="concepts")
    names, categories = read_json(home / NAMES)
    with np.load(home / ARRAYS) as arrays:
        return ConceptSet(tuple(names), categories=tuple(categories), **{name: arrays[name] for name in arrays.files})


def _bits(flags: np.ndarray) -> str:
    return hashlib.sha256(np.packbits(flags).tobytes()).hexdigest()
