"""Held-out test images, and images like them, among the training samples of every mixture.

Three searches, each for what the one before it misses: equal files, nearly equal images
(`data/mixtures/duplicates.py`), and images that a trained encoder embeds close to a held-out one. The last finds
mirrored, redrawn and recoloured copies, but also plain likenesses: an encoder that was taught classes draws all images
of a class together. It says where to look, not what is a copy.

The encoder reads every training sample once, whatever the number of mixtures, and only what is needed of its embeddings
is kept. The same pass serves the domain audit (`domain_audit.py`).

Shapes: P held-out images, N samples, D embedding, B batch, G domains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from domix.analyses.contract import Findings
from domix.analyses.leakage.domain_audit import Probe, audit_table, fit_probe
from domix.analyses.leakage.neighbours import Bools, Ints, Nearest, Samples, gather
from domix.analyses.sampling import draw_rows
from domix.data.mixtures.duplicates import hash_bits, held_out_images, in_cells, is_flat, leaked
from domix.data.store.index import read_index
from domix.data.store.shards import ShardReader
from domix.embed.passes import ComputeContext
from domix.embed.run_model import RunModel
from domix.runs import CLIP
from domix.runtime.errors import DataError, ParameterError
from domix.study import Run, Study

READ, COMPARED = ["row", "key", "width", "height"], ["row", "sha256", "phash"]  # what the encoder and `leaked` need
INDEX_COLUMNS = [*READ, "domain", "class", "label", "split", "sha256", "phash"]
SUMMARY = ["mixture", "kind", "samples", "held_out_samples", "same_class", "images", "held_out", "n"]
DUPLICATES = ["kind", "test_row", "source", "row", "domain", "class", "distance", "similarity", "tested", "mixtures"]
KEPT = 5  # nearest training samples of each held-out image in the table
PROBE_IMAGES, PROBE_SEED = 1500, 0  # images a domain that the domain probe learns from, drawn by seed


@dataclass(frozen=True)
class Search:
    """What to look for, and how."""

    study: Study
    similarity: float
    near_bits: int
    confidence: float
    context: ComputeContext


def choose_encoder(runs: Sequence[Run], cells: pd.DataFrame, encoder: str | None) -> Run:
    """Return the run whose model embeds the images: the one named `encoder`, or the one shown most.

    That is the first of those whose mixture holds samples of most cells (`cells`: columns mixture, samples).

    Raises:
        ParameterError: `encoder` is no run of the study.
    """
    if encoder is not None:
        named = {run.name: run for run in runs}
        if encoder not in named:
            raise ParameterError(
                f"{encoder!r} is no run of this study: name one of {', '.join(named)}", argument="encoder"
            )
        return named[encoder]
    filled = cells[cells["samples"] > 0].groupby("mixture").size()
    return max(runs, key=lambda run: filled.get(run.mixture, 0))


def audit(mixtures: Mapping[str, pd.DataFrame], shards: Mapping[str, Path], encoder: Path, search: Search) -> Findings:
    """Look for held-out images in mixtures.

    Args:
        mixtures: name -> columns `source`, `row`.
        shards: source -> its packed folder; the multi-domain source first. Others that no mixture holds are not read.
        encoder: folder of a trained model.

    Raises:
        DataError: a file is missing or damaged, the study withholds no image, or the model's training has diverged.
    """
    held = {next(iter(shards)), *(name for table in mixtures.values() for name in table["source"].unique())}
    shards = {name: folder for name, folder in shards.items() if name in held}
    material = _gather_material(mixtures, {n: read_index(f, INDEX_COLUMNS) for n, f in shards.items()}, search.study)
    with ExitStack() as stack:
        readers = {name: stack.enter_context(ShardReader(folder)) for name, folder in shards.items()}
        model = RunModel(encoder, CLIP, readers, search.context)
        nearest, probe, taken = _look(model, material, search)
    copies = _copies(material, search.near_bits)
    shown = {
        (mixture, source): _by_domain(material, taken, mixture, source)
        for mixture in material.mixtures
        for source in material.indices
    }
    tables = {
        "duplicates": pd.concat(
            [_copies_table(material, copies), _nearest_table(material, nearest)], ignore_index=True
        ),
        "summary": _summary(material, copies, nearest),
        "domains": audit_table(probe, material.domains, shown, confidence=search.confidence),
    }
    return Findings(tables, _facts(material, probe, search) | {"encoder": encoder.name})


@dataclass(frozen=True)
class _Material:
    """What is searched: held-out images, and the samples of all mixtures with what the indices say of them."""

    mixtures: list[str]
    indices: dict[str, pd.DataFrame]  # source -> index; the multi-domain source first
    domains: list[str]  # of the multi-domain source
    images: pd.DataFrame  # index rows of the P held-out images
    samples: Samples
    domain: Ints  # [N] place in `domains`; their number for none of them
    label: Ints  # [N] label of the multi-domain source's class of that name; -1: none
    tested: Bools  # [U] does a group hold samples of the held-out cells themselves?

    @property
    def source(self) -> str:
        return next(iter(self.indices))

    def index_rows(self, numbers: Ints, source: str, columns: list[str]) -> pd.DataFrame:
        """Return columns of the index for samples, all of one source."""
        return self.indices[source][columns].iloc[self.samples.row[numbers]]

    def groups_of(self, mixture: str) -> Bools:
        return self.samples.shown[:, self.mixtures.index(mixture)]


def _gather_material(mixtures: Mapping[str, pd.DataFrame], indices: dict[str, pd.DataFrame], study: Study) -> _Material:
    source, main = next(iter(indices.items()))
    images = held_out_images(main, study.test_domain, study.test_classes)
    if images.empty:
        raise DataError(f"{source} has no test image of a test class in {study.test_domain!r}", argument="indices")
    none = np.zeros(0, np.int64)
    training = main.loc[main["split"] == "train", "row"].to_numpy()
    samples = gather(list(mixtures.values()), {name: training if name == source else none for name in indices})
    domains = sorted(main["domain"].unique())
    place = {name: number for number, name in enumerate(domains)}
    label = {name: number for number, name in enumerate(study.classes)}
    parts = []
    for name, index in indices.items():
        rows = index[["domain", "class"]].iloc[samples.row[samples.of_source(name)]]
        domain = rows["domain"].map(place).fillna(len(domains)).to_numpy(np.int64)
        labels = rows["class"].map(label).fillna(-1).to_numpy(np.int64)
        tested = in_cells(rows, study.test_domain, study.test_classes) & (name == source)
        parts.append((domain, labels, tested))
    domain, labels, tested = (np.concatenate(column) for column in zip(*parts, strict=True))
    samples, tested = samples.divided(tested)
    return _Material(list(mixtures), indices, domains, images, samples, domain, labels, tested)


def _look(model: RunModel, material: _Material, search: Search) -> tuple[Nearest, Probe, Bools]:
    """Read every sample once: the nearest ones, the domain probe, and what it takes for the test domain [N]."""
    samples, source = material.samples, material.source
    images = np.concatenate(list(model.embeddings(source, material.images)))
    nearest = Nearest(
        images,
        material.images["label"].to_numpy(np.int64),
        groups=len(samples.shown),
        similarity=search.similarity,
        keep=KEPT,
    )
    taken = np.zeros(len(samples), bool)
    mine = samples.of_source(source)
    training = mine[(material.index_rows(mine, source, ["split"])["split"] == "train").to_numpy()]
    drawn = training[draw_rows(material.domain[training], PROBE_IMAGES, seed=PROBE_SEED)]
    image = np.concatenate(list(model.embeddings(source, material.index_rows(drawn, source, READ))))
    probe = fit_probe(
        image,
        material.domain[drawn],
        material.label[drawn],
        material.domains,
        classes=len(search.study.classes),
        test_domain=search.study.test_domain,
        natural=search.study.natural_domain,
    )
    taken[drawn] = probe.taken
    waiting = samples.held
    seen = np.flatnonzero(waiting[drawn])
    nearest.add(image[seen], drawn[seen], samples.group[drawn[seen]], material.label[drawn[seen]])
    waiting[drawn] = False
    for name in material.indices:
        rest = samples.of_source(name)
        rest = rest[waiting[rest]]
        done = 0
        for block in model.embeddings(name, material.index_rows(rest, name, READ)):
            part = rest[done : done + len(block)]
            taken[part] = probe.takes(block, material.label[part])
            nearest.add(block, part, samples.group[part], material.label[part])
            done += len(block)
    return nearest, probe, taken


def _copies(material: _Material, near_bits: int) -> pd.DataFrame:
    """Find copies of held-out images among shown samples: `leaked`, with the number `sample` and `test_label`."""
    samples = material.samples
    shown = samples.held
    numbers = {name: samples.of_source(name) for name in material.indices}
    rows = {name: material.index_rows(mine[shown[mine]], name, COMPARED) for name, mine in numbers.items()}
    pairs = leaked(material.images, rows, near_bits)
    number = np.zeros(len(pairs), np.int64)
    for name in material.indices:
        here = (pairs["source"] == name).to_numpy()
        number[here] = samples.find(name, pairs.loc[here, "row"].to_numpy())
    label = material.images.set_index("row")["label"]
    return pairs.assign(sample=number, test_label=label.loc[pairs["test_row"]].to_numpy())


def _summary(material: _Material, copies: pd.DataFrame, nearest: Nearest) -> pd.DataFrame:
    """Count for every mixture and kind of likeness: SUMMARY, one row each.

    `samples`, `same_class` (those alike to an image of their own class) and `images` (held-out images concerned)
    leave out samples of the held-out cells themselves, which a mixture shows on purpose or not at all; these count as
    `held_out_samples`. `held_out` and `n` are the numbers of held-out images and of the mixture's samples.
    """
    sample = copies["sample"].to_numpy()
    group = material.samples.group[sample]
    same = copies["test_label"].to_numpy() == material.label[sample]
    tested = material.tested[group]
    sizes = np.bincount(material.samples.group, minlength=len(material.tested))
    rows = []
    for mixture in material.mixtures:
        groups = material.groups_of(mixture)
        head = (mixture, len(material.images), int(sizes[groups].sum()))
        for kind in ("exact", "near"):
            here = groups[group] & (copies["kind"] == kind).to_numpy()
            free = copies[here & ~tested]
            counts = (free["sample"].nunique(), copies.loc[here & tested, "sample"].nunique())
            counts += (copies.loc[here & ~tested & same, "sample"].nunique(), free["test_row"].nunique())
            rows.append((*head, kind, *counts))
        free = groups & ~material.tested
        close = (int(nearest.close[free].sum()), int(nearest.close[groups & material.tested].sum()))
        close += (int(nearest.same_class[free].sum()), int(nearest.touched[free].any(axis=0).sum()))
        rows.append((*head, "embedding", *close))
    columns = ["mixture", "held_out", "n", "kind", "samples", "held_out_samples", "same_class", "images"]
    return pd.DataFrame(rows, columns=columns)[SUMMARY]


def _copies_table(material: _Material, copies: pd.DataFrame) -> pd.DataFrame:
    pairs = copies[["kind", "test_row", "distance"]].assign(similarity=np.nan)
    return _described(material, pairs, copies["sample"].to_numpy())


def _nearest_table(material: _Material, nearest: Nearest) -> pd.DataFrame:
    """Tabulate the nearest samples of each held-out image, those of the held-out cells left out."""
    value, number = nearest.nearest(material.samples.shown.any(axis=1) & ~material.tested)
    image, place = np.nonzero(number >= 0)
    test_row = material.images["row"].to_numpy()[image]
    pairs = {"kind": "embedding", "test_row": test_row, "distance": pd.array([pd.NA] * len(image), "Int64")}
    table = pd.DataFrame(pairs | {"similarity": value[image, place].astype(np.float64)})
    return _described(material, table, number[image, place])


def _described(material: _Material, pairs: pd.DataFrame, numbers: Ints) -> pd.DataFrame:
    """Add what is known of the pairs' training samples, and bring the columns into the order of DUPLICATES."""
    samples = material.samples
    pairs = pairs.astype({"kind": "str", "distance": "Int64"}).reset_index(drop=True)
    source = np.array(samples.sources, dtype=object)[samples.source[numbers]]
    pairs["source"], pairs["row"] = pd.Series(source, dtype="str"), samples.row[numbers]
    pairs["domain"], pairs["class"] = pd.Series(dtype="str"), pd.Series(dtype="str")
    for name, index in material.indices.items():
        here = (pairs["source"] == name).to_numpy()
        for column in ("domain", "class"):
            pairs.loc[here, column] = index[column].iloc[samples.row[numbers[here]]].to_numpy()
    pairs["tested"] = material.tested[samples.group[numbers]]
    shown = samples.shown[samples.group[numbers]]
    pairs["mixtures"] = [[m for m, has in zip(material.mixtures, row, strict=True) if has] for row in shown]
    return pairs[DUPLICATES]


