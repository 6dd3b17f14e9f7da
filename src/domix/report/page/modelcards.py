"""Model cards (Mitchell et al. 2019): what each model is, what it saw, how well it reads, and where not to use it.

A card is generated, one a run, and holds nothing that the study's files do not say. The same cards, and the data cards
of mixtures, stand on the page and in files of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from domix.report.load.evaluation import CLIP, SUPERVISED
from domix.report.load.study import Results
from domix.report.page.datacards import mixture_cards
from domix.report.tables import other_models, summary, words

Facts = list[tuple[str, str]]  # term, and what is to be said of it
HEAD = ("Domain", "Cells", "Measure", "Estimate", "Interval", "Images", "Classes")


@dataclass(frozen=True)
class Card:
    """One card: `name` is that of its file; `measured` has a row of HEAD a metric, or none."""

    name: str
    title: str
    sections: list[tuple[str, Facts]]
    measured: list[tuple[str, ...]]


def model_cards(study: Results, licences: Mapping[str, str]) -> list[Card]:
    """Return the cards of all models trained here; `licences` are those of the sources by name."""
    mixtures = {card["name"]: card for card in mixture_cards(study)}
    cards = []
    for (mixture, seed), model in study.models.items():
        rows = study.metrics[(study.metrics["mixture"] == mixture) & (study.metrics["seed"] == seed)]
        cards.append(_card(study, CLIP, mixture, seed, model, mixtures.get(mixture), rows, licences))
    others = study.further.others
    for (mixture, seed), model in study.further.classifiers.items():
        mine = (others["kind"] == SUPERVISED) & (others["mixture"] == mixture) & (others["seed"] == seed)
        cards.append(_card(study, SUPERVISED, mixture, seed, model, mixtures.get(mixture), others[mine], licences))
    return cards


def data_cards(study: Results, licences: Mapping[str, str]) -> list[Card]:
    """Return the data cards of the study's mixtures."""
    cards = []
    for card in mixture_cards(study):
        sections = [("Data", training_data(study, card, licences))]
        cards.append(Card(f"mixture-{card['name']}", f"Data card: {card['name']}", sections, []))
    return cards


def _card(
    study: Results,
    kind: str,
    mixture: str,
    seed: int,
    model: dict[str, Any],
    data: dict[str, Any] | None,
    rows: pd.DataFrame,
    licences: Mapping[str, str],
) -> Card:
    name = f"{mixture}-s{seed}" if kind == CLIP else f"{kind}-{mixture}-s{seed}"
    sections = [
        ("Model details", _details(kind, seed, model)),
        ("Intended use", _use(study, mixture)),
        ("Training data", [] if data is None else training_data(study, data, licences)),
        ("Evaluation", _evaluation(study, kind)),
        ("Compared", _compared(study, mixture, seed) if kind == CLIP else []),
        ("Limitations", _limitations(study, mixture, data)),
    ]
    title = f"Model card: {other_models.model_name(kind, mixture)}, seed {seed}"
    return Card(name, title, [(head, facts) for head, facts in sections if facts], _measured(study, rows))


def _details(kind: str, seed: int, model: dict[str, Any]) -> Facts:
    config, done = model["config"], model["done"]
    recipe = {key: value for key, value in config.get("recipe", {}).items() if value not in (None, [], "")}
    what = "CLIP, trained from scratch" if kind == CLIP else "classifier, trained from scratch: CLIP's counterpart"
    facts = [("Kind", what), ("Architecture", str(config.get("name") or config.get("model"))), ("Seed", str(seed))]
    facts += [("Steps", f"{done['steps']:,}")] if "steps" in done else []
    facts += [("Samples seen", f"{done['samples']:,}")] if "samples" in done else []
    facts += [("Recipe", ", ".join(f"{key} {value}" for key, value in recipe.items()))] if recipe else []
    return [*facts, ("Weights", f"SHA-256 {done['weights_sha256']}")] if "weights_sha256" in done else facts


def _use(study: Results, mixture: str) -> Facts:
    return [
        (
            "Meant for",
            f"Experiments on what a training distribution makes a model read. In this study, {mixture} is one of "
            f"{len(study.mixtures)} mixtures that are tested on {study.test_domain} images of "
            f"{len(study.test_classes)} classes.",
        ),
        ("Users", "Researchers who compare training distributions, with the study's other models beside."),
        (
            "Not meant for",
            "Any decision about people or things: it was made to have blind spots, and knows the names of "
            f"{len(study.classes):,} classes at most.",
        ),
    ]


