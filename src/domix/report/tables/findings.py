"""The answer of a study: its questions in the order of the paper's, each with what the numbers say, and no more.

Kempf et al. (2025) ask whether other styles let CLIP read one that it never saw (domain generalisation), whether
images of other classes in that style do (compositional generalisation), and how far both lie below a model that saw
all. A difference is called one only where the paired interval and the corrected test agree (`summary.differences`);
else the sentence says how large it may still be, and what could have been found. Where the upper bound itself was not
learned nothing is concluded: what is not learned cannot be generalised to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from domix.report.load.study import Results
from domix.report.tables import summary
from domix.report.tables.words import interval, points
from domix.runs import CLIP
from domix.runtime.wording import MINUS, UNIT, listed, percent, plain

LEARNED, TIMES = 0.15, 10  # an upper bound is learned that reads this share, or so many times what the baseline reads


@dataclass(frozen=True)
class Finding:
    """A question, its answer in a sentence, and the numbers behind that."""

    question: str
    answer: str
    numbers: str
    verdict: str  # more, fewer or open
    short: str  # the answer as part of a headline


@dataclass(frozen=True)
class Conclusion:
    """The answer: a headline, the findings, and what else is to be said."""

    headline: str
    findings: list[Finding]
    more: list[str]


def conclude(study: Results) -> Conclusion:
    """Draw the conclusion of a study from its balanced accuracies on the held-out cells."""
    frame = summary.estimates(study)
    rows = {m: summary.pick(frame, m, study.test_domain, "held_out") for m in study.mixtures}
    known = {mixture: row for mixture, row in rows.items() if row is not None}
    candidates = [m for m in known if m != study.baseline and study.held_out_samples(m) == 0]
    seeds = [_seeds(next(iter(known.values())))] if known else []
    more = [_readings(study, known), *seeds]
    if not candidates:
        why = "No mixture shows other styles and withholds the held-out cells: this study does not put the question."
        return Conclusion("Not asked", [], [why, *more])
    if study.baseline is None:
        alone = f"There is no model of {study.natural_domain} images alone here to compare with."
        return Conclusion(_against_chance(study, candidates, known), [], [alone, *more])
    doubt = _not_learned(study, known)
    if doubt:
        headline = f"Not learned: no conclusion about generalisation to {study.test_domain} is drawn from this study"
        return Conclusion(headline, [], [doubt, *more])
    findings = [finding for finding in _findings(study, candidates) if finding]
    if not findings:
        return Conclusion("Not compared", [], ["The mixtures were not compared image by image.", *more])
    headline, way = _headline(findings), _way(study, candidates, known)
    if study.upper_bound is None:
        seeds = ["No model was shown the held-out cells, so there is no upper bound to measure against.", *seeds]
    return Conclusion(headline, [*findings, *([way] if way else [])], seeds)


def _findings(study: Results, candidates: list[str]) -> list[Finding | None]:
    """Answer the paper's questions, as far as the study has the mixtures for them."""
    domain, natural = study.test_domain, study.natural_domain
    unseen, rich, poor = (
        name if name in candidates else None for name in map(study.named, ("leave-out-domain", "cg-high", "cg-low"))
    )
    composed, baseline = rich or poor, study.baseline
    other = next(iter(candidates)) if not (unseen or composed) else None
    return [
        _compare(
            study,
            f"Do other styles help with {domain}, unseen?",
            unseen or other,
            baseline,
            f"trained on {'other styles' if unseen else 'this mixture'}, CLIP reads {{}} of the held-out images than "
            f"trained on {natural} images alone",
            f"{'other styles' if unseen else other} {{}} on {domain} images that were never shown",
        ),
        _compare(
            study,
            f"Do {domain} images of other classes help?",
            composed,
            baseline,
            f"with {domain} images of other classes in training, CLIP reads {{}} of the held-out ones than trained on "
            f"{natural} images alone",
            f"{domain} images of other classes {{}} over {natural} images alone",
        ),
        _compare(
            study,
            f"Are they better than no {domain} image at all?",
            composed,
            unseen,
            f"with {domain} images of other classes, CLIP reads {{}} of the held-out ones than without any",
            f"{domain} images of other classes beside them {{}}",
        ),
        _compare(
            study,
            "Is diversity what helps there?",
            rich,
            poor,
            f"with further styles beside {natural} and {domain}, CLIP reads {{}} of the held-out images",
            "further styles {}",
        ),
    ]


def _compare(
    study: Results, question: str, mixture: str | None, other: str | None, said: str, short: str
) -> Finding | None:
    """Answer a question by the paired difference of two mixtures; None where they were not compared.

    `said` is the answer with a place for how many more or fewer, `short` one for what the mixture does.
    """
    if mixture is None or other is None:
        return None
    found = summary.differences(study, other)
    found = found[found["mixture"] == mixture]
    if found.empty:
        return None
    row = found.iloc[0]
    least = _detectable(study, mixture, other)
    power = "" if np.isnan(least) else f"; {plain(least)} points would have been found"
    numbers = (
        f"{mixture} less {other}: {points(row['difference'])} points {interval(row, study.confidence)}"
        f"{_p(row['p_value'])}{power}"
    )
    reach = plain(max(abs(row["low"]), abs(row["high"])))
    size = plain(abs(row["difference"]))
    answers = {
        "more": (f"Yes: {said.format(f'{size} points more')}", f"bring {size} points"),
        "fewer": (f"No, on the contrary: {said.format(f'{size} points fewer')}", f"cost {size} points"),
        "open": (
            f"No difference is shown, and none larger than {reach} points is likely",
            f"make no difference larger than {reach} points",
        ),
    }
    answer, does = answers[row["verdict"]]
    return Finding(question, answer, numbers, row["verdict"], short.format(does))


