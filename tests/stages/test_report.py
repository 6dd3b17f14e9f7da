"""The stage report, from the other stages' files to metrics, plots and page."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from domix.analyses.registry import analyses, find
from domix.report.page.sections import asked_study
from domix.report.tables import other_models, summary
from domix.report.tables.claim import SCORES
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json, write_json, write_text
from domix.runtime.settings import replace
from domix.settings.load import load
from domix.settings.params import Params
from stages import report
from tests.dvc_plots import declared_plots
from tests.fake_report import Fake, results_of
from tests.packed_report import write_shards

ROOT = Path(__file__).resolve().parents[2]
OWN_PLOTS = {"accuracy", "curves", "differences", "effective", "loss", "per_class"}
PLOTS = sorted(OWN_PLOTS.union(*(analysis.plots for analysis in analyses().values())))


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    fake = Fake(tmp_path / "artifacts", copies=0)
    fake.write()
    write_shards(tmp_path / "artifacts/shards/emoji", fake)
    monkeypatch.chdir(tmp_path)
    loaded = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    quiet = replace(loaded.tracking, enabled=False)
    return replace(loaded, sources=["emoji"], mixtures=fake.mixtures, seeds=fake.seeds, tracking=quiet)


def test_metrics_plots_and_page_are_written(params):
    report.main(params)
    table = pd.read_csv("metrics/numbers.csv", dtype=str, keep_default_na=False)
    asked = (params.mixtures, params.seeds, params.evaluate.confidence)
    study = report.load_results(Path("artifacts"), *asked, analyses=params.analyses)
    sections = {
        name: find(name).section(results_of(study, name, settings), asked_study(study))
        for name, settings in params.analyses.items()
    }
    found = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.metrics.items()}
    numbers = summary.results(study) | other_models.results(study)
    assert any(name.startswith("leakage.") for name in found)
    assert dict(zip(table["name"], table["value"], strict=True)) == {
        name: str(value) for name, value in (numbers | found).items()
    }
    assert read_json(Path("metrics/results.json")) == summary.foremost(numbers)
    assert sorted(path.name for path in Path("metrics/plots").iterdir()) == [f"{n}.csv" for n in PLOTS]
    cards = [f"{mixture}-s0.md" for mixture in params.mixtures] + [f"mixture-{m}.md" for m in params.mixtures]
    assert sorted(path.name for path in Path("artifacts/report/cards").iterdir()) == sorted(cards)
    text = Path("artifacts/report/index.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and "data:image/png;base64," in text
    assert Path("artifacts/report/study.svg").read_text(encoding="utf-8").startswith("<svg ")
    scores = SCORES.read(Path(SCORES.path))
    assert {"CKA, early layers", "CKA, late layers"} <= set(scores["score"])
    assert set(scores["mixture"]) == set(params.mixtures)


def test_few_numbers_of_a_model_stand_side_by_side_and_the_answer_is_among_them(params):
    report.main(params)
    told = read_json(Path("metrics/results.json"))
    for mixture in params.mixtures:
        mine = {name.removeprefix(f"{mixture}.") for name in told if name.startswith(f"{mixture}.")}
        assert {f"{panel}.balanced_top1" for panel in ("held_out", "seen", "natural")} <= mine
        assert {"held_out.balanced_top1.low", "held_out.balanced_top1.high"} <= mine
        assert len(mine) <= 10
        assert ("held_out.minus_baseline" in mine) == (mixture != "natural-only")
    assert told["test_domain"] == read_json(Path("artifacts/mixtures/summary.json"))["test_domain"]


def test_all_is_the_same_when_written_again_whatever_the_run(params):
    report.main(params)
    files = [path for folder in ("metrics", "artifacts/report") for path in Path(folder).rglob("*") if path.is_file()]
    assert len(files) > len(PLOTS) + 5
    before = [file.read_bytes() for file in files]
    write_json(Path(".cache/times/train_cg-high_0.json"), {"stage": "train", "arguments": ["cg-high"], "seconds": 93.0})
    write_text(Path(".cache/rates/clip/cg-high-s0.csv"), "samples,samples_per_s,data_wait\n80,40.0,0.5\n240,80.0,0.0\n")
    report.main(params)
    assert [file.read_bytes() for file in files] == before


def test_what_tells_of_the_run_stands_on_a_copy_of_the_page(params):
    report.main(params)
    copy, page = Path(".cache/report/index.html"), Path("artifacts/report/index.html")
    assert "1 min 33 s" not in copy.read_text(encoding="utf-8")
    write_json(Path(".cache/times/train_cg-high_0.json"), {"stage": "train", "arguments": ["cg-high"], "seconds": 93.0})
    write_text(Path(".cache/rates/clip/cg-high-s0.csv"), "samples,samples_per_s,data_wait\n80,40.0,0.5\n240,80.0,0.0\n")
    report.main(params)
    copied, told = copy.read_text(encoding="utf-8"), page.read_text(encoding="utf-8")
    assert "1 min 33 s" in copied and '<th scope="row">clip/cg-high-s0</th><td data-value="60.0">60</td>' in copied
    assert '<td data-value="0.25">' in copied  # half of two seconds of four
    assert "1 min 33 s" not in told and "clip/cg-high-s0</th>" not in told and ".cache/report/" in told
    assert copied.replace(
        copied[copied.index("Provenance</h2>") : copied.index("<summary>Parameters")], ""
    ) == told.replace(told[told.index("Provenance</h2>") : told.index("<summary>Parameters")], "")


def test_the_plots_files_and_fields_are_those_that_dvc_is_told_of(params):
    """dvc.yaml, and that of an analysis, name each plot's file, template and fields; all of them exist."""
    report.main(params)
    told = declared_plots(ROOT)
    assert set(told) <= {f"metrics/plots/{name}.csv" for name in PLOTS} and len(told) > 6
    for path, properties in told.items():
        with open(path, newline="", encoding="utf-8") as file:
            header = next(csv.reader(file))
        template = json.loads((ROOT / ".dvc/plots" / f"{properties['template']}.json").read_text(encoding="utf-8"))
        assert {properties["x"], properties["y"]} <= set(header)
        assert fields(template) - {"rev"} <= set(header)


