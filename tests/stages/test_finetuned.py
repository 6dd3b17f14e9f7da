"""The analysis of the fine-tuned group: made once, and what its tables say is what its models do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from domix.analyses.contract import RunInputs
from domix.analyses.finetuned import computation
from domix.analyses.hsic import cka
from domix.analyses.registry import find
from domix.data.store.index import read_index, write_index
from domix.evaluate.metrics import balanced_accuracy
from domix.finetuning.interpolation import along
from domix.model.checkpoint import load_model
from domix.runtime.errors import DataError, ParameterError
from domix.signature.directions import head_importance, heavy_tail
from domix.signature.kurtosis import activation_kurtosis
from tests.embedded_run import SHARED, inputs_of, run_analysis, write_embedded_run
from tests.tiny import WORDS

GIVEN: dict[str, Any] = {"epochs": 2, "batch": 12, "lr": 3e-3, "warmup": 0.2, "alphas": [0, 0.5, 1], "draws": 2}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """144 images, half of them for the test, every class in both domains; a model and its embeddings."""
    home = tmp_path_factory.mktemp("project")
    write_embedded_run(home, labels=[row // 2 % 12 for row in range(144)], epochs=7)
    return home


@pytest.fixture
def inputs(project: Path, tmp_path: Path) -> RunInputs:
    return inputs_of(project, tmp_path / "cache")


def run(inputs: RunInputs, **settings: Any) -> dict[str, pd.DataFrame]:
    return run_analysis("finetuned", inputs, **GIVEN | settings)


def test_the_tables_say_what_the_models_do(inputs: RunInputs) -> None:
    found = run(inputs)
    assert found["signature"]["alpha"].tolist() == [0, 0.5, 1]
    assert set(found["signature"]["trained_on"]) == {36} and set(found["signature"]["n"]) == {36}
    rows, embeddings = inputs.embeddings.rows, inputs.embeddings
    label, domain = rows["label"].to_numpy(), rows["domain"].to_numpy()
    held_out = (domain == "sketch") & rows["class"].isin(WORDS[:2]).to_numpy()
    groups = {"held_out": held_out, "seen": (domain == "sketch") & ~held_out, "natural": domain == "real"}
    groups["natural_tested"] = groups["natural"] & rows["class"].isin(WORDS[:2]).to_numpy()
    (folder,) = [path for path in (inputs.cache / "fine-tuned").iterdir() if path.is_dir()]
    images = torch.cat(list(inputs.model.batches("emoji", inputs.test_images())))
    scale = float(load_model(inputs.model_folder)[0].logit_scale.detach().exp())
    curve = found["curve"].set_index(["alpha", "cells", "metric"])["estimate"]
    signature, first = found["signature"].set_index("alpha"), embeddings.image_embeddings[domain == "real"]
    for alpha, model in along(folder, [0, 0.5, 1]):
        inputs_ = inputs.model.encoder.preprocess.normalise(images)
        with torch.inference_mode():
            logits = model(inputs_)
            features = F.normalize(model.visual(inputs_), dim=-1).numpy()
        right = logits.argmax(dim=1).numpy() == label
        for name, inside in groups.items():
            assert curve[alpha, name, "balanced_top1"] == pytest.approx(balanced_accuracy(label[inside], right[inside]))
            assert curve[alpha, name, "top1"] == pytest.approx(right[inside].mean())
        natural = features[domain == "real"]
        weight = model.state_dict()["head.weight"].numpy() / scale
        row = signature.loc[alpha]
        assert row["kurtosis"] == pytest.approx(activation_kurtosis(natural).mean(), rel=1e-4)
        tail = heavy_tail(head_importance(weight, natural))
        assert (row["top"], row["effective_rank"]) == pytest.approx((tail.top, tail.effective_rank), rel=1e-4)
        assert row["cka"] == pytest.approx(cka(first, natural), abs=1e-4)
    assert signature["cka"][0] == pytest.approx(1) and signature["cka"][1] < 0.999
    whole = found["pruning"][found["pruning"]["percent"] == 0]
    for row in whole.itertuples():
        assert row.accuracy == pytest.approx(curve[row.alpha, row.cells, "balanced_top1"])
    assert set(whole.groupby("alpha").size()) == {(1 + 1 + 2) * 4}


def test_the_start_is_the_zero_shot_model(inputs: RunInputs) -> None:
    curve = run(inputs)["curve"].set_index(["alpha", "cells", "metric"])["estimate"]
    embeddings = inputs.embeddings
    right = (embeddings.image_embeddings @ embeddings.text.T).argmax(axis=1) == embeddings.rows["label"]
    natural = (embeddings.rows["domain"] == "real").to_numpy()
    assert curve[0, "natural", "top1"] == pytest.approx(right[natural].mean())


def test_models_are_fine_tuned_once_and_on_natural_training_images_alone(
    inputs: RunInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = computation.natural_training_images(inputs)
    assert set(train["domain"]) == {"real"} and set(train["split"]) == {"train"} and len(train) == 36
    before = run(inputs)
    monkeypatch.setattr(computation, "fine_tune", None)
    pd.testing.assert_frame_equal(before["curve"], run(inputs, percent=[0, 50])["curve"])
    with pytest.raises(TypeError):
        run(inputs, lr=1e-3)


def test_copies_of_held_out_images_are_left_out_where_mixtures_do(inputs: RunInputs, tmp_path: Path) -> None:
    """A natural training image with the bytes of a held-out one, under the rule that drops exact copies."""
    index = read_index(inputs.artifacts / "shards/emoji")
    held_out = index[(index["domain"] == "sketch") & index["class"].isin(WORDS[:2]) & (index["split"] == "test")]
    twin = int(index[(index["domain"] == "real") & (index["split"] == "train")]["row"].iloc[0])
    index.loc[index["row"] == twin, "sha256"] = held_out["sha256"].iloc[0]
    shutil.copytree(inputs.artifacts / "shards/emoji", tmp_path / "shards/emoji")
    write_index(tmp_path / "shards/emoji", index)
    changed = replace(inputs, artifacts=tmp_path, shared=replace(SHARED, drop="exact"))
    assert twin not in computation.natural_training_images(changed)["row"].tolist()
    assert twin in computation.natural_training_images(replace(changed, shared=SHARED))["row"].tolist()


def test_some_images_of_each_domain_may_do(inputs: RunInputs) -> None:
    assert set(run(inputs, images=30)["signature"]["n"]) == {30}


def test_what_does_not_fit_is_one_sentence(inputs: RunInputs) -> None:
    with pytest.raises(ParameterError, match=r"^batch is 256, but there are 36 images: lower it$"):
        run(inputs, batch=256)
    with pytest.raises(DataError, match=r"^there are 5 images for the head's"):
        run(inputs, images=5)
    for wrong in ([0, 0.5], [0.1, 1], [0, 1, 0.5], [0], [0, 0.5, 0.5, 1]):
        with pytest.raises(ParameterError, match="alphas must rise from 0 to 1"):
            find("finetuned").Settings.read({"alphas": wrong}, "analyses.finetuned")


def test_tables_are_finite(inputs: RunInputs) -> None:
    for table in run(inputs).values():
        assert np.isfinite(table.select_dtypes("number").to_numpy()).all()


@pytest.mark.parametrize(("label", "share"), [(0, 0.5), (3, 0.0)])
def test_the_heads_bias_counts_in_accuracy_and_pruning(
    inputs: RunInputs, monkeypatch: pytest.MonkeyPatch, label: int, share: float
) -> None:
    """A bias by which every image is of one class: one of the two test classes, or none."""

    def biased(folder: Path, alphas: list[float]) -> Any:
        for alpha, model in along(folder, alphas):
            with torch.no_grad():
                model.state_dict()["head.bias"][label] = 1e4
            yield alpha, model

    monkeypatch.setattr(computation, "along", biased)
    found = run(inputs, percent=[0, 50])
    curve = found["curve"].set_index(["alpha", "cells", "metric"])["estimate"]
    assert curve[0.5, "natural_tested", "balanced_top1"] == share
    pruned = found["pruning"][found["pruning"]["cells"] == "natural_tested"]
    assert set(pruned["accuracy"]) == {share}
