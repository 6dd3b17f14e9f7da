"""`domix plan`: what trainings will take, told before they start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from domix.cli import plan, probe
from domix.runtime.errors import DomixError
from domix.train.cost.work import Work
from domix.train.machine import Machine
from tests.commands import domix, told
from tests.tiny import WORDS, write_project

MIXTURES = {"natural-only": 40, "cg-high": 80}


def change(root: Path, **sections: Any) -> None:
    """Change keys of params.yaml: sections by key, or top-level values."""
    yaml = YAML(typ="safe", pure=True)
    tree = yaml.load(root / "params.yaml")
    for name, value in sections.items():
        tree[name] = tree[name] | value if isinstance(value, dict) else value
    yaml.dump(tree, root / "params.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two mixtures and three seeds whose data are packed."""
    write_project(tmp_path, samples=None, epochs=3, batch=8, checkpoints=[0, 1])
    change(tmp_path, mixtures=list(MIXTURES), seeds=[0, 1, 2], test_domain="sketch", test_classes=[WORDS[0]])
    described = [{"name": name, "samples": samples} for name, samples in MIXTURES.items()]
    summary = {"test_domain": "sketch", "classes": WORDS, "mixtures": described}
    (tmp_path / "artifacts/mixtures/summary.json").write_text(json.dumps(summary))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cells(text: str, start: str) -> list[str]:
    """Return the words of the one line that starts so."""
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return line.split()


def test_runs_take_their_samples_at_the_given_rate(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    domix(None, "plan", "--rate", "2")
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    # three epochs of 40 and 80 samples, two a second; three seeds each
    assert cells(text, "  sketch      natural-only")[2:5] == ["3", "120", "15"]
    flop = float(cells(text, "  sketch      natural-only")[5]) * 1e15
    assert flop / 120 == pytest.approx(3 * 0.000686e9, rel=0.03)  # three times the forward passes in the first line
    assert "0.000671 GFLOP forward for an image, 1.46e-05 for a caption" in text
    assert cells(text, "  sketch      cg-high")[2:5] == ["3", "240", "30"]
    # 3 x 60 s and 3 x 120 s one after another
    assert cells(text, "  all")[1] == "6"
    assert cells(text, "  all")[3:6] == ["9.0", "min", "0.15"]
    assert float(cells(text, "  all")[2]) * 1e15 == pytest.approx(9 * flop, rel=0.02)
    weights = float(cells(text, "  sketch      cg-high")[-2])  # MB: the model and its two checkpoints
    assert float(cells(text, "  all")[-2]) == pytest.approx(6 * weights, rel=0.01)


def test_several_devices_take_less_time_and_as_many_hours(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(project, trainer={"devices": 2, "strategy": "ddp"})
    domix(None, "plan", "--rate", "2")
    text = capsys.readouterr().out
    assert cells(text, "  all")[3:6] == ["4.5", "min", "0.15"]
    assert "4 at once" in text


def test_the_rate_of_an_earlier_training_is_that_of_each_of_its_devices(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = project / "rates.csv"
    log.write_text("step,samples,samples_per_s,data_wait,devices\n1,8,1.0,0.5,4\n2,16,12.0,0.0,4\n3,24,12.0,0.0,4\n")
    domix(None, "plan", "--log", str(log))
    assert "3 samples/s a device" in capsys.readouterr().out


def test_the_rate_is_measured_here_otherwise(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    domix(None, "plan", "--seconds", "0.1")
    text = capsys.readouterr().out
    assert "measured here with batch 8" in text
    assert "CPU-hours" in text
    assert max(map(len, text.splitlines())) <= 100


def test_classifiers_are_planned_beside(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    supervised = {"mixtures": ["cg-high"], "samples": 160, "epochs": None, "batch": 16, "milestones": [1]}
    change(project, supervised=supervised)
    domix(None, "plan", "--rate", "2")
    text = capsys.readouterr().out
    assert "classifiers clip" in text
    assert "12 outputs" in text
    assert cells(text, "  all")[1] == "9"


def test_other_test_domains_are_worked_out_from_the_sources(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "artifacts/shards/emoji/index.parquet"
    index = pd.read_parquet(path)
    index.loc[index["row"] < 2, "split"] = "test"  # a real and a sketched one of the class that is held out
    index.to_parquet(path)
    change(project, natural_domain="sketch", mixtures=["natural-only"], test_domain="real")
    domix(None, "plan", "--rate", "2", "--test-domains", "real")
    row = cells(capsys.readouterr().out, "  real        natural-only")
    assert row[2:4] == ["3", "32"]  # of 24 images 11 are sketches for training: three epochs, in whole batches


@pytest.mark.parametrize(
    ("arguments", "changes", "says"),
    [
        (["--rate", "0"], {}, "--rate must be positive, not 0"),
        (["--rate", "1", "--test-domains", "paintin"], {}, "paintin"),
        (["--rate", "1"], {"train": {"batch": 64}}, "more than the mixture's 40 samples"),
        (["--rate", "1"], {"train": {"checkpoints": [4]}}, "asks for epoch 4"),
        (["--log", "nothing.csv"], {}, "nothing.csv cannot be read"),
        (["--log", "params.yaml"], {}, "params.yaml"),
    ],
)
def test_a_mistake_is_one_sentence(project: Path, arguments: list[str], changes: dict[str, Any], says: str) -> None:
    change(project, **changes)
    with pytest.raises(DomixError) as caught:
        domix(None, "plan", *arguments)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_told_with_the_command_that_makes_it(project: Path) -> None:
    (project / "artifacts/mixtures/summary.json").unlink()
    (project / "artifacts/shards/emoji/index.parquet").unlink()
    with pytest.raises(DomixError) as caught:
        domix(None, "plan", "--rate", "1")
    assert told(caught.value) == "artifacts/shards/emoji/index.parquet is missing: run dvc repro pack@emoji"


@pytest.mark.parametrize(("rate", "batch"), [(1e12, 256), (4.8e9, 64), (1.0, 8)])
def test_slow_machines_are_measured_with_smaller_batches(
    monkeypatch: pytest.MonkeyPatch, rate: float, batch: int
) -> None:
    monkeypatch.setattr(probe, "matmul_flops", lambda *_, **__: rate)
    machine = Machine("cpu", 1, 1, "32-true", 0)
    # A step of 64 samples of 25 MFLOP takes one second at a third of 4.8 GFLOP/s, of which four fit into four seconds.
    assert probe._affordable(256, Work(0, 25e6, 0), machine, seconds=4.0) == batch


@pytest.mark.parametrize(("seconds", "text"), [(59, "59 s"), (600, "10.0 min"), (7200, "2.0 h"), (259_200, "3.0 days")])
def test_times_are_readable(seconds: float, text: str) -> None:
    assert plan._time(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(5e5, "0.5 MB"), (2.5e9, "2.5 GB"), (3e12, "3.0 TB")])
def test_sizes_are_readable(size: float, text: str) -> None:
    assert plan._bytes(size) == text
