"""`domix concepts`: which of Broden's concepts the units of one model encode, and where: docs/concepts.md.

Activations are kept in .cache, so that another run on the same images reads them from there.

Shapes: N images, U units of a site, C concepts, P positions of a map.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from domix.activations.encode import encode
from domix.activations.store import SHARD, ActivationStore, StoreWriter, open_or_make
from domix.analyses.concepts.broden import Broden, read_broden
from domix.analyses.concepts.settings import Settings
from domix.cli.models.evaluate_model import classifier_folder, open_asked
from domix.cli.models.signature import cut_files
from domix.embed.passes import PACKAGES, ComputeContext
from domix.encoders.classifiers import load_any_classifier
from domix.encoders.crops import of_classifier_folder
from domix.encoders.encoder import ImageEncoder, clip_encoder
from domix.encoders.sites import Site, require_site
from domix.model.checkpoint import WEIGHTS
from domix.project.embedding import means_of
from domix.project.public_models import from_root
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import DataError
from domix.runtime.files import atomic_file, digest_of, sha256_file
from domix.runtime.kept import Kept
from domix.settings.params import Params
from domix.signature.concepts import ConceptSet, concept_curve, polysemanticity, unique_concepts
from domix.signature.dissection import DETECTED, SHARE, Dissection, detectors

SHOWN = 10  # concepts found best, that are printed of a site
MOST = 1 << 26  # activations that the quantiles of some channels hold at a time


@dataclass(frozen=True)
class Asked:
    """What the command is asked: the sites, whether for IoU on their maps, and where tables go."""

    broden: Path
    architecture: str | None = None
    sites: tuple[str, ...] = ()  # none: the last
    threshold: float = 0.9  # of the average precision, in what is printed
    iou: bool = False
    out: Path | None = None  # folder of concepts.csv, curve.csv and iou.csv


def main(params: Params, name: str, asked: Asked) -> None:
    """Let a model read Broden's images, and tell what its units encode.

    Raises:
        DataError: a file is missing or damaged, or the model lacks a site, or has no map there.
        ParameterError: there is no such model.
    """
    context = means_of(params)
    encoder, weights = open_encoder(params, name, asked.architecture, context)
    sites = sites_of(encoder, asked)
    broden = read_broden(Path(from_root(str(asked.broden))), Kept(context.cache / "broden"))
    reading = Reading(encoder, weights, broden, context)
    known, settings = broden.concepts.usable("category", Settings().least), Settings()
    store = reading.store([site.name for site in sites])
    tables: dict[str, list[pd.DataFrame]] = {"concepts": [], "curve": [], "iou": []}
    for site in sites:
        ap = known.ap(np.concatenate(list(store.rows(site.name))), settings.negatives)
        tables["concepts"].append(concept_table(site.name, known, ap))
        curve = pd.DataFrame({"site": site.name, **vars(concept_curve(ap))})
        tables["curve"].append(curve.rename(columns={"thresholds": "threshold"}))
        print(said(site.name, tables["concepts"][-1], ap, asked.threshold))
        if asked.iou:
            tables["iou"].append(iou_table(site, broden, dissect(site, reading)))
            print(said_iou(tables["iou"][-1]))
    if asked.out is not None:
        for table, parts in tables.items():
            if parts:
                with atomic_file(asked.out / f"{table}.csv") as temporary:
                    pd.concat(parts, ignore_index=True).to_csv(temporary, index=False)


def open_encoder(
    params: Params, name: str, architecture: str | None, context: ComputeContext
) -> tuple[ImageEncoder, str]:
    """Return a model's encoder, a CLIP model's or a classifier's of Domix, and the digest of its weights."""
    if (folder := classifier_folder(params, name)) is not None:
        model, config = load_any_classifier(folder)
        preprocess = of_classifier_folder(config)
        encoder = ImageEncoder(model, model.visual, preprocess, output="logits", device=context.device)
        return encoder, sha256_file(folder / WEIGHTS)
    subject = open_asked(params, name, architecture)
    return clip_encoder(subject.model, subject.preprocess, device=context.device), subject.sha256


def sites_of(encoder: ImageEncoder, asked: Asked) -> list[Site]:
    """Return the sites that are asked for, by default the last.

    Raises:
        DataError: the model lacks one, or IoU is asked of one that has no map.
    """
    known = {site.name: site for site in encoder.sites}
    for name in asked.sites:
        require_site(name, known)
    found = [known[name] for name in asked.sites or list(known)[-1:]]
    maps = [site.name for site in known.values() if site.kind == "map"]
    for site in found:
        if asked.iou and site.kind != "map":
            has = f"name some of {', '.join(maps)}" if maps else "this model has none"
            raise DataError(f"the site {site.name} gives no feature map, which IoU needs: {has}")
    return found