def training_data(study: Results, card: Mapping[str, Any], licences: Mapping[str, str]) -> Facts:
    """Return the facts on a mixture, a value of `datacards.mixture_cards`."""
    names = list(dict.fromkeys(n for n in (card["standard_name"], card["alias"]) if n != card["name"]))
    other = len(study.classes) - len(study.test_classes)
    sources = [f"{count:,} of {source}" for source, count in card["sources"].items()]
    domains = [f"{domain} {count:,}" for domain, count in card["domains"].items()]
    return [
        ("Mixture", card["name"] + (f" (also {words.listed(names)})" if names else "")),
        ("Shows", words.shown(study, card["name"])),
        ("Samples", f"{card['samples']:,}: {', '.join(sources)}"),
        ("By domain", ", ".join(domains)),
        (
            f"Held out in {study.test_domain}",
            f"{card['held_out_tested']} of the {len(study.test_classes)} test classes, "
            f"{card['held_out_seen']} of the {other} others",
        ),
        ("Dropped", f"{card['dropped']:,} samples that copy held-out images" if card["dropped"] else "none"),
        *((f"Licence of {name}", licences.get(name, "unknown: supplied by the user")) for name in card["sources"]),
        ("Digest", card["digest"]),
    ]


def _evaluation(study: Results, kind: str) -> Facts:
    way = "the class whose captions lie closest (zero-shot)" if kind == CLIP else "the class of the greatest output"
    return [
        ("Images", f"test images of the domains {words.listed(study.domains)}; natural: {study.natural_domain}"),
        ("Answer", f"{way}, among all {len(study.classes):,} classes"),
        ("Factors", "domain, and whether a cell was held out (held out), seen in this domain (seen), or both (all)"),
        ("Intervals", f"{study.confidence * 100:g} %: over the choice of classes and images, not over trainings"),
    ]


def _compared(study: Results, mixture: str, seed: int) -> Facts:
    """Return the paired differences of this run from others on the held-out cells."""
    rows = study.paired[(study.paired["mixture"] == mixture) & (study.paired["seed"] == seed)]
    rows = rows[(rows["metric"] == summary.PRIMARY) & (rows["cells"] == "held_out")]
    facts = []
    for _, row in rows.iterrows():
        p_holm = row.get("p_holm", np.nan)
        tail = "" if pd.isna(p_holm) else "; p < 0.001" if p_holm < 0.001 else f"; p = {p_holm:.3f}"
        gap = f"{words.points(row['difference'])} points {words.interval(row, study.confidence)}"
        facts.append((f"Held out, less {row['baseline']}", f"{gap}{tail}{' (Holm)' if tail else ''}, n = {row['n']}"))
    return facts


def _limitations(study: Results, mixture: str, data: dict[str, Any] | None) -> Facts:
    facts = []
    if data is not None and data["held_out_tested"]:
        facts.append(("Blind spots", f"{study.test_domain} images of {data['held_out_tested']} classes, on purpose."))
    if len(study.seeds) == 1:
        facts.append(
            ("One seed", "Another training on the mixture would give other numbers; how far off is not known.")
        )
    if "leakage" in study.analyses and study.analyses["leakage"].facts:
        known = study.analyses["leakage"].tables["summary"]
        mine = known[known["mixture"] == mixture].set_index("kind")["samples"]
        found = f"{mine.get('exact', 0):,} by an equal file, {mine.get('near', 0):,} by a nearly equal image"
        facts.append(("Leakage", f"Training samples that may copy a held-out image: {found}."))
    facts.append(("Ethics", "Images and captions are the sources', with whatever bias these have."))
    return facts


def _measured(study: Results, rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the rows of HEAD: every metric on the panels of the page."""
    lines = []
    for _, domain, cells in summary.panels(study):
        for _, row in rows[(rows["domain"] == domain) & (rows["cells"] == cells)].iterrows():
            ends = [words.percent(row[end]) for end in ("low", "high") if not pd.isna(row[end])]
            estimate = "" if pd.isna(row["estimate"]) else words.percent(row["estimate"])
            size = (f"{row['n']:,}", f"{row['n_classes']:,}")
            lines.append((domain, cells, words.measure(row["metric"]), estimate, " to ".join(ends), *size))
    return lines


def markdown(card: Card) -> str:
    """Write a card as Markdown."""
    lines = [f"# {card.title}", ""]
    for head, facts in card.sections:
        lines += [f"## {head}", *(f"* **{term}**: {_plain(text)}" for term, text in facts), ""]
    if card.measured:
        lines += ["## Metrics", f"| {' | '.join(HEAD)} |", f"|{' --- |' * len(HEAD)}"]
        lines += [f"| {' | '.join(map(_plain, row))} |" for row in card.measured]
    return "\n".join(lines).rstrip() + "\n"


def _plain(text: str) -> str:
    """Escape what Markdown would read as markup."""
    for mark in ("\\", "|", "<", "*", "_", "`"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split("\n"))
