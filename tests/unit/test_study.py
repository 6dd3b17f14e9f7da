"""A study's facts: read once from the mixtures' summary and the list of runs; what is amiss is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from domix.data.mixtures.cells import Split
from domix.runtime.errors import DataError
from domix.runtime.files import write_json
from domix.study import Run, Study, list_runs, read_study

SUMMARY: dict[str, Any] = {
    "test_domain": "sketch",
    "natural_domain": "real",
    "domains": ["clipart", "real", "sketch"],
    "classes": ["axe", "lion", "pizza"],
    "test_classes": ["axe", "pizza"],
    "mixtures": [
        {"name": "natural-only", "standard_name": "natural-only"},
        {"name": "lso-cprs", "standard_name": "cg-high"},
    ],
}
RUNS = list_runs(["natural-only", "lso-cprs"], [0, 7], supervised=["lso-cprs"], public=["ViT-B-32"])


@pytest.fixture
def study(tmp_path: Path) -> Study:
    write_json(tmp_path / "summary.json", SUMMARY)
    return read_study(tmp_path / "summary.json", RUNS)


def test_a_study_says_what_its_summary_says(study: Study) -> None:
    assert (study.test_domain, study.natural_domain) == ("sketch", "real")
    assert study.domains == ("clipart", "real", "sketch") and study.classes == ("axe", "lion", "pizza")
    assert study.test_classes == ("axe", "pizza") and study.seen_classes == ("lion",)
    assert study.test_labels.tolist() == [0, 2]


def test_runs_are_listed_in_the_order_of_the_parameters(study: Study) -> None:
    names = ["natural-only-s0", "natural-only-s7", "lso-cprs-s0", "lso-cprs-s7"]
    assert [run.name for run in study.runs_of("clip")] == names
    assert [run.name for run in study.runs] == [*names, "lso-cprs-s0", "lso-cprs-s7", "ViT-B-32"]
    assert (study.mixtures, study.seeds) == (["natural-only", "lso-cprs"], [0, 7])
    assert study.mixtures_of("supervised") == ["lso-cprs"]


def test_a_run_names_itself() -> None:
    assert Run("supervised", "cg-low", 3).keys == {"kind": "supervised", "mixture": "cg-low", "seed": 3}
    assert [str(run) for run in (Run("clip", "cg-low", 3), Run("supervised", "cg-low", 3))] == [
        "cg-low seed 3",
        "supervised cg-low seed 3",
    ]


def test_mixtures_are_found_by_their_standard_names(study: Study) -> None:
    assert study.named("cg-high") == "lso-cprs" and study.named("cg-low") is None
    assert study.named("natural-only", "supervised") is None
    assert [study.standard_name(run) for run in (RUNS[2], RUNS[-1])] == ["cg-high", ""]
    only = study.only([RUNS[0], RUNS[-1]])
    assert only.runs == (RUNS[0], RUNS[-1]) and only.named("cg-high") is None


def test_held_out_cells_are_test_classes_in_the_test_domain(study: Study) -> None:
    cells = [(domain, name) for domain in study.domains for name in study.classes]
    table = pd.DataFrame(cells, columns=["domain", "class"])
    expected = [domain == "sketch" and name in ("axe", "pizza") for domain, name in cells]
    assert study.held_out_rows(table).tolist() == expected
    assert [study.held_out(domain, name) for domain, name in cells] == expected
    subsets = study.class_subsets()
    np.testing.assert_array_equal(subsets["test"], [True, False, True])
    np.testing.assert_array_equal(subsets["seen"], [False, True, False])
    assert subsets["all"].all()


def test_no_fact_of_a_split_is_declared_again() -> None:
    assert issubclass(Study, Split)
    own = {field.name for field in dataclasses.fields(Study)} - {field.name for field in dataclasses.fields(Split)}
    assert own == {"runs", "standard_names"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        Run("clip", "cg-low", 0).seed = 1  # ty: ignore[invalid-assignment]


@pytest.mark.parametrize("key", ["test_domain", "natural_domain", "domains", "classes", "test_classes", "mixtures"])
def test_a_summary_that_lacks_something_is_named(tmp_path: Path, key: str) -> None:
    write_json(tmp_path / "summary.json", {name: value for name, value in SUMMARY.items() if name != key})
    with pytest.raises(DataError, match=rf"summary\.json lacks '{key}'$") as caught:
        read_study(tmp_path / "summary.json")
    assert caught.value.remake == tmp_path / "summary.json"


def test_a_mixture_that_the_summary_does_not_describe_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "summary.json", SUMMARY)
    with pytest.raises(DataError, match=r"summary\.json does not describe the mixture 'cg-low'$") as caught:
        read_study(tmp_path / "summary.json", [Run("clip", "cg-low", 0)])
    assert caught.value.remake == tmp_path / "summary.json"
    assert read_study(tmp_path / "summary.json", [Run("public", "any", 0)]).runs


def test_a_missing_or_damaged_summary_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"summary\.json"):
        read_study(tmp_path / "summary.json")
    (tmp_path / "summary.json").write_text('{"test_domain": ', encoding="utf-8")
    with pytest.raises(DataError, match=r"summary\.json"):
        read_study(tmp_path / "summary.json")


def test_what_was_made_of_other_data_is_refused(study: Study) -> None:
    study.require_same(["sketch", "real"], ["axe", "lion", "pizza"], "here")
    with pytest.raises(DataError, match="here was made from other classes or domains"):
        study.require_same(["sketch", "real"], ["axe", "lion"], "here")
    with pytest.raises(DataError, match="here was made from other classes or domains"):
        study.require_same(["real"], ["axe", "lion", "pizza"], "here")
