"""Data cards: what each source and each mixture of a study consists of, where it is from, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from domix.data.archives.manifests import Manifest, load_manifest
from domix.data.store.index import INDEX, ROWS
from domix.report.load.study import Results
from domix.report.page.examples import data_uri, spaced
from domix.runtime.files import read_json
from domix.runtime.seeds import numpy_generator

SEED, EXAMPLES = 0, 6  # images on a card, or one a domain where there are more domains
QUANTILES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "greatest": 1.0}
COLUMNS = ["row", "domain", "class", "split", "size", "width", "height", "sha256"]
POSED = "emoji"  # the source whose training images are poses of its test drawings, named <drawing>-pose<n>
POSE = r"-pose\d+$"


@dataclass(frozen=True)
class Repeats:
    """Files that stand in a source more than once; a drawing and its poses count once."""

    files: int  # different files that several samples have
    samples: int  # samples that have one of them
    across_cells: int  # files that stand in several domains or classes
    tested: int  # test samples whose file is a training sample, too


@dataclass(frozen=True)
class SourceCard:
    """One source. `domains` has a row a domain: its name, and how many training samples, test samples and classes."""

    name: str
    manifest: Manifest | None
    read: int
    rejected: dict[str, dict[str, Any]]  # reason -> count, examples
    splits: dict[str, int]
    domains: list[tuple[str, int, int, int]]
    bytes: int  # of the packed images
    sizes: list[tuple[str, int, int, int]]  # quantile, width, height, bytes
    repeats: Repeats
    posed: bool
    examples: list[tuple[int, str]]  # row, and what it shows

    @property
    def packed(self) -> int:
        """Number of samples."""
        return sum(self.splits.values())


def read_card(folder: Path, name: str) -> SourceCard:
    """Describe a packed source from its folder.

    Raises:
        DataError: its index or stats.json is missing or damaged.
    """
    columns = [*COLUMNS, "key"] if name == POSED else COLUMNS
    return make_card(name, ROWS.read(folder / INDEX, columns), read_json(folder / "stats.json"), load_manifest(name))


def make_card(name: str, index: pd.DataFrame, stats: dict[str, Any], manifest: Manifest | None) -> SourceCard:
    """Describe a source from its index (COLUMNS, and `key` for the posed one) and what pack has counted."""
    posed = name == POSED
    drawing = index["key"].str.replace(POSE, "", regex=True) if posed else pd.Series(np.arange(len(index)))
    return SourceCard(
        name=name,
        manifest=manifest,
        read=int(stats["read"]),
        rejected=stats["rejected"],
        splits={split: int((index["split"] == split).sum()) for split in ("train", "test")},
        domains=_domains(index),
        bytes=int(index["size"].sum()),
        sizes=_sizes(index),
        repeats=_repeats(index, drawing.to_numpy()),
        posed=posed,
        examples=_examples(index, name),
    )


def _domains(index: pd.DataFrame) -> list[tuple[str, int, int, int]]:
    rows = []
    for domain, part in index.groupby("domain", observed=True):
        train, test = (int((part["split"] == split).sum()) for split in ("train", "test"))
        rows.append((str(domain), train, test, int(part["class"].nunique())))
    return rows


def _sizes(index: pd.DataFrame) -> list[tuple[str, int, int, int]]:
    shares = list(QUANTILES.values())
    columns = (np.quantile(index[name], shares).round().astype(int).tolist() for name in ("width", "height", "size"))
    return list(zip(QUANTILES, *columns, strict=True))


def _repeats(index: pd.DataFrame, drawing: np.ndarray) -> Repeats:
    """Count files that several drawings share."""
    codes, _ = pd.factorize(index["sha256"])
    twice = np.flatnonzero((np.bincount(codes) > 1)[codes])
    rows = index.iloc[twice][["domain", "class", "split"]].assign(file=codes[twice], drawing=drawing[twice])
    rows = rows[rows.groupby("file")["drawing"].transform("nunique") > 1]
    once = rows.drop_duplicates(["file", "drawing"])
    cells = once.drop_duplicates(["file", "domain", "class"]).groupby("file").size()
    pairs = {split: _of_split(rows, split) for split in ("train", "test")}
    trained = pairs["test"]["file"].map(pairs["train"]["file"].value_counts()).fillna(0).to_numpy()
    own = pd.MultiIndex.from_frame(pairs["test"]).isin(pd.MultiIndex.from_frame(pairs["train"]))
    return Repeats(
        files=once["file"].nunique(),
        samples=len(once),
        across_cells=int((cells > 1).sum()),
        tested=int((trained > own).sum()),
    )


def _of_split(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return a split's pairs of file and drawing, each once."""
    return rows.loc[rows["split"] == split, ["file", "drawing"]].drop_duplicates()


def _examples(index: pd.DataFrame, name: str) -> list[tuple[int, str]]:
    """Draw training samples by seed, as many of each domain; test samples where there is no training."""
    rows = index[index["split"] == "train"]
    rows = index if rows.empty else rows
    domains = sorted(rows["domain"].unique())
    found = []
    for domain in domains:
        places = np.flatnonzero((rows["domain"] == domain).to_numpy())
        generator = numpy_generator(SEED, "data card", name, domain)
        drawn = generator.choice(places, min(len(places), max(1, EXAMPLES // len(domains))), replace=False)
        for row, kind in rows.iloc[np.sort(drawn)][["row", "class"]].itertuples(index=False):
            found.append((int(row), domain if pd.isna(kind) else f"{spaced(kind)}, {domain}"))
    return found


def load_examples(card: SourceCard, read: Callable[[str, int], bytes]) -> list[tuple[str, str]]:
    """Read a card's images: (data URI, what it shows); `read` takes a source and a row."""
    return [(data_uri(read(card.name, row)), text) for row, text in card.examples]


def mixture_cards(study: Results) -> list[dict[str, Any]]:
    """Return what the page says of each mixture: names, counts by source and domain, held-out cells, digest."""
    cells = study.cells[(study.cells["domain"] == study.test_domain)]
    cards = []
    for mixture in study.summary["mixtures"]:
        if mixture["name"] not in study.mixtures:
            continue
        mine = cells[(cells["mixture"] == mixture["name"]) & (cells["samples"] == 0)]
        tested = int(mine["class"].isin(study.test_classes).sum())
        cards.append(
            mixture | {"held_out_tested": tested, "held_out_seen": len(mine) - tested, "cells": len(study.classes)}
        )
    return sorted(cards, key=lambda card: study.mixtures.index(card["name"]))


def licences(cards: Sequence[SourceCard]) -> dict[str, str]:
    """Return the licences of the sources whose licence is known, by name."""
    return {card.name: card.manifest.licence for card in cards if card.manifest}


def size_text(count: int) -> str:
    """Write a number of bytes as a reader says it: 812 bytes, 3.4 kB, 12.5 MB."""
    size, units = float(count), ["kB", "MB", "GB", "TB"]
    if count < 1000:
        return f"{count} bytes"
    for unit in units:
        size /= 1000
        if size < 1000 or unit == units[-1]:
            break
    return f"{size:.1f} {unit}"
