"""What the page says of leakage: were held-out images in training after all, under another name?

A copy is a training sample outside the held-out cells whose file, or whose perceptual hash, is that of a held out
image. What an encoder finds alike is reported beside it, and not called a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.template import render
from domix.runtime.wording import listed, percent, plain, spaced
from domix.study import Study

KINDS = ("exact", "near", "embedding")
MATCHES = 3  # training images shown beside a held-out one
PLACES = 4


@dataclass(frozen=True)
class Match:
    """A training image: where it is from, in words, how alike it is, and which mixtures show it."""

    uri: str
    label: str
    likeness: str
    mixtures: list[str]


@dataclass(frozen=True)
class Example:
    """A held-out test image and the training images most like it."""

    label: str
    uri: str
    copied: bool
    matches: list[Match]


@dataclass(frozen=True)
class Audit:
    """What was found in the mixtures asked for: the tables, and how it was searched (`facts`)."""

    study: Study
    duplicates: pd.DataFrame
    summary: pd.DataFrame
    domains: pd.DataFrame
    facts: Mapping[str, Any]


def section(results: AnalysisResults, study: Study) -> Section:
    """Say what was found; nothing where an unfinished study has no audit."""
    title = "Was anything held out shown after all?"
    if not results.facts:
        return Section(title, (), chapter="data", link="Leakage")
    audit = read_audit(results, study)
    part = Subsection("", _text(audit, results))
    return Section(title, (part,), metrics=metrics(audit), chapter="data", link="Leakage")


def read_audit(results: AnalysisResults, study: Study) -> Audit:
    """Return the tables; pairs keep those of the study's mixtures that show the training sample."""
    mixtures, pairs = study.mixtures, results.tables["duplicates"].copy()
    pairs["mixtures"] = [[name for name in mixtures if name in set(shown)] for shown in pairs["mixtures"]]
    return Audit(
        study=study,
        duplicates=pairs[pairs["mixtures"].map(len) > 0].reset_index(drop=True),
        summary=results.tables["summary"],
        domains=results.tables["domains"],
        facts=results.facts,
    )


def _text(audit: Audit, results: AnalysisResults) -> Markup:
    context = {
        "x": audit.study.test_domain,
        "mixtures": audit.study.mixtures,
        "facts": audit.facts,
        "confidence": results.shared.confidence,
        "verdict": verdict(audit),
        "advice": advice(audit, results.shared.drop),
        "likeness": likeness(audit),
        "left_out": left_out(audit),
        "rows": table(audit),
        "examples": load(audit, choose(audit, results.settings.examples), results),
        "domains": domain_table(audit),
        "domain_sentence": domain_sentence(audit),
    }
    return render("domix.analyses.leakage", "section.html", context)


def copies(audit: Audit) -> pd.DataFrame:
    """Return the pairs of held-out images and training samples that are equal files or nearly equal images."""
    pairs = audit.duplicates
    return pairs[pairs["kind"].isin(["exact", "near"]) & ~pairs["tested"]]


def verdict(audit: Audit) -> str:
    """Say in a sentence whether any training sample copies a held-out image."""
    facts, found = audit.facts, copies(audit)
    compared = f"{facts['held_out']:,} held-out {audit.study.test_domain} images"
    among = f"{facts['samples']:,} training samples of all mixtures together"
    if found.empty:
        return (
            f"No copy found: of the {compared}, none has the same file as, or a perceptual hash within "
            f"{facts['near_bits']} of 64 bits of, any of the {among} outside the held-out cells."
        )
    sizes = {kind: _samples(found[found["kind"] == kind]) for kind in ("exact", "near")}
    said = [f"{sizes['exact']:,} by an equal file"] * (sizes["exact"] > 0)
    said += [f"{sizes['near']:,} by a nearly equal image"] * (sizes["near"] > 0)
    count, images = _samples(found), found["test_row"].nunique()
    samples = "training sample" if count == 1 else "training samples"
    return (
        f"Possible copies: {count:,} {samples} may copy {images:,} of the {compared} ({listed(said)}), "
        f"out of the {among}."
    )


def advice(audit: Audit, drop: str) -> str:
    """Say what may be done about copies, given the parameter mixing.drop."""
    if copies(audit).empty:
        return ""
    done = {
        "none": "The images below show what they are; mixing.drop leaves such samples out of all mixtures.",
        "exact": "Equal files are left out already (mixing.drop: exact); near leaves out the nearly equal ones, too.",
        "near": "They are left although mixing.drop is near: the mixtures are older than that choice.",
    }
    return done[drop]


def _samples(pairs: pd.DataFrame) -> int:
    return len(pairs[["source", "row"]].drop_duplicates())


def likeness(audit: Audit) -> str:
    """Say how much an encoder finds close to held-out images, and how little that may mean."""
    facts, table = audit.facts, audit.summary
    rows = table[table["kind"] == "embedding"]
    head = f"The image tower of {facts['encoder']} embeds"
    if rows["samples"].sum() == 0:
        return f"{head} no training sample outside the held-out cells within cosine {facts['similarity']:g} of one."
    most = rows.loc[rows["samples"].idxmax()]
    same = most["same_class"] / most["samples"]
    return (
        f"{head} up to {most['samples']:,} samples of a mixture ({most['mixture']}) within cosine "
        f"{facts['similarity']:g} of some held-out image, {percent(same)} of them close to one of their own "
        "class. The encoder draws together what it takes for the same thing, so this says where to look, not what is a "
        "copy."
    )