def fields(tree: object) -> set[str]:
    """Return the data fields that a Vega-Lite template names, without those that DVC fills in."""
    if isinstance(tree, list):
        return set().union(*map(fields, tree))
    if not isinstance(tree, dict):
        return set()
    own = {tree["field"]} if isinstance(tree.get("field"), str) and not tree["field"].startswith("<DVC") else set()
    return own.union(*map(fields, tree.values()))


def test_a_damaged_input_leaves_the_earlier_report_whole(params):
    report.main(params)
    before = {path: path.read_bytes() for path in Path("artifacts/report").rglob("*") if path.is_file()}
    Path("artifacts/eval/metrics.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"metrics\.parquet is not a readable parquet file"):
        report.main(params)
    assert {path: path.read_bytes() for path in Path("artifacts/report").rglob("*") if path.is_file()} == before


def test_the_stage_needs_no_torch():
    code = "import stages.report, sys; sys.exit(any(m in sys.modules for m in ('torch', 'open_clip', 'lightning')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_an_unfinished_study_is_written_into_a_folder_of_its_own(params, tmp_path):
    (tmp_path / "artifacts/models/clip/cg-low-s0/done.json").unlink()
    with pytest.raises(DataError, match=r"cg-low-s0/done\.json is missing"):
        report.main(params)
    report.main(params, "so-far")
    text = Path("so-far/index.html").read_text(encoding="utf-8")
    assert "This study is not finished" in text and "<li>the evaluation of cg-low seed 0</li>" in text
    assert not Path("metrics").exists() and not Path("artifacts/report").exists()
    with pytest.raises(ParameterError, match="so-far exists: name a new folder"):
        report.main(params, "so-far")
