"""The measurement of a zoo runs the command, first and again; no test asserts a speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domix.runtime.errors import ParameterError
from tests.public_models import VIT
from tools import bench_zoo


@pytest.mark.slow
def test_each_model_is_measured_and_then_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_zoo, "load_config", lambda name: VIT)
    (tmp_path / "tiny.json").write_text(json.dumps(VIT))
    bench_zoo.measure(tmp_path, ["tiny.json"], images=6, classes=3, templates="a {}.")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "zoo: 6 images, 3 classes, templates a {}."
    told = [line.split("  ")[1].strip() for line in lines[1:]]
    assert told == ["tiny.json, first", "tiny.json, again"]
    assert all(line.rstrip().endswith(" GB") for line in lines[1:])
    about = json.loads((tmp_path / "out/zoo.json").read_text())
    assert about["known"] == "photos" and about["models"] == ["tiny.json"]


@pytest.mark.parametrize("classes", ["1", "33"])
def test_classes_without_images_are_refused(classes: str) -> None:
    with pytest.raises(ParameterError, match=f"^--classes must be 2 to the 32 images, not {classes}"):
        bench_zoo.parse(["--classes", classes])
