"""The section's sentences about foreign images, with their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup

from domix.analyses.ood.flags import FOREIGN
from domix.runtime.wording import listed, percent, points
from domix.study import CLIP, SUPERVISED, Study

GROUPS = {
    "held_out": "held-out classes",
    "tested": "tested classes",
    "near": "near objects",
    "far": "far objects",
    "seen": "seen classes",
}
CELLS = {
    "seen": "the seen classes' images",
    "test": "the test classes' images",
    "near": "near objects",
    "far": "far objects",
}
KNOWN = {"natural": "known images", "full": "known images of both styles"}
ACCURACIES = {
    CLIP: {"zeroshot": "zero-shot accuracy", "knn": "accuracy of neighbours"},
    SUPERVISED: {"zeroshot": "accuracy", "knn": "accuracy of neighbours"},
}
BY = {CLIP: "their names", SUPERVISED: "its outputs for them"}  # what a model knows classes by
CONTRASTS = (("leave-out-domain", "natural-only"), ("cg-high", "cg-low"))  # standard names: more styles, and fewer
FULL = "With {test_domain} images of seen classes among the known ones (full spectrum)"
FLAGS = Markup(
    """<p>What a model knows is taken to be the {classes} seen classes, by {by} and by {n:.0f} {natural} images
of them. The score <em>{score}</em> says how much an image is like it; below the threshold that 95&nbsp;% of the known
images reach, an image is flagged as foreign (dashed: what that flags of the known ones). Bars are
{confidence:g}&nbsp;% intervals. {verdict}</p>
<ul class="key"><li><i style="background:var(--accent)"></i> seen classes, not foreign</li>
<li><i class="ring"></i> test classes, foreign</li></ul>"""
)
CHOICES = Markup(
    """<p>Hyper-parameters were chosen by AUROC on {known} other known images and {foreign} of <em>{which}</em>, which
nothing is reported on. {said}.</p>"""
)
AUROC = Markup(
    """<p>The chance that a known image scores higher than one of a group (AUROC; dashed: by luck). {groups}</p>"""
)
MEANINGS = {
    "held_out": "<em>Held-out classes</em> are the {test} test classes in {test_domain}: neither {by} nor the"
    " cells are known.",
    "tested": "<em>Tested classes</em> are the same in {natural}: foreign by class alone.",
    "near": "<em>Near</em> and <em>far objects</em> are drawings of things that no class of the study is.",
    "seen": "<em>Seen classes</em> are no foreign objects but known ones in {test_domain}: the closer to 50&nbsp;%,"
    " the less a style alone makes them look foreign.",
}
STYLES = Markup(
    """<p>AUROC less that of {baseline}, on the same images in the same resamples: to the left of 0, foreign images are
