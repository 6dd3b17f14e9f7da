"""What the report says of concepts: how many the output encodes, which, and which of them mixtures share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.analyses.contract import AnalysisResults, Section, Subsection
from domix.analyses.controlled import against_domains, controlled_metrics, controlled_tests, say_controlled
from domix.analyses.groups import ACTIVATIONS, each_group, label
from domix.analyses.keys import series_key
from domix.figures import embedding
from domix.figures.charts import Line, curve, shaded_table
from domix.figures.figure import Figure
from domix.figures.look import Drawing, Look
from domix.figures.panel import panel, round_ticks
from domix.runtime.wording import listed
from domix.signature.concepts import jaccard, venn_counts
from domix.study import CLIP, Study

RUN = ["mixture", "seed"]
CONCEPT = ["category", "concept"]
OUTPUT = "output"
SIGNATURES = {"unique": "unique concepts at the output", "ap": "mean average precision of concepts"}
SHOWN = 15  # concepts in the table of the best
STEP = 10  # of the curve's thresholds, that `dvc plots` draws
PLACES = 4
COUNT = Markup(
    """<p>A unit <em>encodes</em> a concept if ranking the images by its value finds those that show the concept: if
the average precision is {threshold:g} or more. The curve is the number of concepts that some unit of the
{activation} encodes, over that threshold, of {concepts} ({kinds}) on {images:,} test images of all domains. Zero-shot
models were said to encode more than others, with many concepts a unit (<cite>Interpreting CLIP</cite>, 2024).
{said}</p>{key}"""
)
BEST = Markup(
    """<p>Average precision of the best unit, mean over seeds, for the concepts found best. A unit that says nothing has
