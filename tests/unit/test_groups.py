"""Sections of both groups of models: what is said of CLIP models stays, and classifiers stand beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from domix.analyses.concepts.section import group_sets
from domix.analyses.contract import AnalysisResults, Section
from domix.analyses.groups import of_group
from domix.analyses.registry import find
from domix.analyses.results import read_findings
from domix.figures import page
from domix.runs import Run
from domix.runtime.errors import DataError
from domix.study import Study
from tests.fake_signatures import concept_tables, direction_tables, outlier_tables, pruning_tables
from tests.made_section import SHARED, study

CLASSIFIERS = tuple(Run("supervised", mixture, seed) for mixture in ("natural-only", "cg-high") for seed in (0, 1))
TABLES = {
    "outliers": outlier_tables,
    "directions": direction_tables,
    "pruning": pruning_tables,
    "concepts": lambda runs: concept_tables(list(runs)),
}


def both(name: str) -> tuple[Study, dict[str, pd.DataFrame]]:
    """Return a study with two mixtures' classifiers, and the tables of both groups."""
    asked = study(2)
    asked = replace(asked, runs=(*asked.runs, *CLASSIFIERS))
    parts = [TABLES[name](asked.runs_of(kind)) for kind in ("clip", "supervised")]
    return asked, {key: pd.concat([part[key] for part in parts], ignore_index=True) for key in parts[0]}


def section(name: str, asked: Study, tables: dict[str, pd.DataFrame], unlike: str = "") -> Section:
    analysis = find(name)
    settings = analysis.Settings.read({"threshold": 0.5} if name == "concepts" else {}, "")
    results = AnalysisResults(tables, {}, settings, SHARED, None, unlike=unlike)  # ty: ignore[invalid-argument-type]
    return analysis.section(results, asked)


@pytest.mark.parametrize("name", list(TABLES))
def test_what_is_said_of_clip_models_stays(name: str) -> None:
    asked, tables = both(name)
    alone = section(name, asked.only(asked.runs_of("clip")), TABLES[name](asked.runs_of("clip")))
    made = section(name, asked, tables)
    own = [part.title for part in alone.parts]
    assert [part.title for part in made.parts[: len(own)]] == own
    assert [part.text for part in made.parts[: len(own)]] == [part.text for part in alone.parts]
    assert {key: value for key, value in made.metrics.items() if key in alone.metrics} == alone.metrics
    for key, scores in alone.model_scores.items():
        pd.testing.assert_frame_equal(made.model_scores[key], scores)
    if alone.model_scores:
        called = replace(asked, runs=tuple(replace(run, kind="clip") for run in CLASSIFIERS))
        only = section(name, called, TABLES[name](called.runs)).model_scores  # the same, as if they were CLIP models
        assert list(made.other_scores) == ["supervised"] and made.other_scores["supervised"].keys() == only.keys()
        for key, scores in made.other_scores["supervised"].items():
            pd.testing.assert_frame_equal(scores, only[key])
    for key, plot in alone.plots.items():
        pd.testing.assert_frame_equal(made.plots[key][: len(plot)], plot)
        assert set(made.plots[key]["mixture"]) - set(plot["mixture"]) == {
            "supervised natural-only",
            "supervised cg-high",
        }
    beside, *others = made.parts[len(own) :]
    assert beside.title == "Do supervised classifiers differ from zero-shot models?" and others
    assert all(part.title.startswith("Supervised classifiers: ") for part in others)
    figures = [f for part in made.parts for each in (part.figures, *part.folded.values()) for f in each.values()]
    assert len({figure.name for figure in figures}) == len(figures)
    assert all("<svg" in page.svg(figure) for figure in (*beside.figures.values(), *others[0].figures.values()))


def test_numbers_of_both_groups_stand_side_by_side() -> None:
    made = section("outliers", *both("outliers"))
    beside = next(part for part in made.parts if part.title.startswith("Do supervised"))
    # of run number p (from 0, of its group) and seed s: 4 + p + s on natural images; means over seeds
    assert (made.metrics["cg-high.kurtosis"], made.metrics["supervised.cg-high.kurtosis"]) == (11.0, 7.0)
    assert "supervised classifiers natural-only 5 and cg-high 7" in beside.text
    assert "zero-shot models natural-only 5, cg-low 7" in beside.text
    tests = [part for part in made.parts if "at equal accuracy" in part.title]
    assert "over 10 models of 5 mixtures" in tests[0].text and "over 4 models of 2 mixtures" in tests[1].text
    assert "domains in zero-shot models, at equal accuracy on natural images?" in tests[0].text
    assert "domains in supervised classifiers, at equal accuracy on natural images?" in tests[1].text
    assert "zero-shot" not in tests[1].text and "supervised" not in tests[0].text


