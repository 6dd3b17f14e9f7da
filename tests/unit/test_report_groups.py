"""The report on a study with classifiers: their scores beside their own accuracy, and that images are read unlike."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pandas as pd
import pytest

from domix.analyses.contract import Section
from domix.evaluate.schemas import PER_CLASS
from domix.report.load.study import Results, load_results
from domix.report.page.sections import make_sections, say_unlike
from domix.runs import list_runs
from domix.runtime.files import read_json, write_json
from domix.runtime.settings import replace
from domix.settings.load import load
from tests.fake_evaluation import SUPERVISED, write_further
from tests.fake_report import CONFIDENCE, Fake, read
from tests.fake_signatures import write_signatures

MIXTURES = ["natural-only", "cg-high", "cg-high-all"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a study of two seeds, whose classifiers read a fifth of what the CLIP models of their mixtures do."""
    fake = Fake(tmp_path, mixtures=MIXTURES, seeds=[0, 1], classes=12, test_classes=6)
    fake.write()
    write_further(fake)
    write_signatures(tmp_path, list_runs(MIXTURES, [0, 1], supervised=SUPERVISED))
    path = tmp_path / "eval/per_class.parquet"
    table = PER_CLASS.read(path)
    table.loc[table["kind"] == "supervised", "accuracy"] /= 5
    PER_CLASS.write(table, path)
    return tmp_path


def sections(folder: Path) -> tuple[dict[str, Section], pd.DataFrame, Results]:
    params = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    some = {name: params.analyses[name] for name in ("outliers", "directions", "pruning")}
    study = load_results(folder, MIXTURES, [0, 1], CONFIDENCE, supervised=SUPERVISED, analyses=some)
    return *make_sections(study, replace(params, analyses=some), read), study


def test_scores_of_classifiers_are_held_against_their_own_accuracy(folder: Path) -> None:
    scores = sections(folder)[1]
    kurtosis = scores[scores["score"] == "kurtosis at the output"].set_index(["kind", "mixture", "seed"])
    assert len(kurtosis) == 2 * len(MIXTURES) + 2 * len(SUPERVISED)
    for mixture in SUPERVISED:
        for seed in (0, 1):
            clip, own = kurtosis.loc[("clip", mixture, seed)], kurtosis.loc[("supervised", mixture, seed)]
            for name in ("accuracy", "seen"):
                assert own[name] == pytest.approx(clip[name] / 5)
    assert not scores[scores["kind"] == "supervised"]["score"].isin(["features"]).any()
    assert {"effective rank of the importances", "top importance by mean importance"} <= set(
        scores[scores["kind"] == "supervised"]["score"]
    )


def test_models_that_do_not_read_images_alike_are_told_once_a_section(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for made in sections(folder)[0].values():
        assert not any("do not read the images alike" in part.text for part in made.parts)
    assert not caplog.records
    says = (
        "CLIP models and classifiers do not read the images alike, from which differences may come (224 x 224 pixels:"
        " natural-only, cg-high, cg-high-all, supervised cg-high; 64 x 64 pixels: supervised natural-only)."
    )
    for seed in (0, 1):
        path = folder / f"models/supervised/natural-only-s{seed}/config.json"
        write_json(path, read_json(path) | {"encoder": {"timm": "x", "image_size": 64}})
    with caplog.at_level(logging.WARNING):
        told, _, study = sections(folder)
    assert [record.getMessage() for record in caplog.records] == [says]
    for made in told.values():
        assert [part.title for part in made.parts if says in part.text] == [
            "Do supervised classifiers differ from zero-shot models?"
        ]
    for found in study.models.values():
        found["config"]["model"]["vision_cfg"]["image_size"] = [64, 64]
    moved = say_unlike(study)
    assert moved.startswith("CLIP models and classifiers") and "(64 x 64 pixels: natural-only, cg-high," in moved
    without = dataclasses.replace(study, further=dataclasses.replace(study.further, classifiers={}))
    assert say_unlike(without) == ""