harder to tell from known ones. {verdict}</p>"""
)
RELATION = Markup(
    """<p>Models by how well they read the known images, and how well they tell the others from them (dashed: the line
by least squares; shaded: where it lies for other draws of models). {verdict} Mixtures differ in more than one thing, so
that this says what goes together, not what causes what.</p>"""
)


class Difference(NamedTuple):
    """A difference in AUROC between two mixtures, and its interval."""

    estimate: float
    low: float
    high: float


def flags(flagged: pd.DataFrame, metrics: pd.DataFrame, study: Study, score: str, confidence: float) -> Markup:
    """Say how the flags come about, and how many images of the test domain's seen classes are flagged.

    Args:
        flagged: the table flags, of one score, mean over seeds.
        metrics: the table metrics, likewise.
        study: of both.
        score: its name.
        confidence: of the intervals.
    """
    own = flagged[(flagged["domain"] == study.test_domain) & (flagged["cells"] == "seen")]
    sentences = []
    for trained, which in ((False, "never saw the style"), (True, "saw other images of them")):
        rows = own[own["trained"] == trained]
        shares = listed([f"{percent(row.share)} ({row.mixture})" for row in rows.itertuples()])
        if shares:
            sentences.append(f"{shares} where the model {which}")
    verdict = (
        f"Of the {study.test_domain} images of seen classes are flagged {'; '.join(sentences)}." if sentences else ""
    )
    return FLAGS.format(
        by=BY[study.kind],
        classes=len(study.seen_classes),
        natural=study.natural_domain,
        n=metrics["n_known"].max(),
        score=score.replace("_", " "),
        confidence=100 * confidence,
        verdict=verdict,
    )


def choices(options: pd.DataFrame) -> Markup:
    """Say which hyper-parameters were chosen on what, of the table options; nothing where all are fixed."""
    chosen = options[options["chosen"] & (options["validation"] != "") & (options["checkpoint"] < 0)]
    if chosen.empty:
        return Markup("")
    first, said = chosen.iloc[0], []
    for score, mine in chosen.groupby("score", sort=False):
        names = mine["mixture"] + ("-s" + mine["seed"].astype(str) if chosen["seed"].nunique() > 1 else "")
        by_options = names.groupby(mine["options"], sort=False).agg(list)
        found = [f"{which} in {listed(runs)}" for which, runs in by_options.items()]
        said.append(f"{str(score).replace('_', ' ')}: {'; '.join(found)}")
    sizes = {"known": first["n_known"], "foreign": first["n_ood"]}
    return CHOICES.format(which=first["validation"], said=". ".join(said), **sizes)


def auroc(study: Study, groups: dict[tuple[str, str], str]) -> Markup:
    """Say what AUROC is, and what the groups are."""
    here = {group for group, _ in groups}
    names = {
        "by": BY[study.kind],
        "test": len(study.test_classes),
        "test_domain": study.test_domain,
        "natural": study.natural_domain,
    }
    meanings = [Markup(text).format(**names) for group, text in MEANINGS.items() if group in here]
    return AUROC.format(groups=Markup(" ").join(meanings))


def difference(
    differences: pd.DataFrame, mixture: str, baseline: str, group: str, source: str, known: str
) -> Difference | None:
    """Return the difference in AUROC of a mixture and a baseline, whichever way it stands in the table."""
    rows = differences[
        (differences["group"] == group) & (differences["set"] == source) & (differences["known"] == known)
    ]
    for ours, theirs, sign in ((mixture, baseline, 1), (baseline, mixture, -1)):
        found = rows[(rows["mixture_a"] == ours) & (rows["mixture_b"] == theirs)]
        if len(found):
            ends = sorted(sign * float(found.iloc[0][end]) for end in ("low", "high"))
            return Difference(sign * float(found.iloc[0]["difference"]), *ends)
    return None


def styles(
    differences: pd.DataFrame,
    accuracy: Mapping[str, float],
    study: Study,
    groups: dict[tuple[str, str], str],
    baseline: str,
) -> Markup:
    """Say whether mixtures with more styles tell foreign images better or worse than those with fewer.

    Args:
        differences: the table of that name, of AUROC by one score.
        accuracy: zero-shot accuracy on the known images, by mixture.
        study: of both.
        groups: what each group and set is called.
        baseline: the mixture that all are compared with in the figures.
    """
    sentences = []
    for more, fewer in CONTRASTS:
        ours, theirs = study.named(more), study.named(fewer)
        if ours is None or theirs is None:
            continue
        told: dict[str, list[str]] = {}
        for (group, source), called in groups.items():
            found = difference(differences, ours, theirs, group, source, "natural")
            if found is not None and group in FOREIGN:
                how = "worse" if found.high < 0 else "better" if found.low > 0 else "as well"
                ends = f"{points(found.low)} to {points(found.high)}"
                told.setdefault(how, []).append(f"{called} ({points(found.estimate)}; {ends})")
        if told:
            changes = "; ".join(f"{how}: {listed(names)}" for how, names in told.items())
            sentences.append(
                f"Compared with {theirs}, {ours} with its further styles tells (in points of AUROC) {changes}. It reads"
                f" {percent(accuracy[ours])} of the known images, {theirs} {percent(accuracy[theirs])}."
            )
    return STYLES.format(baseline=baseline, verdict=" ".join(sentences))


def r2(row: pd.Series) -> str:
    """Write R^2 with its interval, where there is one."""
    ends = "" if pd.isna(row["low"]) else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"R\N{SUPERSCRIPT TWO} {row['r2']:.2f}{ends}"


def relation(
    models: pd.DataFrame, correlations: pd.DataFrame, groups: dict[tuple[str, str], str], accuracy: str
) -> Markup:
    """Say how accuracy on known images, as it is called, and AUROC go together."""
    found = correlations[correlations["accuracy"] == "zeroshot"]
    said = [
        f"{groups[pair]} {r2(row)}"
        for pair, (_, row) in zip(
            found[["group", "set"]].itertuples(index=False, name=None), found.iterrows(), strict=True
        )
        if pair[0] != "seen"
    ]
    count = len(models[["mixture", "seed", "checkpoint"]].drop_duplicates())
    verdict = f"{accuracy.capitalize()} and AUROC over {count} models: {listed(said)}."
    return RELATION.format(verdict=verdict)
