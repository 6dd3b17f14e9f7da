"""The study view's collection: what is there, what is missing, what does not fit together."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from domix.cli.studies.places import of_sweep, this_workspace
from domix.report.paper.collection import Collection, collect
from domix.report.paper.place import ResultsPlace
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json, write_json
from domix.runtime.tables import read_table, write_table
from tools.made_study import Asked, make_sweep, make_workspace

SMALL = Asked(
    test_domains=("clipart", "sketch"),
    mixtures=("natural-only", "cg-low", "cg-high", "cg-high-all"),
    seeds=(0, 1),
    checkpoints=(0, 1, 2),
    classes=12,
    test_classes=4,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    make_sweep(root, SMALL)
    return root


def copy_of(root: Path, target: Path) -> Path:
    shutil.copytree(root, target, dirs_exist_ok=True)
    return target


def edit_params(folder: Path, **changed: Any) -> None:
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load(folder / "params.yaml")
    yaml.dump(params | changed, folder / "params.yaml")


def folder_of(root: Path, domain: str) -> Path:
    return root / ".cache" / "sweep" / "made" / domain


def runs_in(study: Collection) -> set[tuple[str, str, int]]:
    return set(study.tables["metrics"][["test_domain", "mixture", "seed"]].itertuples(index=False, name=None))


def test_a_finished_sweep_is_collected_whole(finished: Path) -> None:
    study = collect(of_sweep(finished, "made"))
    assert study.test_domains == ["clipart", "sketch"]
    assert study.mixtures == ["natural-only", "cg-low", "cg-high", "cg-high-all"]
    assert (study.asked, study.missing, study.mark, study.notes) == (16, [], "", [])
    assert len(runs_in(study)) == 16
    for name, frame in study.tables.items():
        home = "report" if name == "scores" else "eval"
        parts = [
            read_table(folder_of(finished, d) / "artifacts" / home / f"{name}.parquet") for d in SMALL.test_domains
        ]
        assert len(frame) == sum(map(len, parts)), name
    pd.testing.assert_frame_equal(
        study.tables["per_class"].query("test_domain == 'sketch'").drop(columns="test_domain").reset_index(drop=True),
        read_table(folder_of(finished, "sketch") / "artifacts" / "eval" / "per_class.parquet"),
    )


def test_without_a_report_nothing_is_said_of_what_models_share(finished: Path, tmp_path: Path) -> None:
    root = copy_of(finished, tmp_path)
    for domain in SMALL.test_domains:
        shutil.rmtree(folder_of(root, domain) / "artifacts" / "report")
    assert collect(of_sweep(root, "made")).relations.empty


def test_an_unfinished_sweep_shows_what_is_there_and_names_what_is_missing(tmp_path: Path) -> None:
    states = {"sketch/cg-high-1": "failed", "sketch/cg-low-0": "waiting"}
    asked = replace(SMALL, states=states, unfinished=("sketch",))
    make_sweep(tmp_path, asked)
    study = collect(of_sweep(tmp_path, "made"))
    assert study.test_domains == ["clipart"]
    assert study.mark == "incomplete: 8 of 16 runs"
    missing = {(m.test_domain, m.run.mixture, m.run.seed): m for m in study.missing}
    assert set(missing) == {("sketch", mixture, seed) for mixture in SMALL.mixtures for seed in SMALL.seeds}
    failed = missing["sketch", "cg-high", 1]
    assert (failed.run.state, failed.why) == ("failed", "train: out of memory")
    assert failed.run.log == ".cache/sweep/made/logs/sketch/train@cg-high-1.log"
    assert missing["sketch", "cg-low", 0].run.state == "waiting"
    assert missing["sketch", "cg-high", 0].why == "it is not evaluated"
    assert study.notes == ["sweep made, sketch: it is not evaluated."]


def test_a_copy_that_was_never_made_is_missing(finished: Path, tmp_path: Path) -> None:
    root = copy_of(finished, tmp_path)
    shutil.rmtree(folder_of(root, "sketch"))
    study = collect(of_sweep(root, "made"))
    assert study.mark == "incomplete: 8 of 16 runs"
    assert {m.why for m in study.missing} == {"its mixtures are not made"}


def test_a_training_that_failed_after_its_evaluation_is_told_of(finished: Path, tmp_path: Path) -> None:
    root = copy_of(finished, tmp_path)
    path = root / ".cache" / "sweep" / "made" / "sweep.json"
    sweep = read_json(path)
    sweep["runs"][-1]["state"] = "failed"
    write_json(path, sweep)
    study = collect(of_sweep(root, "made"))
    assert study.mark == ""
    assert study.notes == [
        "sweep made, sketch: clip cg-high-all seed 1 is failed; its numbers are of a training before."
    ]


def test_a_folder_beside_the_sweep_is_not_collected(finished: Path, tmp_path: Path) -> None:
    root = copy_of(finished, tmp_path)
    make_workspace(folder_of(root, "painting"), "painting", SMALL)
    assert collect(of_sweep(root, "made")).test_domains == ["clipart", "sketch"]


def test_nothing_evaluated_is_one_sentence(tmp_path: Path) -> None:
    make_sweep(tmp_path, replace(SMALL, unfinished=SMALL.test_domains))
    with pytest.raises(DataError, match=r"none of the 16 runs asked for is evaluated .*sweep made, clipart: it is not"):
        collect(of_sweep(tmp_path, "made"))


def test_an_unknown_sweep_names_those_there_are(finished: Path) -> None:
    with pytest.raises(ParameterError, match=r"--sweep 'mad' names no sweep.*there are made"):
        of_sweep(finished, "mad")
    with pytest.raises(ParameterError, match="--sweep"):
        of_sweep(finished, "../made")


def test_tables_of_runs_not_asked_for_are_stale(finished: Path, tmp_path: Path) -> None:
    root = copy_of(finished, tmp_path)
    edit_params(folder_of(root, "clipart"), seeds=[0])
    with pytest.raises(DataError, match="its tables hold runs not asked for, as clip cg-high seed 1"):
        collect([this_workspace(folder_of(root, "clipart"))])


def test_tables_of_another_test_domain_are_stale(finished: Path, tmp_path: Path) -> None:
    root = copy_of(finished, tmp_path)
    edit_params(folder_of(root, "clipart"), test_domain="painting")
    with pytest.raises(DataError, match="its tables are of the test domain clipart"):
        collect([this_workspace(folder_of(root, "clipart"))])


def test_a_sweeps_copy_that_has_become_another_study_is_missing(finished: Path, tmp_path: Path) -> None:
    root = copy_of(finished, tmp_path)
    make_workspace(folder_of(root, "sketch"), "painting", SMALL)
    study = collect(of_sweep(root, "made"))
    assert (study.test_domains, study.mark) == (["clipart"], "incomplete: 8 of 16 runs")
    assert study.notes == ["sweep made, sketch: its tables are of the test domain painting."]


def test_tables_of_an_older_version_are_told(finished: Path, tmp_path: Path) -> None:
    root = copy_of(finished, tmp_path)
    path = folder_of(root, "clipart") / "artifacts" / "eval" / "metrics.parquet"
    write_table(path, read_table(path).drop(columns="kind"))
    with pytest.raises(DataError, match=r"clipart: artifacts/eval/metrics\.parquet has no column 'kind'"):
        collect(of_sweep(root, "made"))


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("evaluate", "bootstrap", 500, r"evaluate.bootstrap \(10000, 500\)"),
        ("train", "lr", 0.5, r"train.lr \(0.001, 0.5\)"),
        ("embed", "templates", "openai", r"embed.templates \(clip, openai\)"),
        ("supervised", "momentum", 0.5, r"supervised.momentum \(0.9, 0.5\)"),
    ],
)
def test_studies_of_unlike_parameters_are_refused(
    finished: Path, tmp_path: Path, section: str, key: str, value: object, told: str
) -> None:
    root = copy_of(finished, tmp_path)
    folder = folder_of(root, "sketch")
    before = YAML(typ="safe", pure=True).load(folder / "params.yaml")[section]
    edit_params(folder, **{section: before | {key: value}})
    with pytest.raises(DataError, match=f"sweep made, clipart and sweep made, sketch differ in {told}, so that"):
        collect(of_sweep(root, "made"))


def test_studies_may_differ_in_what_does_not_change_numbers(finished: Path, tmp_path: Path) -> None:
    root = copy_of(finished, tmp_path)
    folder = folder_of(root, "sketch")
    params = YAML(typ="safe", pure=True).load(folder / "params.yaml")
    edit_params(folder, trainer=params["trainer"] | {"workers": 7}, embed=params["embed"] | {"batch": 7})
    assert len(runs_in(collect(of_sweep(root, "made")))) == 16


def test_studies_of_other_images_are_refused(finished: Path, tmp_path: Path) -> None:
    root = copy_of(finished, tmp_path)
    lock = folder_of(root, "sketch") / "dvc.lock"
    lock.write_text(lock.read_text().replace("1234", "5678"))
    with pytest.raises(DataError, match="differ in the packed images, so that"):
        collect(of_sweep(root, "made"))
    lock.unlink()
    study = collect(of_sweep(root, "made"))
    assert study.notes == ["sweep made, sketch: no lock file says which images it packed."]


@pytest.mark.parametrize(("key", "told"), [("classes", "the classes"), ("test_classes", "the test classes")])
def test_studies_of_other_classes_are_refused(finished: Path, tmp_path: Path, key: str, told: str) -> None:
    root = copy_of(finished, tmp_path)
    path = folder_of(root, "sketch") / "artifacts" / "mixtures" / "summary.json"
    summary = read_json(path)
    write_json(path, summary | {key: summary[key][:-1]})
    with pytest.raises(DataError, match=f"differ in {told} "):
        collect(of_sweep(root, "made"))


def test_a_table_that_is_missing_beside_others_is_told(finished: Path, tmp_path: Path) -> None:
    root = copy_of(finished, tmp_path)
    (folder_of(root, "sketch") / "artifacts" / "eval" / "curves.parquet").unlink()
    with pytest.raises(DataError, match=r"^sweep made, sketch: artifacts/eval/curves\.parquet is missing$") as caught:
        collect(of_sweep(root, "made"))
    assert caught.value.remake == folder_of(root, "sketch") / "artifacts" / "eval" / "curves.parquet"


def twice(finished: Path, tmp_path: Path) -> list[ResultsPlace]:
    """Return the same study from two places."""
    other = copy_of(folder_of(finished, "clipart"), tmp_path / "other")
    return [this_workspace(folder_of(finished, "clipart")), this_workspace(other)]


def test_one_run_from_two_places_counts_once(finished: Path, tmp_path: Path) -> None:
    once, both = (collect(places) for places in (twice(finished, tmp_path)[:1], twice(finished, tmp_path)))
    assert both.asked == once.asked == 8
    for name in once.tables:
        pd.testing.assert_frame_equal(both.tables[name], once.tables[name])
    assert both.notes == ["The runs of the test domain clipart come from this workspace, this workspace."]


def test_one_run_with_two_results_is_refused(finished: Path, tmp_path: Path) -> None:
    places = twice(finished, tmp_path)
    path = tmp_path / "other" / "artifacts" / "eval" / "metrics.parquet"
    metrics = read_table(path)
    metrics.loc[0, "estimate"] += 1e-6
    write_table(path, metrics)
    with pytest.raises(DataError, match=r"clip natural-only seed 0 of the test domain clipart lies in .* other"):
        collect(places)


def test_the_reference_studys_names_fall_together_with_ours(finished: Path, tmp_path: Path) -> None:
    root = copy_of(finished, tmp_path)
    folder, alias = folder_of(root, "sketch"), "lso-cipqrs-nosketchclasses"
    for path in [*folder.rglob("*.parquet")]:
        frame = read_table(path)
        for column in {"mixture", "baseline", "reference"} & set(frame.columns):
            frame[column] = frame[column].replace("cg-high", alias)
        write_table(path, frame)
    summary = read_json(folder / "artifacts" / "mixtures" / "summary.json")
    next(m for m in summary["mixtures"] if m["name"] == "cg-high")["name"] = alias
    write_json(folder / "artifacts" / "mixtures" / "summary.json", summary)
    sweep = read_json(root / ".cache" / "sweep" / "made" / "sweep.json")
    for run in sweep["runs"]:
        if (run["test_domain"], run["mixture"]) == ("sketch", "cg-high"):
            run["mixture"] = alias
    write_json(root / ".cache" / "sweep" / "made" / "sweep.json", sweep)
    plain, renamed = collect(of_sweep(finished, "made")), collect(of_sweep(root, "made"))
    assert renamed.mark == ""
    for name in plain.tables:
        pd.testing.assert_frame_equal(renamed.tables[name], plain.tables[name])