def _by_domain(material: _Material, taken: Bools, mixture: str, source: str) -> tuple[Ints, Ints]:
    """Count a mixture's samples of a source by domain, last those of none, and those taken for the test domain."""
    mine = material.samples.of_source(source)
    mine = mine[material.groups_of(mixture)[material.samples.group[mine]]]
    size, domain = len(material.domains) + 1, material.domain[mine]
    return np.bincount(domain, minlength=size), np.bincount(domain[taken[mine]], minlength=size)


def _facts(material: _Material, probe: Probe, search: Search) -> dict[str, Any]:
    """Describe the search: numbers, and what was left out of it."""
    samples = material.samples
    shown = samples.held
    flat = 0
    for name in material.indices:
        mine = samples.of_source(name)
        flat += int(is_flat(hash_bits(material.index_rows(mine[shown[mine]], name, ["phash"])["phash"])).sum())
    rates = zip(material.domains, probe.rates.tolist(), strict=True)
    return {
        "test_domain": search.study.test_domain,
        "natural_domain": search.study.natural_domain,
        "held_out": len(material.images),
        "samples": int(shown.sum()),
        "similarity": search.similarity,
        "near_bits": search.near_bits,
        "flat_held_out": int(is_flat(hash_bits(material.images["phash"])).sum()),
        "flat_samples": flat,
        "probe_images": int(probe.images.sum()),
        "probe_rates": {domain: round(rate, 4) for domain, rate in rates if np.isfinite(rate)},
    }
