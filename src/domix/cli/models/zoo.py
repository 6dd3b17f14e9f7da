"""`domix zoo`: the signatures of many models and their groups beside accuracy and robustness: docs/zoo.md.

Models are read one after the other. What was measured of one is kept in .cache by its weights, the images and the code,
so that a second run opens none of them, and one that was cut short goes on.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.activations.encode import encode
from domix.activations.store import StoreWriter, open_or_make
from domix.analyses.pruning.section import prunable
from domix.cli.detection.heads import own_head
from domix.cli.models.ood import open_features
from domix.cli.models.zoo_sets import open_sets
from domix.data.classes.names import class_text
from domix.data.loading.image_cache import digest_of_images
from domix.data.store.shards import ShardReader
from domix.embed import image_sets
from domix.embed.evaluation_images import open_images
from domix.embed.evaluation_sets import EvaluationSet
from domix.embed.feature_model import FeatureModel
from domix.embed.image_sets import embed_classes, embed_images
from domix.embed.passes import PACKAGES, ComputeContext
from domix.embed.prompts import render_prompts
from domix.encoders.hub import Caches, describe_tag, find_repository, find_weights
from domix.encoders.public import REPOSITORY
from domix.project.embedding import means_of
from domix.project.public_models import from_root
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import DataError, DomixError, ParameterError, passing
from domix.runtime.files import atomic_folder, digest_of, read_json, write_json
from domix.runtime.kept import Kept
from domix.runtime.seeds import numpy_generator
from domix.runtime.tables import read_table, write_table
from domix.settings.params import Params
from domix.zoo import measures
from domix.zoo.likeness import cka_matrix, group_matrix
from domix.zoo.listing import Entry, Listing, read_listing
from domix.zoo.measures import IMPORTANCE, Head, SetFeatures, model_numbers, pruning_curves
from domix.zoo.publish import MARK, Zoo, publish
from domix.zoo.relations import relate
from domix.zoo.robustness import ID, pruned_robustness, with_robustness, zoo_trends

COMPARED = 5000  # images, drawn once, on which models are compared with each other
NUMBERS, PRUNING, FEATURES = "numbers.json", "pruning.parquet", "features.npz"
OUTPUT = "output"

log = logging.getLogger(__name__)


def main(
    params: Params, models: str, images: str, shifts: Sequence[str], out: Path, *, sites: Sequence[str] = ()
) -> None:
    """Measure every model of a list, and write tables, figures and a page.

    Raises:
        ParameterError: the folder is another's, or a set or a group is not there.
        DataError: a set cannot be used, or some models cannot: what the others say is written before.
    """
    if out.exists() and not (out / MARK).exists():
        raise ParameterError(f"--out {out} is there already and holds no zoo: name another folder")
    listing = read_listing(models)
    sets, context = open_sets(params, images, shifts), means_of(params)
    found: dict[str, Path] = {}
    failed: dict[str, DomixError] = {}
    for number, entry in enumerate(listing.models, 1):
        log.info("zoo: %d of %d, %s", number, len(listing.models), entry.name)
        try:
            found[entry.name] = measured(params, entry, sets, sites, context)
        except (DataError, ParameterError) as error:
            log.warning("zoo: %s is left out: %s", entry.name, error)
            failed[entry.name] = error
    if not found:
        raise DataError(f"none of the {len(failed)} models can be read; {_first(failed)}")
    _require_sites(sites, found)
    zoo = gather(listing, found, sets, {name: str(error) for name, error in failed.items()})
    with atomic_folder(out) as folder:
        publish(zoo, folder)
    print(out / "index.html")
    if failed:
        raise DataError(f"{len(failed)} of {len(listing.models)} models are left out; {_first(failed)}")


def measured(
    params: Params, entry: Entry, sets: Mapping[str, EvaluationSet], sites: Sequence[str], context: ComputeContext
) -> Path:
    """Return the folder with what was measured of a model, NUMBERS, PRUNING and FEATURES; measure it if need be.

    Raises:
        DataError: its weights are absent or damaged, it knows no such classes, or its activations are dead.
        ParameterError: it is nowhere, or has none of the sites.
    """
    opened: list[FeatureModel] = []

    def model() -> FeatureModel:
        if not opened:
            opened.append(open_features(params, entry.model, entry.architecture, None, device=context.device))
        return opened[0]

    def make(folder: Path) -> None:
        _measure(params, model(), sets, sites, context, folder)

    files = files_of(params, entry)
    key = {
        "what": "a model of a zoo",
        "code": code_digest(__name__, measures.__name__, image_sets.__name__),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "model": {"about": model().about} if files is None else {"named": [entry.model, entry.architecture]},
        "files": files,
        "templates": params.embed.templates
        if isinstance(params.embed.templates, str)
        else list(params.embed.templates),
        "sites": list(sites),
        "sets": [_digest(name, what) for name, what in sets.items()],
    }
    return Kept(context.cache / "zoo").open(key, make, what=f"measures of {entry.name}")


def files_of(params: Params, entry: Entry) -> list[list[Any]] | None:
    """Return path, size and time of change of the files that a model is read from; None: only opening it tells them."""
    if entry.model in params.models:
        return None
    path, architecture = Path(from_root(entry.model)).expanduser(), entry.architecture
    try:
        if entry.model.startswith(REPOSITORY):
            path = find_repository(entry.model.removeprefix(REPOSITORY), Caches())
        elif not path.exists() and architecture is not None:
            path = find_weights(architecture, entry.model, describe_tag(architecture, entry.model), Caches())
    except DomixError:
        return None  # which opening it says better
    if not path.exists():
        return None
    parts = [path] if path.is_file() else sorted(part for part in path.iterdir() if part.is_file())
    if path.parent.name == "checkpoints":
        parts.append(path.parent.parent / "config.json")
    if architecture is not None and (described := Path(from_root(architecture)).expanduser()).is_file():
        parts.append(described)
    states = [(part.resolve(), part.stat()) for part in parts if part.exists()]
    return [[str(part), state.st_size, state.st_mtime_ns] for part, state in states]


def gather(
    listing: Listing, found: Mapping[str, Path], sets: Mapping[str, EvaluationSet], failed: Mapping[str, str]
) -> Zoo:
    """Put what was measured of all models together."""
    (known, *shifts), entries = sets, [entry for entry in listing.models if entry.name in found]
    numbers = {name: read_json(home / NUMBERS) for name, home in found.items()}
    pruning = {name: read_table(home / PRUNING) for name, home in found.items()}
    rows = []
    for entry in entries:
        curves = pruning[entry.name]
        mine = curves[(curves["order"] == IMPORTANCE) & (curves["set"] == ID)]
        head = {"name": entry.name, "group": entry.group, "family": entry.family}
        rows.append(head | numbers[entry.name]["numbers"] | {"prunable": prunable(mine)})
    models = pd.DataFrame(rows)
    counts = {name: len(sets[name].rows) for name in shifts}
    trends = zoo_trends(models, known, counts, listing.baselines, len(sets[known].rows))
    models = with_robustness(models, trends)
    curves = pd.concat([table.assign(model=name) for name, table in pruning.items()], ignore_index=True)
    curves = pruned_robustness(curves, trends, counts | {ID: len(sets[known].rows)})
    relations, without = relate(models)
    notes = [f"{name} is left out: {why}" for name, why in failed.items()]
    if not trends and shifts:
        notes.append("There is no effective robustness: no trend ships with Domix, and no group is named as baselines.")
    reads: dict[str, list[str]] = {}
    for name in found:
        reads.setdefault(numbers[name]["reads"], []).append(name)
    if len(reads) > 1:
        each = "; ".join(f"{how}: {', '.join(names)}" for how, names in reads.items())
        notes.append(f"CKA compares models that do not read the images alike, which lowers it ({each}).")
        log.warning("zoo: %s", notes[-1])
    leading = ["model", "order", "draw", "percent", "kept", "set", "accuracy", "effective"]
    return Zoo(known, models, curves[leading], relations, without, _matrices(entries, found), notes)


def _measure(
    params: Params,
    model: FeatureModel,
    sets: Mapping[str, EvaluationSet],
    sites: Sequence[str],
    context: ComputeContext,
    folder: Path,
) -> None:
    known, *shifts = sets
    head = _head(params, model, sets[known].classes, known, context)
    seen = {
        name: SetFeatures(
            embed_images(model, what, context), what.rows["label"].to_numpy(np.int64), what.subset, what.answers
        )
        for name, what in sets.items()
    }
    moved = {name: seen[name] for name in shifts}
    numbers = model_numbers(seen[known], moved, head)
    write_table(folder / PRUNING, pruning_curves(seen[known], moved, head))
    rows = np.arange(len(sets[known].rows))
    if len(rows) > COMPARED:
        rows = np.sort(numpy_generator(0, "zoo").choice(rows, COMPARED, replace=False))
    compared = {OUTPUT: seen[known].features[rows]}
    if sites:
        compared |= _at_sites(model, replace(sets[known], rows=sets[known].rows.iloc[rows]), sites, context)
    np.savez(folder / FEATURES, **compared)  # ty: ignore[invalid-argument-type]  # its last keyword is a flag
    cut = model.encoder.preprocess
    size = "x".join(map(str, dict.fromkeys(cut.size)))
    reads = f"{size} px, {cut.resize_mode}, {cut.interpolation}, mean {_plain(cut.mean)}, std {_plain(cut.std)}"
    places = [site.name for site in model.encoder.sites] if sites else []
    write_json(folder / NUMBERS, {"reads": reads, "sites": places, "numbers": numbers})


def _head(params: Params, model: FeatureModel, classes: Sequence[str], source: str, context: ComputeContext) -> Head:
    if model.clip is not None:
        with passing(templates="embed.templates"):
            prompts = render_prompts(params.embed.templates, [class_text(name) for name in classes])
        return Head(embed_classes(model.clip, prompts, context))
    found = own_head(model, classes)
    if found is None or not found.is_known:
        raise DataError(f"{model.name} has no outputs for the classes of {source}: name other images")
    return Head(found.weight.astype(np.float32), found.bias.astype(np.float32))


def _at_sites(
    model: FeatureModel, what: EvaluationSet, sites: Sequence[str], context: ComputeContext
) -> dict[str, NDArray[np.float16]]:
    """Return activations of the named sites that the model has, averaged over positions [N, C]."""
    mine = [site.name for site in model.encoder.sites if site.name in sites]
    if not mine:
        return {}
    with ShardReader(what.shards) as reader:
        images = open_images(
            context.cache / "evaluation", reader, what.rows, model.encoder.preprocess, threads=context.threads
        )

    def make(writer: StoreWriter) -> None:
        encode(model.encoder, images.batches(context.batch), [writer])

    with TemporaryDirectory() as temporary:
        store = open_or_make(Path(temporary), mine, len(images), key={}, make=make)
        return {name: store.take(name, np.arange(len(images))) for name in mine}


def _require_sites(sites: Sequence[str], found: Mapping[str, Path]) -> None:
    known = {name: read_json(home / NUMBERS)["sites"] for name, home in found.items()}
    for site in sites:
        if not any(site in places for places in known.values()):
            name, places = next(iter(known.items()))
            raise ParameterError(f"--sites {site}: no model has this site; {name} has {', '.join(places)}")


def _matrices(entries: Sequence[Entry], found: Mapping[str, Path]) -> dict[str, pd.DataFrame]:
    """Return CKA between models and between groups and, where some were named, between all sites."""
    outputs, every = {}, {}
    for entry in entries:
        with np.load(found[entry.name] / FEATURES) as arrays:
            outputs[entry.name] = arrays[OUTPUT]
            every |= {f"{entry.name} {site}": arrays[site] for site in arrays.files if len(arrays.files) > 1}
    matrix = cka_matrix(outputs)
    found_matrices = {"models": matrix, "groups": group_matrix(matrix, {entry.name: entry.group for entry in entries})}
    return found_matrices | ({"sites": cka_matrix(every)} if every else {})


def _digest(name: str, what: EvaluationSet) -> dict[str, Any]:
    about = {"labels": what.rows["label"].tolist(), "classes": what.classes, "subset": what.subset}
    return {"name": name, "images": digest_of_images(what.rows), "told": digest_of(answers=what.answers, **about)}


def _plain(values: Sequence[float]) -> str:
    return "/".join(f"{value:.3g}" for value in dict.fromkeys(values))


def _first(failed: Mapping[str, DomixError]) -> str:
    name, error = next(iter(failed.items()))
    return f"{name}: {error}"