the share of images that show the concept, which stands behind its name.</p>"""
)
SHARED = Markup("""<p>{said}</p>""")


@each_group(SIGNATURES)
def section(results: AnalysisResults, study: Study) -> Section:
    """Show unique concepts over the threshold, the concepts found best, their overlap, and the controlled test."""
    tables, threshold = results.tables, results.settings.threshold
    concepts = tables["concepts"][tables["concepts"]["site"] == OUTPUT]
    models = model_numbers(tables, threshold)
    if models.empty:
        return Section("Concepts", (), plots={"concepts": _plot(tables["curve"])})
    tests = {name: controlled_tests(models, column, results.shared.confidence) for column, name in SIGNATURES.items()}
    by_column = {column: tests[name] for column, name in SIGNATURES.items()}
    names = [mixture for mixture in study.mixtures if (concepts["mixture"] == mixture).any()]
    sets = group_sets(results)
    said = _said(models, threshold)
    parts = [
        Subsection(
            f"How many concepts does the {ACTIVATIONS[results.kind]} encode?",
            COUNT.format(
                activation=ACTIVATIONS[results.kind],
                threshold=threshold,
                said=said,
                key=series_key(names),
                **_sizes(concepts),
            ),
            {"All mixtures": _curves(tables["curve"], OUTPUT, names)},
            _other_sites(tables["curve"], names),
        ),
        Subsection("Which concepts are found best?", BEST, {"All mixtures": _best(concepts, names)}),
        Subsection(
            "Which concepts do mixtures share?",
            SHARED.format(said=_overlap(sets, threshold, results.kind)),
            _likeness(sets),
        ),
        Subsection(
            "Does the number of concepts move with the training domains, at equal accuracy?",
            say_controlled(tests, models, study, results.shared.confidence),
            against_domains("concepts", models, SIGNATURES, study),
        ),
    ]
    means = models.groupby("mixture", sort=False)[["unique", "polysemanticity", "ap"]].mean()
    return Section(
        "Concepts",
        parts,
        plots={"concepts": _plot(tables["curve"])},
        metrics={
            f"{mixture}.{name}": round(float(value), PLACES)
            for mixture, row in means.iterrows()
            for name, value in row.items()
            if np.isfinite(value)
        }
        | controlled_metrics(by_column),
        model_scores={
            name: models[[*RUN, column]].rename(columns={column: "score"}).astype({"score": "float64"})
            for column, name in SIGNATURES.items()
        },
    )


def model_numbers(tables: Mapping[str, pd.DataFrame], threshold: float) -> pd.DataFrame:
    """Return each model's numbers at the output, beside what the controlled test holds them against.

    `unique` and `polysemanticity` are those at the threshold, `ap` that of a concept's best unit, mean over concepts.
    """
    concepts, pairs = (rows[rows["site"] == OUTPUT] for rows in (tables["concepts"], tables["units"]))
    found = concepts.assign(unique=concepts["ap"] >= threshold).groupby(RUN, sort=False)
    numbers = found.agg({"unique": "sum", "ap": "mean"}).astype({"unique": "int64"})
    a_unit = pairs[pairs["ap"] >= threshold].groupby([*RUN, "unit", "sign"]).size()
    numbers["polysemanticity"] = a_unit.groupby(RUN).mean().reindex(numbers.index).astype("float64")
    return numbers.reset_index().merge(tables["models"], on=RUN)


def group_sets(results: AnalysisResults) -> dict[str, set[str]]:
    """Return by mixture the concepts that its models encode at the output; of classifiers beside those of CLIP models.

    So the overlap of two groups stands once on the page, with the second group.
    """
    every = results.every_group.get("concepts")
    if every is None or results.kind == CLIP:
        concepts = results.tables["concepts"]
        return encoded(concepts[concepts["site"] == OUTPUT], results.settings.threshold)
    output = every[every["site"] == OUTPUT]
    return {
        label(str(kind), mixture): concepts
        for kind, mine in output.groupby("kind", sort=False)
        for mixture, concepts in encoded(mine, results.settings.threshold).items()
    }


def encoded(concepts: pd.DataFrame, threshold: float) -> dict[str, set[str]]:
    """Return by mixture the concepts that it encodes: whose best unit has the average precision, mean over seeds."""
    means = concepts.groupby(["mixture", *CONCEPT], sort=False, as_index=False)["ap"].mean()
    named = means.assign(name=means["concept"] + " (" + means["category"] + ")")
    return {
        str(mixture): set(mine[mine["ap"] >= threshold]["name"])
        for mixture, mine in named.groupby("mixture", sort=False)
    }


def _sizes(concepts: pd.DataFrame) -> dict[str, object]:
    kinds = concepts.drop_duplicates(CONCEPT)["category"].value_counts(sort=False)
    said = listed([f"{category}: {count}" for category, count in kinds.items()])
    return {"concepts": int(kinds.sum()), "kinds": said, "images": int(concepts["images"].max())}


def _said(models: pd.DataFrame, threshold: float) -> str:
    means = models.groupby("mixture", sort=False)[["unique", "polysemanticity", "ap"]].mean()
    count = listed([f"{mixture} {row['unique']:.3g}" for mixture, row in means.iterrows()])
    known = means[means["polysemanticity"].notna()]
    many = listed([f"{mixture} {row['polysemanticity']:.2f}" for mixture, row in known.iterrows()])
    units = f"A unit that encodes any encodes so many: {many}." if many else "No unit encodes any."
    mean = listed([f"{mixture} {row['ap']:.2f}" for mixture, row in means.iterrows()])
    best = f"The best unit's average precision, mean over concepts: {mean}."
    return f"Unique concepts at {threshold:g}: {count}. {units} {best}"


def _overlap(sets: dict[str, set[str]], threshold: float, kind: str) -> str:
    counts = venn_counts(sets)
    if not counts:
        return f"No mixture encodes a concept at {threshold:g}."
    everyone = "all mixtures" if kind == CLIP else "all mixtures, of zero-shot models and of classifiers"
    every = counts.pop(tuple(sets), 0)
    others = listed([f"{count} by none but {listed(list(names))}" for names, count in counts.items()])
    rest = f"; {others}" if others else ""
    count = len(set().union(*sets.values()))
    return f"At {threshold:g}, {every} of {count} concepts are encoded by {everyone}{rest}."


def _likeness(sets: dict[str, set[str]]) -> dict[str, Figure]:
    having = [name for name, concepts in sets.items() if concepts]
    if len(having) < 2:
        return {}
    table = pd.DataFrame([[jaccard(sets[one], sets[other]) for other in having] for one in having], having, having)
    title = "Overlap of the concepts that mixtures encode"
    pairs = [f"{one} and {other} {table.loc[one, other]:.2f}" for i, one in enumerate(having) for other in having[:i]]
    caption = "Jaccard index: the share of the concepts of either that both encode."
    return {
        "Output": Figure(
            "concepts-overlap", title, caption, f"{title}: {'; '.join(pairs)}.", partial(embedding.alike, table=table)
        )
    }


def _best(concepts: pd.DataFrame, names: list[str]) -> Figure:
    wide = concepts.pivot_table(index=CONCEPT, columns="mixture", values="ap", aggfunc="mean")[names]
    best = wide.loc[wide.mean(axis=1).sort_values(ascending=False, kind="stable").index[:SHOWN]]
    share = concepts.drop_duplicates(CONCEPT).set_index(CONCEPT).eval("shown / images")
    table = best.set_axis([f"{concept} {100 * share[category, concept]:.0f} %" for category, concept in best.index])
    title = "Average precision of the concepts found best"
    tops = [f"{concept} {value:.2f}" for concept, value in table.mean(axis=1).items()]
    return Figure("concepts-best", title, "Mean over seeds.", f"{title}: {'; '.join(tops)}.", partial(_shaded, table))


def _shaded(table: pd.DataFrame, look: Look) -> Drawing:
    def tip(concept: str, mixture: str, value: float) -> str:
        return f"{concept}, {mixture}: {value:.3f}"

    return shaded_table(
        look, look.panel, table, lambda value: f"{value:.2f}".removeprefix("0"), tip, row=1.8 * look.small
    )


def _other_sites(curves: pd.DataFrame, names: list[str]) -> dict[str, dict[str, Figure]]:
    others = {site: _curves(curves, site, names) for site in curves["site"].unique() if site != OUTPUT}
    return {"At other sites": others} if others else {}


def _curves(curves: pd.DataFrame, site: str, names: list[str]) -> Figure:
    rows = curves[curves["site"] == site]
    means = rows.groupby(["mixture", "threshold"], sort=False, as_index=False)["unique"].mean()
    title = f"Unique concepts over the threshold: {site}"
    first = means[means["threshold"] == means["threshold"].min()]
    said = "; ".join(f"{row.mixture} {row.unique:.3g}" for row in first.itertuples())
    alt = f"{title}; at {first['threshold'].iloc[0]:g}: {said}."
    return Figure(f"concepts-{site}", title, "Mean over seeds.", alt, partial(_draw, means, names))


def _draw(means: pd.DataFrame, names: list[str], look: Look) -> Drawing:
    size = look.small
    made = panel(look, look.panel, 0.62 * look.panel, (3.6 * size, 0.9 * size, 1.1 * size, 3.6 * size))
    ends = (float(means["threshold"].min()), float(means["threshold"].max()))
    ticks, across = round_ticks(0, max(float(means["unique"].max()), 1)), round_ticks(*ends)
    made.limits(ends, (ticks[0], ticks[-1]))
    made.mark_across(across, [f"{tick:g}" for tick in across], "average precision")
    made.mark_up(ticks, [f"{tick:g}" for tick in ticks])
    for place, name in enumerate(names):
        mine = means[means["mixture"] == name]
        line = Line(look.series[place % len(look.series)], look.stroke, front=2 + place)
        curve(made, mine["threshold"], mine["unique"], line, name)
    return made.figure


def _plot(curves: pd.DataFrame) -> pd.DataFrame:
    rows = curves.groupby(["mixture", "site", "threshold"], sort=False, as_index=False)["unique"].mean()
    rows = rows[rows.groupby(["mixture", "site"], sort=False).cumcount() % STEP == 0].reset_index(drop=True)
    renamed = rows.rename(columns={"site": "series", "threshold": "x", "unique": "y"})
    return renamed.astype({"mixture": "str", "series": "str", "x": "float64", "y": "float64"})
