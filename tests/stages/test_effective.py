"""Effective robustness through the stage evaluate, and the command that measures models of a table."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domix.embed.embeddings import load_embeddings
from domix.evaluate.effective import TRANSFORMS, study_rows
from domix.evaluate.schemas import EFFECTIVE
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json, write_json
from domix.runtime.settings import replace
from domix.runtime.tables import read_table
from domix.settings.load import load
from domix.settings.params import Params
from stages import evaluate
from tests.commands import domix
from tests.fakes import make_index, write_embeddings
from tests.scored_sets import PLAN

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [f"thing_{k}" for k in range(10)]
TESTED = CLASSES[:5]
INDEX = make_index({d: [1] * 10 for d in ("real", "sketch")}, 40, classes=CLASSES)
NAMES = {"only-natural": "natural-only", "cg-high": "cg-high"}  # as the study calls them, and their standard names


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    monkeypatch.chdir(tmp_path)
    summary = {
        "test_domain": "sketch",
        "natural_domain": "real",
        "domains": ["real", "sketch"],
        "classes": CLASSES,
        "test_classes": TESTED,
        "mixtures": [{"name": name, "standard_name": standard} for name, standard in NAMES.items()],
    }
    write_json(Path("artifacts/mixtures/summary.json"), summary)
    for name in NAMES:
        run = Path("artifacts/embeddings/clip") / f"{name}-s0"
        for epoch in range(1, 5):
            write_model(Path("other"), epoch, lift=0.3 * (name == "cg-high"))
            folder = run / "checkpoints" / f"{epoch:03d}"
            folder.mkdir(parents=True)
            np.save(folder / "image.npy", load_embeddings(Path("other")).image_embeddings.astype(np.float16))
            np.save(folder / "text.npy", load_embeddings(Path("other")).text)
        kept = (run / "checkpoints").rename("kept")
        write_model(run, 5, lift=0.3 * (name == "cg-high"))
        kept.rename(run / "checkpoints")
        write_json(run / "meta.json", read_json(run / "meta.json") | {"epochs": 5})
    loaded = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return replace(loaded, mixtures=list(NAMES), seeds=[0], evaluate=replace(loaded.evaluate, bootstrap=100))


def write_model(folder: Path, epoch: int, lift: float) -> None:
    """Write a model that reads a tenth of natural images more each epoch, and half that of sketches, and `lift`."""
    shutil.rmtree(folder, ignore_errors=True)
    write_embeddings(
        folder, INDEX, right=lambda domain, _: 0.1 * epoch if domain == "real" else 0.05 * epoch + lift, seed=epoch
    )


def test_the_stage_writes_what_lies_above_the_curve_of_natural_images(params) -> None:
    evaluate.main(params)
    made = read_table(Path("artifacts/eval/effective.parquet"))
    assert list(made.columns) == EFFECTIVE.names
    assert len(made) == 2 * 5 * len(TRANSFORMS) and set(made["reference"]) == {"only-natural"}
    residual = made.groupby("mixture")["residual"]
    assert residual.max()["only-natural"] < 0.15 < residual.min()["cg-high"]
    assert (made["checkpoint"].drop_duplicates() == [1, 2, 3, 4, 5]).all()
    curves = read_table(Path("artifacts/eval/curves.parquet"))
    plan = dataclasses.replace(PLAN, confidence=params.evaluate.confidence, seed=params.evaluate.seed)
    pd.testing.assert_frame_equal(made, study_rows(curves, plan, reference="only-natural"), check_dtype=False)


def test_without_checkpoints_the_table_is_empty(params, caplog) -> None:
    for run in Path("artifacts/embeddings/clip").iterdir():
        shutil.rmtree(run / "checkpoints")
    with caplog.at_level(logging.INFO):
        evaluate.main(params)
    made = read_table(Path("artifacts/eval/effective.parquet"))
    assert list(made.columns) == EFFECTIVE.names and made.empty
    assert any("a curve needs 3" in message for message in caplog.messages)


def test_the_command_prints_a_table_or_writes_files(params, capsys) -> None:
    Path("mine.csv").write_text("model,imagenet,imagenet-v2,imagenet-r\nmine,75.54,69.83,87.84\n", encoding="utf-8")
    domix(params, "effective", "mine.csv")
    assert capsys.readouterr().out.splitlines() == [
        "| model | imagenet-v2 | imagenet-r |",
        "|---|---:|---:|",
        "| mine | +6.6 | +51.8 |",
    ]
    domix(params, "effective", "mine.csv", "--out", "made")
    assert Path("made/effective.md").read_text(encoding="utf-8").endswith("| mine | +6.6 | +51.8 |\n")
    table = pd.read_csv("made/effective.csv")
    assert table["shift"].tolist() == ["imagenet-v2", "imagenet-r"] and table["effective"][0] == pytest.approx(
        6.6, abs=0.1
    )


def test_what_the_command_cannot_do_is_one_sentence(params) -> None:
    Path("mine.csv").write_text("model,imagenet\nmine,75.54\n", encoding="utf-8")
    with pytest.raises(ParameterError, match="--transform probit needs --baselines"):
        domix(params, "effective", "mine.csv", "--transform", "probit")
    with pytest.raises(DataError, match="no model with an accuracy on ImageNet and under one of imagenet-v2"):
        domix(params, "effective", "mine.csv")
    with pytest.raises(DataError, match="0 of the 85 baseline models"):
        domix(params, "effective", "mine.csv", "--baselines", "mine.csv")
