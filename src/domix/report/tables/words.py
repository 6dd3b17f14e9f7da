"""The answer in words: sentences that follow from the numbers, and claim no more than they show.

A difference is called one only where the paired interval and the corrected test agree (`summary.differences`);
otherwise the sentence says that it is open. A missing baseline or upper bound takes the sentences that need it away.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from domix.report.load.study import Results
from domix.report.tables import summary
from domix.runtime.wording import UNIT, listed, percent


@dataclass(frozen=True)
class Conclusion:
    """The answer: a verdict of a few words, the sentence that carries it, and what else is to be said."""

    verdict: str
    answer: str
    more: list[str]


def points(difference: float) -> str:
    """Write a difference of shares in percentage points, with its sign."""
    return percent(difference, sign=True).removesuffix(UNIT)


def measure(metric: str) -> str:
    """Write a metric's name as words: balanced top-1, macro F1."""
    return re.sub(r"\btop(\d)", r"top-\1", metric.replace("_", " ")).replace("f1", "F1")


def interval(row: pd.Series, confidence: float) -> str:
    """Write an estimate's interval in brackets."""
    low, high = (percent(row[end]).removesuffix(UNIT) for end in ("low", "high"))
    return f"({confidence * 100:g}{UNIT} interval {low} to {high})"


def shown(study: Results, mixture: str) -> str:
    """Say in words what a mixture shows, from its counts."""
    domains = study.shown_domains(mixture)
    others = [d for d in study.domains if d != study.test_domain]
    if domains == [study.natural_domain]:
        return f"{study.natural_domain} images only"
    if study.test_domain not in domains:
        every = f"every domain but {study.test_domain}"
        return every if domains == others else f"{listed(domains)}; no {study.test_domain}"
    what = "every domain" if domains == study.domains else listed(domains)
    tested = study.held_out_samples(mixture)
    if tested == 0:
        return f"{what}; in {study.test_domain} none of the test classes"
    return f"{what}; the test classes in {study.test_domain} too ({tested:,} samples of them)"


def conclude(study: Results) -> Conclusion:
    """Draw the conclusion of a study from its balanced accuracies on the held-out cells."""
    frame = summary.estimates(study)
    rows = {m: summary.pick(frame, m, study.test_domain, "held_out") for m in study.mixtures}
    known = {mixture: row for mixture, row in rows.items() if row is not None}
    candidates = [m for m in known if m != study.baseline and study.held_out_samples(m) == 0]
    if not candidates:
        return _without_candidate(study, known)
    preferred = [study.named(name) for name in ("cg-high", "leave-out-domain", "cg-low")]
    focus = next((m for m in preferred if m in candidates), candidates[0])
    if study.baseline is None:
        verdict, answer = _against_chance(study, focus, known[focus])
        compared = pd.DataFrame({"mixture": [], "verdict": []})
    else:
        compared = summary.differences(study, study.baseline)
        verdict, answer = _against_baseline(study, focus, known, compared)
    more = [
        _others(study, [m for m in candidates if m != focus], known, compared),
        _between(study, focus, candidates),
        _against_upper(study, focus, known),
        _seeds(study, known[focus]),
    ]
    return Conclusion(verdict, answer, [sentence for sentence in more if sentence])


def _reading(study: Results, mixture: str, row: pd.Series) -> str:
    return f"{mixture} names {percent(row['estimate'])} {interval(row, study.confidence)}"


def _images(study: Results, row: pd.Series) -> str:
    return f"the {int(row['n']):,} held-out {study.test_domain} images"


def _without_candidate(study: Results, known: dict[str, pd.Series]) -> Conclusion:
    """Conclude where no mixture puts the question: there is nothing but a lower or an upper bound."""
    sentences = [f"{_reading(study, m, row)} of {_images(study, row)}." for m, row in known.items()]
    answer = " ".join(sentences) or "No mixture was tested on held-out images."
    more = ["No mixture shows other styles and withholds the held-out cells, so this study does not put the question."]
    return Conclusion("Not asked", answer, more)


def _against_chance(study: Results, focus: str, row: pd.Series) -> tuple[str, str]:
    """Judge `focus` without a baseline: against guessing."""
    above = row["low"] > row["chance"]
    verdict = "Better than guessing" if above else "No better than guessing, as far as this study shows"
    relation = "above" if above else "not distinguishable from"
    answer = (
        f"{_reading(study, focus, row)} of {_images(study, row)}, {relation} chance ({percent(row['chance'])}). "
        f"There is no natural-only model here to compare it with."
    )
    return verdict, answer


def _against_baseline(
    study: Results, focus: str, known: dict[str, pd.Series], compared: pd.DataFrame
) -> tuple[str, str]:
    """Judge `focus` against the baseline by their paired difference."""
    row, base = known[focus], known[study.baseline or ""]
    answer = (
        f"{_reading(study, focus, row)} of {_images(study, row)}, against {percent(base['estimate'])} "
        f"{interval(base, study.confidence)} for {study.baseline}"
    )
    match = compared[compared["mixture"] == focus]
    if match.empty:
        return "Not compared", f"{answer}. The two were not compared image by image."
    difference = match.iloc[0]
    gap = f"{points(difference['difference'])} points {interval(difference, study.confidence)}{_p(difference)}"
    if difference["verdict"] == "more":
        return _degree(study, focus), f"{answer}: a paired difference of {gap}."
    if difference["verdict"] == "fewer":
        verdict = f"No: {_subject(study, focus)} reads fewer of the held-out images than {_lower(study)}"
        return verdict, f"{answer}: a paired difference of {gap}."
    verdict = f"Not shown: {_subject(study, focus)} is not clearly better or worse than {_lower(study)}"
    return verdict, f"{answer}. Their paired difference, {gap}, leaves open whether either is better."