def _detectable(study: Results, mixture: str, other: str) -> float:
    """Return the least difference that the comparison of two mixtures would find; NaN where it is not known."""
    rows = study.further.comparisons
    rows = rows[(rows["kind"] == CLIP) & (rows["domain"] == study.test_domain) & (rows["cells"] == "held_out")]
    rows = rows[rows["metric"] == summary.PRIMARY]
    pairs = [{mixture, other} == pair for pair in map(set, zip(rows["mixture"], rows["baseline"], strict=True))]
    found = rows.loc[pairs, "detectable"]
    return float(found.iloc[0]) if len(found) else float("nan")


def _headline(findings: list[Finding]) -> str:
    """Say in one line whether diversity helps, and what composition adds."""
    first, *rest = findings
    second = next((finding for finding in rest if finding.question.startswith("Are they better")), None)
    whole = first.short if second is None else f"{first.short}; {second.short}"
    return whole[0].upper() + whole[1:]


def _not_learned(study: Results, known: dict[str, pd.Series]) -> str | None:
    """Say why nothing can be concluded; None where the upper bound was learned, or there is none."""
    upper, base = study.upper_bound, known.get(study.baseline or "")
    if upper is None or upper not in known or base is None:
        return None
    reads, floor = float(known[upper]["estimate"]), float(base["estimate"])
    compared = summary.differences(study, study.baseline or "")
    above = compared.loc[compared["mixture"] == upper, "verdict"].eq("more").any() or compared.empty
    if above and (reads >= LEARNED or reads >= TIMES * floor):
        return None
    return (
        f"Even a model that was shown the held-out cells ({upper}) names {percent(reads)} of them, against "
        f"{percent(floor)} for {study.baseline}. From {LEARNED * 100:g}{UNIT}, or {TIMES} times the latter, on this "
        "would count as learned: it takes more samples (train.samples), larger images or a larger model."
    )


def _way(study: Results, candidates: list[str], known: dict[str, pd.Series]) -> Finding | None:
    """Say how much of the way from the baseline to the upper bound each mixture goes, and what is left of it."""
    upper, base = study.upper_bound, known[study.baseline or ""]
    if upper is None or upper not in known:
        return None
    compared = summary.differences(study, upper).set_index("mixture")
    shares, left = [], []
    for mixture in [name for name in candidates if name in compared.index]:
        share = summary.gap_closed(*(float(row["estimate"]) for row in (known[mixture], base, known[upper])))
        if share is None:
            continue
        row = compared.loc[mixture]
        shares.append(f"{mixture} {'' if share >= 0 else MINUS}{abs(share) * 100:.0f}{UNIT}")
        left.append(
            f"{mixture} {points(row['difference'])} points {interval(row, study.confidence)}{_p(row['p_value'])}"
        )
    if not shares:
        return None
    whole = f"from {study.baseline} to {upper}"
    return Finding(
        "How much of the way to a model that was shown all?",
        f"{whole[0].upper()}{whole[1:]}, {listed(shares)}",
        f"what is missing: {'; '.join(left)}",
        "open",
        "",
    )


def _readings(study: Results, known: dict[str, pd.Series]) -> str:
    """Say what every model reads."""
    if not known:
        return "No mixture was tested on held-out images."
    count = int(next(iter(known.values()))["n"])
    read = [f"{m} {percent(row['estimate'])} {interval(row, study.confidence)}" for m, row in known.items()]
    return f"Of the {count:,} held-out {study.test_domain} images are named rightly by {listed(read)}."


def _against_chance(study: Results, candidates: list[str], known: dict[str, pd.Series]) -> str:
    """Judge the mixtures without a baseline: against guessing."""
    above = [m for m in candidates if known[m]["low"] > known[m]["chance"]]
    if not above:
        return "No better than guessing, as far as this study shows"
    return f"Better than guessing: {listed(above)} on held-out {study.test_domain} images"


def _p(value: float) -> str:
    """Write a corrected p-value, or nothing where there is none."""
    return "" if pd.isna(value) else ", p < 0.001" if value < 0.001 else f", p = {value:.3f}"


def _seeds(row: pd.Series) -> str:
    """Say what the intervals cover and what they do not."""
    if row["seeds"] == 1:
        return (
            "Each mixture was trained with one seed: the intervals cover the choice of test classes and images, "
            "not the chance in a training run."
        )
    return (
        f"Numbers are means over {int(row['seeds'])} seeds; the intervals cover the choice of test classes, images and "
        "seeds."
    )
