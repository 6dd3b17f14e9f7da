"""`domix zoo`: the signatures of many models and their groups beside accuracy and robustness: docs/zoo.md.

Models are read one after the other. What was measured of one is kept in .cache by its weights, the images and the code,
so that a second run opens none of them, and one that was cut short goes on.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from domix.analyses.pruning.section import prunable
from domix.cli.models.concepts import concept_table
from domix.cli.models.zoo_concepts import ConceptImages, open_concepts
from domix.cli.models.zoo_models import AP, FEATURES, NUMBERS, OUTPUT, PRUNING, Member, Work, measured
from domix.cli.models.zoo_sets import open_sets
from domix.project.embedding import means_of
from domix.runtime.errors import DataError, ParameterError, passing
from domix.runtime.files import atomic_folder, read_json
from domix.runtime.tables import read_table
from domix.settings.params import Params
from domix.signature.concepts import concept_curve
from domix.zoo.concepts import Encoded, concept_numbers, encode_table
from domix.zoo.likeness import cka_matrix, group_matrix
from domix.zoo.listing import Entry, Listing, read_listing
from domix.zoo.measures import IMPORTANCE
from domix.zoo.publish import MARK, Zoo, publish
from domix.zoo.relations import relate
from domix.zoo.robustness import ID, pruned_robustness, with_robustness, zoo_trends

Homes = Mapping[str, Sequence[Path]]  # by model: folders of its measures and, where asked for, of the AP of its units

BAR = {"unit": " images and prompts", "unit_scale": True, "leave": False, "disable": None}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """What the command is asked beside the list: sets of images, what more to measure, and from when it counts."""

    images: str
    shifts: Sequence[str] = ()
    sites: Sequence[str] = ()
    concepts: str | None = None
    threshold: float = 0.9  # of the average precision from which a unit encodes a concept
    templates: str | None = None


def main(params: Params, models: str, asked: Asked, out: Path) -> None:
    """Measure every model of a list, and write tables, figures and a page.

    Raises:
        ParameterError: the folder is another's, or a set or a group is not there.
        DataError: a set cannot be used, or some models cannot: what the others say is written before.
    """
    if out.exists() and not (out / MARK).exists():
        raise ParameterError(f"--out {out} is there already and holds no zoo: name another folder")
    listing, context = read_listing(models), means_of(params)
    sets = open_sets(params, asked.images, asked.shifts)
    sought = None if asked.concepts is None else open_concepts(params, asked.concepts, context)
    work = Work(sets, asked.templates or params.embed.templates, asked.sites, sought, context)
    with passing(templates="--templates" if asked.templates else "embed.templates"):
        log.info("zoo: %d models, each on %d images and prompts", len(listing.models), work.size)
    found, failed = measure_all(params, listing, work)
    if not found:
        raise DataError(f"none of the {len(failed)} models can be read; {_first(failed)}")
    _require_sites(asked.sites, found)
    zoo = gather(listing, found, work, failed, asked.threshold)
    with atomic_folder(out) as folder:
        publish(zoo, folder)
    print(out / "index.html")
    if failed:
        raise DataError(f"{len(failed)} of {len(listing.models)} models are left out; {_first(failed)}")


def measure_all(params: Params, listing: Listing, work: Work) -> tuple[Homes, dict[str, str]]:
    """Return where each model's measures are, and why the others have none; what is not kept is measured.

    A bar on the terminal counts images and prompts; the log says how long is left, as long as models take alike.
    """
    known = {entry.name for entry in listing.models if Member(params, entry, work).is_kept}
    found: dict[str, Sequence[Path]] = {}
    failed: dict[str, str] = {}
    total, initial = (count * work.size for count in (len(listing.models), len(known)))
    with logging_redirect_tqdm(), tqdm(total=total, initial=initial, file=sys.stderr, **BAR) as bar:
        started, done = time.monotonic(), 0
        for number, entry in enumerate(listing.models, 1):
            is_kept = entry.name in known
            left = sum(other.name not in known for other in listing.models[number - 1 :])
            told = " (kept)" if is_kept else ""
            if done and left:
                told += f", about {tqdm.format_interval((time.monotonic() - started) / done * left)} left"
            log.info("zoo: %d of %d, %s%s", number, len(listing.models), entry.name, told)
            try:
                advance = (lambda count: None) if is_kept else bar.update
                found[entry.name] = measured(Member(params, entry, work), work, advance)
            except (DataError, ParameterError) as error:
                failed[entry.name] = str(error)
            except torch.OutOfMemoryError:
                failed[entry.name] = "the device has too little memory for it: lower embed.batch"
            if entry.name in failed:
                log.warning("zoo: %s is left out: %s", entry.name, failed[entry.name])
            done += not is_kept
    return found, failed


def gather(listing: Listing, found: Homes, work: Work, failed: Mapping[str, str], threshold: float) -> Zoo:
    """Put what was measured of all models together."""
    (known, *shifts), entries = work.sets, [entry for entry in listing.models if entry.name in found]
    numbers = {name: read_json(homes[0] / NUMBERS) for name, homes in found.items()}
    pruning = {name: read_table(homes[0] / PRUNING) for name, homes in found.items()}
    rows = []
    for entry in entries:
        curves = pruning[entry.name]
        mine = curves[(curves["order"] == IMPORTANCE) & (curves["set"] == ID)]
        head = {"name": entry.name, "group": entry.group, "family": entry.family}
        rows.append(head | numbers[entry.name]["numbers"] | {"prunable": prunable(mine)})
    models = pd.DataFrame(rows)
    counts = {name: len(work.sets[name].rows) for name in shifts}
    trends = zoo_trends(models, known, counts, listing.baselines, len(work.known.rows))
    models = with_robustness(models, trends)
    encoded = None
    if work.concepts is not None:
        aps = {entry.name: found[entry.name][1] / AP for entry in entries}
        columns = [concept_numbers(np.load(path, mmap_mode="r"), threshold) for path in aps.values()]
        models = models.join(pd.DataFrame(columns))
        encoded = _encoded(work.concepts, aps, {entry.name: entry.group for entry in entries}, threshold)
    curves = pd.concat([table.assign(model=name) for name, table in pruning.items()], ignore_index=True)
    curves = pruned_robustness(curves, trends, counts | {ID: len(work.known.rows)})
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
    return Zoo(known, models, curves[leading], relations, without, _matrices(entries, found), notes, encoded)


def _encoded(what: ConceptImages, aps: Mapping[str, Path], groups: Mapping[str, str], threshold: float) -> Encoded:
    best, curves = [], []
    for name, path in aps.items():
        ap = np.load(path)
        best.append(concept_table(OUTPUT, what.concepts, ap).assign(model=name))
        curves.append(pd.DataFrame({"model": name, **vars(concept_curve(ap))}))
    columns = ["model", "concept", "category", "shown", "images", "ap", "unit"]
    curve = pd.concat(curves, ignore_index=True).rename(columns={"thresholds": "threshold"})
    return encode_table(what.name, threshold, pd.concat(best, ignore_index=True)[columns], curve, groups)


def _require_sites(sites: Sequence[str], found: Homes) -> None:
    known = {name: read_json(homes[0] / NUMBERS)["sites"] for name, homes in found.items()}
    for site in sites:
        if not any(site in places for places in known.values()):
            name, places = next(iter(known.items()))
            raise ParameterError(f"--sites {site}: no model has this site; {name} has {', '.join(places)}")


def _matrices(entries: Sequence[Entry], found: Homes) -> dict[str, pd.DataFrame]:
    """Return CKA between models and between groups and, where some were named, between all sites.

    Features stay on the disk: of all models a batch is read at a time.
    """
    outputs, every = {}, {}
    for entry in entries:
        home = found[entry.name][0]
        sites = read_json(home / NUMBERS)["compared"]
        arrays = {site: np.load(home / FEATURES.format(place), mmap_mode="r") for place, site in enumerate(sites)}
        outputs[entry.name] = arrays[OUTPUT]
        every |= {f"{entry.name} {site}": values for site, values in arrays.items() if len(arrays) > 1}
    matrix = cka_matrix(outputs)
    found_matrices = {"models": matrix, "groups": group_matrix(matrix, {entry.name: entry.group for entry in entries})}
    return found_matrices | ({"sites": cka_matrix(every)} if every else {})


def _first(failed: Mapping[str, str]) -> str:
    return ": ".join(next(iter(failed.items())))