def _p(difference: pd.Series) -> str:
    """Write a corrected p-value, or nothing where there is none."""
    value = difference["p_value"]
    return "" if pd.isna(value) else ", p < 0.001" if value < 0.001 else f", p = {value:.3f}"


def _degree(study: Results, focus: str) -> str:
    """Say how far a model that beats the baseline gets, if an upper bound tells."""
    plain = f"{_subject(study, focus)} reads more of the held-out images than {_lower(study)}"
    if study.upper_bound is None:
        return f"Yes: {plain}"
    match = summary.differences(study, study.upper_bound)
    match = match[match["mixture"] == focus]
    if match.empty:
        return f"Yes: {plain}"
    saw = f"one that was shown the held-out cells ({study.upper_bound})"
    if match.iloc[0]["verdict"] == "fewer":
        return f"In part: {plain}, and fewer than {saw}"
    return f"Yes: {plain}, and not measurably fewer than {saw}"


def _subject(study: Results, focus: str) -> str:
    """Say what the model in focus saw of the test domain."""
    if study.test_domain in study.shown_domains(focus):
        return f"a model that saw {study.test_domain} images of other classes only ({focus})"
    return f"a model that saw other styles but no {study.test_domain} images ({focus})"


def _lower(study: Results) -> str:
    return f"one that saw {study.natural_domain} images alone ({study.baseline})"


def _others(study: Results, others: list[str], known: dict[str, pd.Series], compared: pd.DataFrame) -> str:
    """Say how the remaining mixtures without the held-out cells stand to the baseline."""
    said = dict(zip(compared["mixture"], compared["verdict"], strict=True))
    sentences = []
    relations = {"more": ("reads", "read", "more than"), "fewer": ("reads", "read", "fewer than")}
    relations["open"] = ("is", "are", "not clearly better or worse than")
    for kind, (one, many, relation) in relations.items():
        names = [f"{m} ({percent(known[m]['estimate'])})" for m in others if said.get(m) == kind]
        if names:
            sentences.append(f"{listed(names)} {one if len(names) == 1 else many} {relation} {study.baseline}.")
    rest = [f"{m} names {percent(known[m]['estimate'])}" for m in others if m not in said]
    if rest:
        sentences.append(f"{listed(rest)}.")
    return " ".join(sentences)


def _between(study: Results, focus: str, candidates: list[str]) -> str:
    """Compare the compositional with the domain generalisation, where both are there."""
    other = study.named("leave-out-domain")
    if focus != study.named("cg-high") or other is None or other not in candidates:
        return ""
    match = summary.differences(study, other)
    match = match[match["mixture"] == focus]
    if match.empty:
        return ""
    row = match.iloc[0]
    size = f"{points(row['difference'])} points {interval(row, study.confidence)}"
    said = {
        "more": f"Having seen {study.test_domain} images of other classes helps: {size} over {other}.",
        "fewer": f"Having seen {study.test_domain} images of other classes hurts: {size} against {other}.",
        "open": f"Whether {study.test_domain} images of other classes help stays open: {size} against {other}.",
    }
    return said[row["verdict"]]


def _against_upper(study: Results, focus: str, known: dict[str, pd.Series]) -> str:
    """Place `focus` between the baseline and the model that saw the held-out cells."""
    upper = study.upper_bound
    if upper is None or upper not in known:
        return "No model was shown the held-out cells, so there is no upper bound to measure against."
    text = f"With the held-out cells in training, {_reading(study, upper, known[upper])}"
    if study.baseline is None:
        return f"{text}."
    above = summary.differences(study, study.baseline)
    above = above[above["mixture"] == upper]
    if above.empty or above.iloc[0]["verdict"] != "more":
        doubt = "the study may lack the power to tell the mixtures apart"
        return f"{text}, not clearly more than {study.baseline}: {doubt}."
    share = summary.gap_closed(
        float(known[focus]["estimate"]), float(known[study.baseline]["estimate"]), float(known[upper]["estimate"])
    )
    if share is None or share <= 0:
        return f"{text}."
    return f"{text}; {focus} goes {share * 100:.0f}{UNIT} of the way there from {study.baseline}."


def _seeds(study: Results, row: pd.Series) -> str:
    """Say what the intervals cover and what they do not."""
    if row["seeds"] == 1:
        return (
            "Each mixture was trained with one seed: the intervals cover the choice of test classes and images, "
            "not the chance in a training run."
        )
    return (
        f"Numbers are means over {int(row['seeds'])} seeds ({percent(row['seed_low'])} to {percent(row['seed_high'])} "
        "between them here); the intervals cover the choice of test classes and images."
    )