def left_out(audit: Audit) -> str:
    """Say which images the search for nearly equal ones cannot judge; nothing if there are none."""
    facts = audit.facts
    if not facts["flat_held_out"] and not facts["flat_samples"]:
        return ""
    return (
        f"Images that are blank, or nearly, are alike by their hash whatever they are: {facts['flat_held_out']:,} "
        f"held-out ones and {facts['flat_samples']:,} training samples were compared by file only."
    )


def table(audit: Audit) -> list[dict[str, Any]]:
    """Return one row a mixture: its samples, and the row of the summary for each kind."""
    by_kind = audit.summary.set_index(["mixture", "kind"])
    return [
        {"mixture": mixture, "n": int(by_kind.loc[(mixture, "exact"), "n"])}
        | {kind: by_kind.loc[(mixture, kind)].to_dict() for kind in KINDS}
        for mixture in audit.study.mixtures
    ]


def domain_table(audit: Audit) -> list[dict[str, Any]]:
    """Return one row a mixture and source: samples, the share labelled, taken and estimated as of the test domain."""
    rows = audit.domains[audit.domains["domain"] == "all"]
    return [row.to_dict() | {"labelled_share": row["labelled"] / row["n"]} for _, row in rows.iterrows()]


def domain_sentence(audit: Audit) -> str:
    """Say whether more of the training samples looks like the test domain than their labels admit."""
    known = [row for row in domain_table(audit) if not np.isnan(row["estimate"])]
    if not known:
        return f"The probe does not tell {audit.study.test_domain} from the other domains well enough for an estimate."
    above = [row for row in known if row["low"] > row["labelled_share"]]
    if not above:
        return f"Nowhere does clearly more look like {audit.study.test_domain} than is labelled so."
    worst = max(above, key=lambda row: row["estimate"] - row["labelled_share"])
    ends = f"{plain(worst['low'])} to {percent(worst['high'])}"
    return (
        f"More looks like {audit.study.test_domain} than is labelled so: most of all in {worst['mixture']}, where of "
        f"the {worst['n']:,} samples of {worst['source']} an estimated {percent(worst['estimate'])} do ({ends}), and "
        f"{percent(worst['labelled_share'])} are labelled."
    )


def choose(audit: Audit, number: int) -> list[int]:
    """Choose at most `number` held-out images: those with copies first, then those with the likest neighbours."""
    pairs = audit.duplicates
    pairs = pairs[~pairs["tested"]]
    order = {kind: place for place, kind in enumerate(KINDS)}
    ranked = pairs.assign(kind=pairs["kind"].map(order), apart=-pairs["similarity"]).sort_values(
        ["kind", "distance", "apart", "test_row"], kind="stable"
    )
    return [int(row) for row in ranked["test_row"].drop_duplicates().head(number)]


def load(audit: Audit, rows: Sequence[int], results: AnalysisResults) -> list[Example]:
    """Read held-out images and the training images most like each."""
    found = []
    for row in rows:
        pairs = _ranked(audit.duplicates, row)
        found.append(
            Example(
                label=f"{spaced(results.images.class_of(row))}, {audit.study.test_domain}",
                uri=results.images.uri(results.source, row),
                copied=bool(pairs["kind"].isin(["exact", "near"]).any()),
                matches=[_match(pair, results) for _, pair in pairs.head(MATCHES).iterrows()],
            )
        )
    return found


def _ranked(pairs: pd.DataFrame, row: int) -> pd.DataFrame:
    """Return the pairs of one held-out image, each sample once, the likest first."""
    mine = pairs[(pairs["test_row"] == row) & ~pairs["tested"]]
    order = {kind: place for place, kind in enumerate(KINDS)}
    mine = mine.assign(rank=mine["kind"].map(order), apart=-mine["similarity"])
    mine = mine.sort_values(["rank", "distance", "apart", "source", "row"], kind="stable")
    return mine.drop_duplicates(["source", "row"])


def _match(pair: pd.Series, results: AnalysisResults) -> Match:
    """Describe a training image; its source is named unless it is the multi-domain one."""
    if pair["kind"] == "exact":
        said = "equal file"
    elif pair["kind"] == "near":
        said = f"{int(pair['distance'])} of 64 bits apart"
    else:
        said = f"cosine {pair['similarity']:.3f}"
    name = "" if pd.isna(pair["class"]) else f"{spaced(str(pair['class']))}, "
    plain = pair["source"] in (results.source, pair["domain"])
    place = str(pair["domain"]) if plain else f"{pair['domain']} ({pair['source']})"
    uri = results.images.uri(str(pair["source"]), int(pair["row"]))
    return Match(uri, f"{name}{place}", said, list(pair["mixtures"]))


def metrics(audit: Audit) -> dict[str, float | int]:
    """Return the flat, rounded numbers for metrics/numbers.csv."""
    flat: dict[str, float | int] = {}
    for row in table(audit):
        name = row["mixture"]
        flat |= {f"{name}.{kind}": int(row[kind]["samples"]) for kind in KINDS} | {f"{name}.n": row["n"]}
    for row in domain_table(audit):
        name = f"{row['mixture']}.{row['source']}.test_domain_share"
        ends = {name: row["estimate"], f"{name}.low": row["low"], f"{name}.high": row["high"]}
        flat |= {key: round(float(value), PLACES) for key, value in ends.items() if not np.isnan(value)}
    return flat
