"""What the page says of leakage: were withheld pictures in training after all, under another name?

A copy is a training sample outside the tested cells whose file, or whose perceptual hash, is that of a withheld
picture. What an encoder finds alike is reported beside it, and not called a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from domix.report import words
from domix.report.examples import data_uri, spaced
from domix.report.study import Results

KINDS = ("exact", "near", "embedding")
MATCHES = 3  # training pictures shown beside a withheld one
PLACES = 4


@dataclass(frozen=True)
class Match:
    """A training picture: where it is from, in words, how alike it is, and which mixtures show it."""

    uri: str
    label: str
    likeness: str
    mixtures: list[str]


@dataclass(frozen=True)
class Example:
    """A withheld test picture and the training pictures most like it."""

    label: str
    uri: str
    copied: bool
    matches: list[Match]


def copies(study: Results) -> pd.DataFrame:
    """Return the pairs of withheld pictures and training samples that are equal files or nearly equal pictures."""
    pairs = study.leakage.duplicates
    return pairs[pairs["kind"].isin(["exact", "near"]) & ~pairs["tested"]]


def verdict(study: Results) -> str:
    """Say in a sentence whether any training sample copies a withheld picture."""
    meta, found = study.leakage.meta, copies(study)
    compared = f"{meta['withheld']:,} withheld {study.test_domain} pictures"
    among = f"{meta['samples']:,} training samples of all mixtures together"
    if found.empty:
        return (
            f"No copy found: of the {compared}, none has the same file as, or a perceptual hash within "
            f"{meta['near_bits']} of 64 bits of, any of the {among} outside the tested cells."
        )
    sizes = {kind: _samples(found[found["kind"] == kind]) for kind in ("exact", "near")}
    said = [f"{sizes['exact']:,} by an equal file"] * (sizes["exact"] > 0)
    said += [f"{sizes['near']:,} by a nearly equal picture"] * (sizes["near"] > 0)
    count, pictures = _samples(found), found["test_row"].nunique()
    samples = "training sample" if count == 1 else "training samples"
    return (
        f"Possible copies: {count:,} {samples} may copy {pictures:,} of the {compared} ({words.listed(said)}), "
        f"out of the {among}."
    )


def advice(study: Results, drop: str) -> str:
    """Say what may be done about copies, given the parameter mixing.drop."""
    if copies(study).empty:
        return ""
    done = {
        "none": "The pictures below show what they are; mixing.drop leaves such samples out of all mixtures.",
        "exact": "Equal files are left out already (mixing.drop: exact); near leaves out the nearly equal ones, too.",
        "near": "They are left although mixing.drop is near: the mixtures are older than that choice; run dvc repro.",
    }
    return done[drop]


def _samples(pairs: pd.DataFrame) -> int:
    return len(pairs[["source", "row"]].drop_duplicates())


def likeness(study: Results) -> str:
    """Say how much an encoder finds close to withheld pictures, and how little that may mean."""
    meta, table = study.leakage.meta, study.leakage.summary
    rows = table[table["kind"] == "embedding"]
    head = f"The image tower of {meta['encoder']} embeds"
    if rows["samples"].sum() == 0:
        return f"{head} no training sample outside the tested cells within cosine {meta['similarity']:g} of one."
    most = rows.loc[rows["samples"].idxmax()]
    same = most["same_class"] / most["samples"]
    return (
        f"{head} up to {most['samples']:,} samples of a mixture ({most['mixture']}) within cosine "
        f"{meta['similarity']:g} of some withheld picture, {words.percent(same)} of them close to one of their own "
        "class. The encoder draws together what it takes for the same thing, so this says where to look, not what is a "
        "copy."
    )


def left_out(study: Results) -> str:
    """Say which pictures the search for nearly equal ones cannot judge; nothing if there are none."""
    meta = study.leakage.meta
    if not meta["flat_withheld"] and not meta["flat_samples"]:
        return ""
    return (
        f"Pictures that are blank, or nearly, are alike by their hash whatever they are: {meta['flat_withheld']:,} "
        f"withheld ones and {meta['flat_samples']:,} training samples were compared by file only."
    )


def table(study: Results) -> list[dict[str, Any]]:
    """Return one row a mixture: its samples, and the row of the summary for each kind."""
    by_kind = study.leakage.summary.set_index(["mixture", "kind"])
    return [
        {"mixture": mixture, "n": int(by_kind.loc[(mixture, "exact"), "n"])}
        | {kind: by_kind.loc[(mixture, kind)].to_dict() for kind in KINDS}
        for mixture in study.mixtures
    ]


def domain_table(study: Results) -> list[dict[str, Any]]:
    """Return one row a mixture and source: samples, the share labelled, taken and estimated as of the test domain."""
    rows = study.leakage.domains[study.leakage.domains["domain"] == "all"]
    return [row.to_dict() | {"labelled_share": row["labelled"] / row["n"]} for _, row in rows.iterrows()]


def domain_sentence(study: Results) -> str:
    """Say whether more of the training samples looks like the test domain than their labels admit."""
    known = [row for row in domain_table(study) if not np.isnan(row["estimate"])]
    if not known:
        return f"The probe does not tell {study.test_domain} from the other domains well enough for an estimate."
    above = [row for row in known if row["low"] > row["labelled_share"]]
    if not above:
        return f"Nowhere does clearly more look like {study.test_domain} than is labelled so."
    worst = max(above, key=lambda row: row["estimate"] - row["labelled_share"])
    ends = f"{words.percent(worst['low']).removesuffix(words.UNIT)} to {words.percent(worst['high'])}"
    return (
        f"More looks like {study.test_domain} than is labelled so: most of all in {worst['mixture']}, where of the "
        f"{worst['n']:,} samples of {worst['source']} an estimated {words.percent(worst['estimate'])} do ({ends}), and "
        f"{words.percent(worst['labelled_share'])} are labelled."
    )


def choose(study: Results, number: int) -> list[int]:
    """Choose at most `number` withheld pictures: those with copies first, then those with the likest neighbours."""
    pairs = study.leakage.duplicates
    pairs = pairs[~pairs["tested"]]
    order = {kind: place for place, kind in enumerate(KINDS)}
    ranked = pairs.assign(kind=pairs["kind"].map(order), apart=-pairs["similarity"]).sort_values(
        ["kind", "distance", "apart", "test_row"], kind="stable"
    )
    return [int(row) for row in ranked["test_row"].drop_duplicates().head(number)]


def load(study: Results, rows: list[int], read: Callable[[str, int], bytes], source: str) -> list[Example]:
    """Read withheld pictures of `source` and the training pictures most like each: `read` takes a source and a row."""
    classes = study.predictions.drop_duplicates("row").set_index("row")["class"]
    found = []
    for row in rows:
        pairs = _ranked(study.leakage.duplicates, row)
        found.append(
            Example(
                label=f"{spaced(str(classes[row]))}, {study.test_domain}",
                uri=data_uri(read(source, row)),
                copied=bool(pairs["kind"].isin(["exact", "near"]).any()),
                matches=[_match(pair, read, source) for _, pair in pairs.head(MATCHES).iterrows()],
            )
        )
    return found


def _ranked(pairs: pd.DataFrame, row: int) -> pd.DataFrame:
    """Return the pairs of one withheld picture, each sample once, the likest first."""
    mine = pairs[(pairs["test_row"] == row) & ~pairs["tested"]]
    order = {kind: place for place, kind in enumerate(KINDS)}
    mine = mine.assign(rank=mine["kind"].map(order), apart=-mine["similarity"])
    mine = mine.sort_values(["rank", "distance", "apart", "source", "row"], kind="stable")
    return mine.drop_duplicates(["source", "row"])


def _match(pair: pd.Series, read: Callable[[str, int], bytes], main: str) -> Match:
    """Describe a training picture; its source is named unless it is the multi-domain one, `main`."""
    if pair["kind"] == "exact":
        said = "equal file"
    elif pair["kind"] == "near":
        said = f"{int(pair['distance'])} of 64 bits apart"
    else:
        said = f"cosine {pair['similarity']:.3f}"
    name = "" if pd.isna(pair["class"]) else f"{spaced(str(pair['class']))}, "
    plain = pair["source"] in (main, pair["domain"])
    place = str(pair["domain"]) if plain else f"{pair['domain']} ({pair['source']})"
    uri = data_uri(read(str(pair["source"]), int(pair["row"])))
    return Match(uri, f"{name}{place}", said, list(pair["mixtures"]))


def results(study: Results) -> dict[str, float | int]:
    """Return the flat, rounded numbers for metrics/results.json."""
    flat: dict[str, float | int] = {}
    for row in table(study):
        name = f"leakage.{row['mixture']}"
        flat |= {f"{name}.{kind}": int(row[kind]["samples"]) for kind in KINDS} | {f"{name}.n": row["n"]}
    for row in domain_table(study):
        name = f"leakage.{row['mixture']}.{row['source']}.test_domain_share"
        ends = {name: row["estimate"], f"{name}.low": row["low"], f"{name}.high": row["high"]}
        flat |= {key: round(float(value), PLACES) for key, value in ends.items() if not np.isnan(value)}
    return flat
