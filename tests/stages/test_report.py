"""The stage report, from the other stages' files to metrics, plots and page."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from domix import config
from domix.config import Params
from domix.data.index import make_index, shard_name, write_index
from domix.data.shards import ShardWriter, make_block
from domix.report import beside, leakage, tables
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json, write_json
from stages import report
from tests.fake_report import Fake, picture

ROOT = Path(__file__).resolve().parents[2]
PLOTS = ["accuracy", "cka", "curves", "differences", "distances", "effective", "loss", "per_class", "umap"]


def write_shards(folder: Path, fake: Fake) -> None:
    """Pack a picture for every row of the fake's index."""
    folder.mkdir(parents=True)
    common = {"source": "emoji", "split": "test", "width": 64, "height": 64, "sha256": "0" * 64, "phash": "0" * 16}
    rows = []
    with ShardWriter(folder / shard_name(0)) as writer:
        for row, domain, name in zip(fake.rows["row"], fake.rows["domain"], fake.rows["class"], strict=True):
            key = f"{domain}/{name}/{row:06d}"
            place = writer.add(make_block(key, "png", picture(row), {}))
            label = fake.classes.index(name)
            rows.append(common | place._asdict() | {"key": key, "domain": domain, "class": name, "label": label})
    write_index(folder, make_index(rows))
    write_json(folder / "stats.json", {"source": "emoji", "read": len(rows), "packed": len(rows), "rejected": {}})


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    fake = Fake(tmp_path / "artifacts", copies=0)
    fake.write()
    write_shards(tmp_path / "artifacts/shards/emoji", fake)
    monkeypatch.chdir(tmp_path)
    loaded = config.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    quiet = replace(loaded.tracking, enabled=False)
    return replace(loaded, sources=["emoji"], mixtures=fake.mixtures, seeds=fake.seeds, tracking=quiet)


def test_metrics_plots_and_page_are_written(params):
    report.main(params)
    numbers = read_json(Path("metrics/results.json"))
    study = report.load_results(Path("artifacts"), params.mixtures, params.seeds, params.evaluate.confidence)
    assert numbers == tables.results(study) | beside.results(study) | leakage.results(study)
    assert sorted(path.name for path in Path("artifacts/report/plots").iterdir()) == [f"{n}.csv" for n in PLOTS]
    cards = [f"{mixture}-s0.md" for mixture in params.mixtures] + [f"mixture-{m}.md" for m in params.mixtures]
    assert sorted(path.name for path in Path("artifacts/report/cards").iterdir()) == sorted(cards)
    text = Path("artifacts/report/index.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and "data:image/png;base64," in text
    assert Path("artifacts/report/study.svg").read_text(encoding="utf-8").startswith("<svg ")


def test_numbers_and_plots_are_the_same_when_written_again(params):
    report.main(params)
    files = [Path("metrics/results.json"), *sorted(Path("artifacts/report/plots").iterdir())]
    before = [file.read_bytes() for file in files]
    report.main(params)
    assert [file.read_bytes() for file in files] == before


def test_the_plots_files_and_fields_are_those_that_dvc_is_told_of(params):
    """dvc.yaml names each plot's file, template and fields; all of them exist."""
    report.main(params)
    entries = config.YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    told = {path: properties for entry in entries for path, properties in entry.items()}
    assert set(told) <= {f"artifacts/report/plots/{name}.csv" for name in PLOTS} and len(told) > 6
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
