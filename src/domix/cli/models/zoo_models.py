"""What `domix zoo` measures of one model of its list, kept in .cache by its weights, the images and the code.

A model is opened where something is not kept, and let go before the next.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domix.activations.encode import encode
from domix.activations.store import StoreWriter, open_or_make
from domix.cli.detection.heads import own_head
from domix.cli.models.ood import open_features
from domix.cli.models.zoo_concepts import NEGATIVES, ConceptImages
from domix.data.classes.names import class_text
from domix.data.loading.image_cache import digest_of_images
from domix.data.store.shards import ShardReader
from domix.embed.evaluation_images import open_images
from domix.embed.evaluation_sets import EvaluationSet
from domix.embed.feature_model import FeatureModel
from domix.embed.image_sets import batch_of, embed_classes, embed_images, embed_rows
from domix.embed.passes import PACKAGES, ComputeContext, kept_checkpoints
from domix.embed.prompts import render_prompts
from domix.encoders.hub import Caches, describe_tag, find_repository, find_weights
from domix.encoders.public import REPOSITORY
from domix.model.checkpoint import CONFIG
from domix.project.public_models import from_root
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import DataError, DomixError
from domix.runtime.files import digest_of, read_json, write_json
from domix.runtime.kept import Kept
from domix.runtime.seeds import numpy_generator
from domix.runtime.tables import write_table
from domix.settings.params import Params
from domix.zoo.listing import Entry
from domix.zoo.measures import Head, SetFeatures, model_numbers, pruning_curves

COMPARED = 5000  # images, drawn once, on which models are compared with each other
NUMBERS, PRUNING, FEATURES, AP = "numbers.json", "pruning.parquet", "features-{:03}.npy", "ap.npy"
OUTPUT = "output"
Advance = Callable[[int], object]


@dataclass(frozen=True)
class Work:
    """What is measured of every model.

    Attributes:
        sets: of images by name, the known one first.
        templates: of prompts.
        sites: that are compared beside the output.
        concepts: that are sought in its units.
        context: where all is kept, and what computes.
    """

    sets: Mapping[str, EvaluationSet]
    templates: str | Sequence[str]
    sites: Sequence[str]
    concepts: ConceptImages | None
    context: ComputeContext

    @property
    def kept(self) -> Kept:
        """Where it is kept."""
        return Kept(self.context.cache / "zoo")

    @property
    def size(self) -> int:
        """How many images and prompts a model reads; classifiers, which read no prompts, fewer."""
        images = [*self.sets.values(), *([] if self.concepts is None else [self.concepts])]
        return sum(len(what.rows) for what in images) + sum(map(len, self.prompts))

    @cached_property
    def prompts(self) -> list[list[str]]:
        """Those of the known classes."""
        return render_prompts(self.templates, [class_text(name) for name in self.known.classes])

    @property
    def known(self) -> EvaluationSet:
        """The known images."""
        return next(iter(self.sets.values()))

    @cached_property
    def digests(self) -> list[dict[str, Any]]:
        """What stands for the sets."""
        return [_digest(name, what) for name, what in self.sets.items()]

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """What stands for the code."""
        return {
            "code": code_digest(__name__),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        }


class Member:
    """A model of the list, which is opened when it is first asked for."""

    def __init__(self, params: Params, entry: Entry, work: Work) -> None:
        """Take what the list says of it."""
        self.name, self._params, self._entry, self._work = entry.name, params, entry, work

    @cached_property
    def model(self) -> FeatureModel:
        """The model itself.

        Raises:
            ParameterError: it is nowhere.
            DataError: its weights are absent or damaged.
        """
        entry, device = self._entry, self._work.context.device
        return open_features(self._params, entry.model, entry.architecture, None, device=device, alpha=entry.alpha)

    @cached_property
    def files(self) -> list[list[Any]] | None:
        """Path, size and time of change of the files that it is read from; None: only opening it tells them."""
        return files_of(*self._named)

    @property
    def scale(self) -> float:
        """By what a fine-tuned head, which began as prototypes times this, is divided; 1 of other heads."""
        path = Path(from_root(self._named[0])).expanduser() / CONFIG
        return float((read_json(path) if path.is_file() else {}).get("start", {}).get("logit_scale", 1.0))

    @property
    def keys(self) -> list[dict[str, Any]]:
        """Keys of its measures and, where concepts are sought, of these."""
        work = self._work
        named = {"named": [*self._named, self._entry.alpha]}
        told = {"about": self.model.about} if self.files is None else named
        mine = {"model": told, "files": self.files, **work.made_by}
        measures = {"what": "a model of a zoo", "sites": list(work.sites), "sets": work.digests}
        keys = [measures | mine | {"prompts": digest_of(prompts=work.prompts)}]
        if work.concepts is not None:
            keys.append({"what": "concepts of a model of a zoo", "concepts": work.concepts.digest} | mine)
        return keys

    @property
    def is_kept(self) -> bool:
        """Whether all of it is kept; not of a model that must be opened to be known."""
        return self.files is not None and all(self._work.kept.has(key) for key in self.keys)

    @property
    def _named(self) -> tuple[str, str | None]:
        named = self._params.models.get(self._entry.model)
        return (self._entry.model, self._entry.architecture) if named is None else (named.weights, named.architecture)


def measured(member: Member, work: Work, advance: Advance) -> list[Path]:
    """Return the folders with what is kept of a model: its measures and, where asked for, the AP of its units.

    Raises:
        DataError: its weights are absent or damaged, it knows no such classes, or its activations are dead.
        ParameterError: it is nowhere.
    """
    makers = [lambda folder: _measure(member.model, work, folder, advance, scale=member.scale)]
    if work.concepts is not None:
        makers.append(lambda folder: _seek(member.model, work, folder, advance))
    what = f"measures of {member.name}"
    return [work.kept.open(key, make, what=what) for key, make in zip(member.keys, makers, strict=True)]


def files_of(model: str, architecture: str | None) -> list[list[Any]] | None:
    """Return path, size and time of change of the files that a model is read from; None: only opening it tells them."""
    path = Path(from_root(model)).expanduser()
    try:
        if model.startswith(REPOSITORY):
            path = find_repository(model.removeprefix(REPOSITORY), Caches())
        elif not path.exists() and architecture is not None:
            path = find_weights(architecture, model, describe_tag(architecture, model), Caches())
    except DomixError:
        return None  # which opening it says better
    if not path.exists():
        return None
    parts = [path] if path.is_file() else sorted(part for part in path.iterdir() if part.is_file())
    parts += [file for epoch, file in kept_checkpoints(path).items() if epoch == 0]  # what a fine-tuned model began as
    if path.parent.name == "checkpoints":
        parts.append(path.parent.parent / "config.json")
    if architecture is not None and (described := Path(from_root(architecture)).expanduser()).is_file():
        parts.append(described)
    states = [(part.resolve(), part.stat()) for part in parts if part.exists()]
    return [[str(part), state.st_size, state.st_mtime_ns] for part, state in states]


def _measure(model: FeatureModel, work: Work, folder: Path, advance: Advance, *, scale: float) -> None:
    """Write NUMBERS, PRUNING, and the features on which models are compared, a file a site.

    A head is divided by `scale`, which moves no answer, so that importances can be compared.
    """
    head = _head(model, work, advance)
    bias = None if head.bias is None else (head.bias / scale).astype(np.float32)
    head = Head((head.weight / scale).astype(np.float32), bias)
    seen = {
        name: SetFeatures(
            embed_images(model, what, work.context, advance=advance),
            what.rows["label"].to_numpy(np.int64),
            what.subset,
            what.answers,
        )
        for name, what in work.sets.items()
    }
    known, *shifts = seen.values()
    moved = dict(zip(list(seen)[1:], shifts, strict=True))
    numbers = model_numbers(known, moved, head)
    write_table(folder / PRUNING, pruning_curves(known, moved, head))
    rows = np.arange(len(known.labels))
    if len(rows) > COMPARED:
        rows = np.sort(numpy_generator(0, "zoo").choice(rows, COMPARED, replace=False))
    compared: dict[str, NDArray[Any]] = {OUTPUT: known.features[rows]}
    if work.sites:
        compared |= _at_sites(model, replace(work.known, rows=work.known.rows.iloc[rows]), work)
    for place, values in enumerate(compared.values()):
        np.save(folder / FEATURES.format(place), values)
    cut = model.encoder.preprocess
    size = "x".join(map(str, dict.fromkeys(cut.size)))
    reads = f"{size} px, {cut.resize_mode}, {cut.interpolation}, mean {_plain(cut.mean)}, std {_plain(cut.std)}"
    places = [site.name for site in model.encoder.sites] if work.sites else []
    about = {"reads": reads, "sites": places, "compared": list(compared), "numbers": numbers}
    write_json(folder / NUMBERS, about)


def _seek(model: FeatureModel, work: Work, folder: Path, advance: Advance) -> None:
    """Write the average precision of the units for the concepts [U, C]."""
    what = work.concepts
    assert what is not None, "it is asked for"
    with what.open() as reader:
        features = embed_rows(model, reader, what.rows, work.context, name=what.name, advance=advance)
    np.save(folder / AP, what.concepts.ap(features, NEGATIVES))


def _head(model: FeatureModel, work: Work, advance: Advance) -> Head:
    if model.clip is not None:
        return Head(embed_classes(model.clip, work.prompts, work.context, advance=advance))
    found = own_head(model, work.known.classes)
    if found is None or not found.is_known:
        raise DataError(f"{model.name} has no outputs for the classes of {next(iter(work.sets))}: name other images")
    return Head(found.weight.astype(np.float32), found.bias.astype(np.float32))


def _at_sites(model: FeatureModel, what: EvaluationSet, work: Work) -> dict[str, NDArray[np.float16]]:
    """Return activations of the named sites that the model has, averaged over positions [N, C]."""
    mine, context = [site.name for site in model.encoder.sites if site.name in work.sites], work.context
    if not mine:
        return {}
    with ShardReader(what.shards) as reader:
        images = open_images(
            context.cache / "evaluation", reader, what.rows, model.encoder.preprocess, threads=context.threads
        )

    def make(writer: StoreWriter) -> None:
        encode(model.encoder, images.batches(batch_of(model, context)), [writer])

    with TemporaryDirectory() as temporary:
        store = open_or_make(Path(temporary), mine, len(images), key={}, make=make)
        return {name: store.take(name, np.arange(len(images))) for name in mine}


def _digest(name: str, what: EvaluationSet) -> dict[str, Any]:
    about = {"labels": what.rows["label"].tolist(), "classes": what.classes, "subset": what.subset}
    return {"name": name, "images": digest_of_images(what.rows), "told": digest_of(answers=what.answers, **about)}


def _plain(values: Sequence[float]) -> str:
    return "/".join(f"{value:.3g}" for value in dict.fromkeys(values))
