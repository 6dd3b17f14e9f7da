"""What `domix ood` says of sets, models and hyper-parameters that cannot be, one sentence each."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from domix.analyses.ood.settings import Settings
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from domix.runtime.settings import replace
from domix.settings.params import Params
from tests.commands import domix
from tests.ood_project import MODEL, printed, write_folder, write_ood_project
from tests.public_models import VIT, tiny_clip, weights_of
from tests.tiny import WORDS

SETS = ("--id", "emoji", "--ood", "odd:far")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The project of `domix ood`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_ood_project(tmp_path)


def with_scores(params: Params, **scores: dict) -> Params:
    settings = Settings(scores=scores, shown=next(iter(scores)))
    return replace(params, analyses={**params.analyses, "ood": settings})


def changed_model(change) -> str:
    """Write the project's model with its visual weights changed, and return its folder."""
    home = Path("artifacts/models/clip/changed-s0")
    home.mkdir(parents=True)
    model = tiny_clip()
    with torch.no_grad():
        for tensor in model.visual.parameters():
            change(tensor)
    save_file(weights_of(model), home / "model.safetensors")
    write_json(home / "config.json", {"model": VIT})
    return str(home)


def test_classes_of_the_known_set_are_named(params: Params, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(Path("pets"), {WORDS[0].upper(): 2, "lamp": 2}, first=4)
    with caplog.at_level(logging.WARNING):
        domix(params, "ood", MODEL, "--id", "emoji", "--ood", "pets:near", "--score", "mcm")
    said = [record.getMessage() for record in caplog.records if "pets" in record.getMessage()]
    assert any(WORDS[0].upper() in line and "lamp" not in line for line in said), said


def test_a_set_of_one_image_is_measured(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("lone"), {"": 1}, first=6)
    table = printed(params, capsys, "--id", "emoji", "--ood", "lone:far", "--score", "mcm")[1]
    assert table["images"].tolist() == ["1"]


def test_a_model_whose_features_are_not_numbers_is_told(params: Params) -> None:
    model = changed_model(lambda tensor: tensor.fill_(float("nan")))
    with pytest.raises(DataError) as caught:
        domix(params, "ood", model, *SETS, "--score", "mcm")
    assert "finite" in str(caught.value) and "\n" not in str(caught.value)


def test_features_that_are_all_alike_have_no_covariance(params: Params) -> None:
    model = changed_model(lambda tensor: tensor.zero_())
    with pytest.raises(DataError) as caught:
        domix(params, "ood", model, *SETS, "--score", "mahalanobis", "--features", "tower")
    assert "\n" not in str(caught.value) and "covariance" in str(caught.value)


def test_more_neighbours_than_there_are_is_told(params: Params) -> None:
    with pytest.raises(DataError) as caught:
        domix(with_scores(params, knn={"k": 48}), "ood", MODEL, *SETS, "--score", "knn")
    assert str(caught.value).startswith("the score knn: ") and "48" in str(caught.value)


def test_lists_of_values_need_a_set_that_chooses(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(scores={"knn": {"k": [2, 4]}}, shown="knn", validation="signs")
    asked = replace(params, analyses={**params.analyses, "ood": settings})
    with pytest.raises(ParameterError, match=r"^knn has several values to choose from in analyses\.ood"):
        domix(asked, "ood", MODEL, *SETS)
    write_folder(Path("strange"), {"": 5}, first=7)
    said = printed(asked, capsys, *SETS, "--validate", "strange")[0]
    assert "strange: knn (k 2)" in said or "strange: knn (k 4)" in said
