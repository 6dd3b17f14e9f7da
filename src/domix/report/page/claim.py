"""The section that asks whether what models share predicts what they read."""

from __future__ import annotations

from functools import partial

import pandas as pd

from domix.analyses.contract import Section, Subsection
from domix.figures.figure import Figure
from domix.report.figures.relations import correlation, draw_relations, relation_bars
from domix.report.load.study import Results
from domix.report.tables.claim import relations
from domix.runtime.wording import listed

NAME = "claim"
PLACES = 4
WAYS = {"plain": "Among all held-out classes", "partial": "At equal accuracy elsewhere"}
TEXT = """If what {domain} shares with other domains carries generalisation, a model reads those held-out classes
better in which it shares more. The figure shows Spearman's rank correlation of sharing and accuracy among the classes
of each model, mean over models: 1 if the classes that share more are always read better, 0 if sharing says nothing.
Where it says "At equal accuracy elsewhere", the accuracy on the same class in the other domains is held fixed, so that
classes which are easy everywhere do not count."""


def section(study: Results, scores: pd.DataFrame, *, resamples: int, seed: int) -> Section | None:
    """Relate every score of classes to accuracy and say what was found; None where there is none to relate.

    A study of one test domain has too few mixtures to say which of them read more: that is for the study view.

    Args:
        scores: of held-out classes and models (domix.report.tables.claim.SCORES).
        resamples: of intervals and tests.
        seed: of both.
    """
    units = scores[scores["class"] != ""].assign(test_domain=study.test_domain)
    found = relations(units, confidence=study.confidence, resamples=resamples, seed=seed)
    found = found.dropna(subset=["estimate"])
    if found.empty:
        return None
    text = "\n\n".join([" ".join(_sentences(study, found)), TEXT.format(domain=study.test_domain)])
    metrics = {
        f"{row['score']}.{row['way']}_{name}": round(float(row[name]), PLACES)
        for _, row in found.iterrows()
        for name in ("estimate", "low", "high", "p_holm")
    }
    return Section(
        "Does sharing predict what is read?",
        [Subsection("Sharing and accuracy, class by class", text, _figures(study, found))],
        metrics=metrics,
    )


def _sentences(study: Results, found: pd.DataFrame) -> list[str]:
    """Say what the plain and the partial correlations show, of all scores."""
    said = []
    for way, rest in (("plain", ""), ("partial", " that it reads equally well elsewhere")):
        rows = found[found["way"] == way]
        sure = rows[(rows["p_holm"] < 1 - study.confidence) & (rows["low"] * rows["high"] > 0)]
        for sign, word in ((1, "better"), (-1, "worse")):
            names = sure[sure["estimate"] * sign > 0]["score"].tolist()
            if names:
                said.append(f"Among classes{rest}, a model reads those {word} in which it shares more {listed(names)}.")
        if names := [name for name in rows["score"] if name not in set(sure["score"])]:
            said.append(f"Among classes{rest}, sharing of {listed(names)} is not shown to predict accuracy.")
    plain = found[found["way"] == "plain"]
    sizes = [f"{listed(rows['score'].tolist())} of {count} classes" for count, rows in plain.groupby("units")]
    models = int(found["models"].max())
    return [*said, f"({models} model{'s' * (models != 1)}: {listed(sizes)}.)"]


def _figures(study: Results, found: pd.DataFrame) -> dict[str, Figure]:
    """Return the correlations with their intervals, plain and partial."""
    made = {}
    for way, heading in WAYS.items():
        rows = found[found["way"] == way]
        bars = relation_bars(rows, rows["score"].tolist())
        title = f"Rank correlation of sharing and accuracy on held-out {study.test_domain} classes, {heading.lower()}"
        alt = f"{title}: {'; '.join(f'{bar.label} {correlation(bar.estimate)}' for bar in bars)}."
        if bars:
            caption = f"With {study.confidence:.0%} intervals."
            made[heading] = Figure(f"claim-{way}", title, caption, alt, partial(draw_relations, bars=bars))
    return made