def test_that_images_are_not_read_alike_is_said_where_groups_stand_beside_each_other() -> None:
    asked, tables = both("outliers")
    parts = section("outliers", asked, tables, unlike="They read <others>.").parts
    assert ["They read &lt;others&gt;." in part.text for part in parts].count(True) == 1
    assert "They read" in next(part for part in parts if part.title.startswith("Do supervised")).text


def test_a_number_that_is_the_same_everywhere_has_no_figure() -> None:
    asked, tables = both("outliers")
    beside = next(part for part in section("outliers", asked, tables).parts if part.title.startswith("Do supervised"))
    assert list(beside.figures) == ["Kurtosis at the output"] and "Outlier features at the output: zero" in beside.text
    assert '<ul class="key">' in beside.text
    tables["output"]["outliers"] = (tables["output"]["kind"] == "supervised").astype("int64")
    beside = next(part for part in section("outliers", asked, tables).parts if part.title.startswith("Do supervised"))
    assert list(beside.figures) == ["Kurtosis at the output", "Outlier features at the output"]
    tables["output"] = tables["output"].assign(outliers=0, kurtosis=3.0)
    beside = next(part for part in section("outliers", asked, tables).parts if part.title.startswith("Do supervised"))
    assert (
        not beside.figures
        and "<ul" not in beside.text
        and "supervised classifiers natural-only 3 and cg-high 3" in beside.text
    )


def test_words_are_those_of_the_group() -> None:
    texts = [part.text for part in section("directions", *both("directions")).parts]
    assert "The zero-shot head, the matrix" in texts[0] and any(
        "The last layer, the matrix" in text for text in texts[1:]
    )
    assert "of an image's embedding is 3" in section("outliers", *both("outliers")).parts[0].text.replace(
        "kurtosis ", ""
    )


def test_concept_sets_of_both_groups_are_compared() -> None:
    asked, tables = both("concepts")
    settings = find("concepts").Settings.read({"threshold": 0.6}, "")
    results = AnalysisResults(tables, {}, settings, SHARED, None)  # ty: ignore[invalid-argument-type]
    assert list(group_sets(of_group(results, "clip"))) == asked.mixtures
    sets = group_sets(of_group(results, "supervised"))
    assert list(sets) == [*asked.mixtures, "supervised natural-only", "supervised cg-high"]
    assert sets["supervised cg-high"] == sets["cg-high"] == {"food (group)", "sketch (domain)"}
    shared = [part for part in section("concepts", asked, tables).parts if "share" in part.title]
    everyone = "are encoded by all mixtures, of zero-shot models and of classifiers"
    assert [everyone in part.text for part in shared] == [False, True]
    assert "supervised" not in shared[0].text + shared[0].figures["Output"].alt
    assert "supervised cg-high and cg-high 1.00" in shared[1].figures["Output"].alt


def test_tables_are_read_of_the_runs_asked_for(tmp_path: Path) -> None:
    tables = both("directions")[1]
    analysis = find("directions")
    for schema in analysis.written():
        mixed = tables[schema.name].sample(frac=1, random_state=0) if schema.name == "models" else tables[schema.name]
        schema.write(mixed, tmp_path / f"{schema.name}.parquet")
    runs = [Run("supervised", "cg-high", 1), Run("clip", "cg-high", 0), Run("clip", "cg-low", 1)]
    models = read_findings(analysis, tmp_path, runs).tables["models"]
    assert list(models[["kind", "mixture", "seed"]].itertuples(index=False, name=None)) == [
        ("supervised", "cg-high", 1),
        ("clip", "cg-high", 0),
        ("clip", "cg-low", 1),
    ]


def test_what_ood_lacks_of_classifiers_is_named(tmp_path: Path) -> None:
    analysis = find("ood")
    for schema in analysis.written():
        frame = schema.empty()
        if "mixture" in schema.names:
            row = {c.name: "x" if c.dtype == "str" else 0 for c in schema.columns} | {"kind": "clip", "mixture": "a"}
            frame = pd.DataFrame([row]).astype({c.name: c.dtype for c in schema.columns})
        schema.write(frame, tmp_path / f"{schema.name}.parquet")
    clip, classifier = Run("clip", "a", 0), Run("supervised", "a", 0)
    assert len(read_findings(analysis, tmp_path, [clip]).tables["metrics"]) == 1
    with pytest.raises(DataError, match=r"holds nothing for supervised a$"):
        read_findings(analysis, tmp_path, [clip, classifier])
    missing: list[str] = []
    assert read_findings(analysis, tmp_path, [clip, classifier], missing).tables["metrics"].empty
    assert missing == ["the ood audit of all these mixtures"]