@dataclass(frozen=True)
class Reading:
    """A model that reads Broden's images; what it makes of them is kept."""

    encoder: ImageEncoder
    weights: str  # digest of its file
    broden: Broden
    context: ComputeContext

    def store(self, sites: Sequence[str], positions: int = 0) -> ActivationStore:
        """Return activations averaged over positions, a row an image; with `positions`, those of every one.

        Maps are of the whole image, as masks are: it is then pressed into the model's square, and nothing cut off.
        """
        count, files = len(self.broden.images), self.broden.images
        preprocess = self.encoder.preprocess
        preprocess = replace(preprocess, resize_mode="squash") if positions else preprocess
        key = {
            "weights": self.weights,
            "images": digest_of(files=[[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]),
            "preprocess": str(preprocess),
            "sites": list(sites),
            "every_position": positions > 0,
            "code": code_digest(__name__),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        }

        def make(writer: StoreWriter) -> None:
            batches = cut_files(files[writer.begin :], preprocess, self.context.batch)
            shown = progress(batches, count, writer.begin)
            encode(self.encoder, shown, [writer], first=writer.begin, pooled=not positions)

        home = self.context.cache / "activations" / digest_of(**key)
        if not positions:
            return open_or_make(home, sites, count, key=key, make=make)
        shard = max(1, SHARD // positions)
        of_site = dict.fromkeys(sites, positions)
        return open_or_make(home, sites, count, key=key, make=make, shard=shard, positions=of_site)


def progress(batches: Iterator[Tensor], count: int, done: int) -> Iterator[Tensor]:
    """Yield batches, and show on a terminal how many of the images are done."""
    with tqdm(total=count, initial=done, unit=" images", file=sys.stderr, leave=False, disable=None) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))


def dissect(site: Site, reading: Reading) -> NDArray[np.float64]:
    """Return the IoU [U, C] of a site's units with all concepts."""
    empty = torch.zeros(1, 3, *reading.encoder.preprocess.size)
    shape = reading.encoder.forward(empty, [site.name]).sites[site.name].shape
    height, width = shape[1:3] if reading.encoder.nhwc else shape[2:]
    positions, concepts = height * width, reading.broden.concepts
    store = reading.store([site.name], positions)
    channels = max(1, min(64, MOST // store.size(site.name)))
    thresholds = store.quantiles(site.name, [1 - SHARE], channels=channels)[0]
    into = Dissection(thresholds, concepts.category, len(concepts.categories))
    image = 0
    with tqdm(total=store.count, unit=" images", file=sys.stderr, leave=False, disable=None) as bar:
        for rows in store.rows(site.name):
            for maps in np.asarray(rows, np.float32).reshape(-1, positions, site.width):
                shown, masks = reading.broden.masks(image)
                into.update(maps.T.reshape(site.width, height, width), shown, masks, concepts.annotated[image])
                image += 1
                bar.update()
    return into.iou()


def concept_table(site: str, known: ConceptSet, ap: NDArray[np.float64]) -> pd.DataFrame:
    """Return the best unit of every concept, from AP [U, C]."""
    names: dict[str, Any] = {"concept": known.names, "category": [known.categories[at] for at in known.category]}
    sizes = {"shown": known.images, "images": known.candidates("category")}
    return pd.DataFrame({"site": site, **names, **sizes, "ap": ap.max(axis=0), "unit": ap.argmax(axis=0)})


def iou_table(site: Site, broden: Broden, iou: NDArray[np.float64]) -> pd.DataFrame:
    """Return the concept that every unit detects best, from IoU [U, C]."""
    found, concepts = detectors(iou), broden.concepts
    names = {"concept": [concepts.names[at] for at in found.concept]}
    names |= {"category": [concepts.categories[concepts.category[at]] for at in found.concept]}
    units = np.arange(len(iou))
    return pd.DataFrame({"site": site.name, "unit": units, **names, "iou": found.iou, "detects": found.detects})


def said(site: str, table: pd.DataFrame, ap: NDArray[np.float64], threshold: float) -> str:
    """Say how many concepts a site encodes, and which are found best."""
    encoded, each = len(unique_concepts(ap, threshold)), polysemanticity(ap, threshold)
    many = "no unit encodes any" if np.isnan(each) else f"{each:.2f} a unit that encodes any"
    best = table.sort_values("ap", ascending=False, kind="stable").head(SHOWN).drop(columns="site")
    head = f"{site}: {encoded} of {len(table)} concepts are encoded at {threshold:g}, {many}"
    return f"{head}\n{best.to_string(index=False, float_format='{:.3f}'.format)}\n"


def said_iou(table: pd.DataFrame) -> str:
    """Say how many units detect a concept, and which are the best."""
    detecting = table[table["detects"]]
    unique = len(detecting[["concept", "category"]].drop_duplicates())
    best = table.sort_values("iou", ascending=False, kind="stable").head(SHOWN).drop(columns=["site", "detects"])
    head = f"{table['site'].iloc[0]}: {len(detecting)} of {len(table)} units detect one of {unique} concepts"
    return f"{head} (IoU above {DETECTED:g})\n{best.to_string(index=False, float_format='{:.3f}'.format)}\n"
