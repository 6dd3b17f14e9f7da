"""The analysis run_cka on three models of a tiny project: which runs it compares, and what of it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from domix.analyses.contract import Shared, StudyInputs
from domix.analyses.hsic import cka
from domix.analyses.run_cka.computation import joint_key, run_jointly
from domix.analyses.run_cka.settings import Settings
from domix.data.store.index import read_index, write_index
from domix.model.checkpoint import load_tensors, save_weights
from domix.model.clip import build
from domix.runs import Run
from domix.runtime.errors import DataError
from domix.runtime.files import write_json
from domix.study import Study
from tests.tiny import CONFIG, WORDS, write_project

SITES = ["act1", "layer1.0", "attnpool"]
RUNS = tuple(Run("clip", mixture, seed) for mixture in ("cg-low", "cg-high") for seed in (0, 1))


@pytest.fixture
def inputs(tmp_path: Path) -> StudyInputs:
    """A project of 13 test images, 10 of them real and 3 sketches, and models of two mixtures with two seeds each."""
    write_project(tmp_path, count=24)
    shards = tmp_path / "artifacts/shards/emoji"
    domains = ["real"] * 21 + ["sketch"] * 3
    index = read_index(shards)
    index = index.assign(split=["train"] * 11 + ["test"] * 13, domain=domains).astype(index.dtypes)
    write_index(shards, index)
    for number, run in enumerate(RUNS):
        folder = tmp_path / "artifacts/models/clip" / run.name
        save_weights(build(CONFIG, seed=number), folder / "model.safetensors")
        write_json(folder / "config.json", {"model": CONFIG})
    names = {run.mixture: run.mixture for run in RUNS}
    study = Study("sketch", "real", (WORDS[0],), ("real", "sketch"), tuple(WORDS), RUNS, names)
    shared = Shared(confidence=0.95, near_bits=6, drop="none", batch=5)
    return StudyInputs(study, ("emoji",), tmp_path / "artifacts", tmp_path / ".cache", shared)


def test_chosen_runs_are_compared_with_the_first_on_the_same_images(
    inputs: StudyInputs, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(mixtures=["cg-high", "cg-low"], sites=SITES, images=30, batch=30)
    table = run_jointly(inputs, settings).tables["run_cka"]
    assert table["reference"].unique().tolist() == ["cg-high-s0"]
    assert table["run"].unique().tolist() == ["cg-high-s0", "cg-high-s1", "cg-low-s0", "cg-low-s1"]
    assert table.groupby("images")["n"].unique().map(list).to_dict() == {"all": [13], "real": [10]}
    assert "no CKA of sketch images: there are 3, and it needs 4" in caplog.text
    assert len(table) == 2 * 4 * 9
    itself = table[(table["run"] == "cg-high-s0") & (table["site_a"] == table["site_b"])]
    np.testing.assert_allclose(itself["value"], 1)
    images = inputs.of_run(RUNS[0]).test_images()
    means = {}
    for run in (RUNS[2], RUNS[1]):
        model = inputs.of_run(run).model
        (read,) = [torch.cat(list(model.batches("emoji", images)))]
        found = model.encoder.forward(read, SITES).sites
        pooled = {site: v.flatten(2).mean(2) if v.ndim == 4 else v for site, v in found.items()}
        means[run.name] = {site: v.half().double().numpy() for site, v in pooled.items()}
    row = table[(table["run"] == "cg-low-s1") & (table["images"] == "all")].set_index(["site_a", "site_b"])["value"]
    for a in SITES:
        for b in SITES:
            expected = cka(means["cg-high-s0"][a], means["cg-low-s1"][b])
            assert row[a, b] == pytest.approx(expected, abs=5e-3)  # of values in half precision, as stores hold them


def test_all_sites_and_runs_by_default_and_those_alone_that_the_study_has(inputs: StudyInputs) -> None:
    table = run_jointly(inputs, Settings()).tables["run_cka"]
    assert table["run"].unique().tolist() == ["cg-high-s0", "cg-high-s1"]
    encoder = inputs.of_run(RUNS[0]).model.encoder
    assert table["site_b"].unique().tolist() == [site.name for site in encoder.sites]
    every = run_jointly(inputs, Settings(mixtures=None, sites=["attnpool"])).tables["run_cka"]
    assert every["run"].unique().tolist() == ["cg-low-s0", "cg-low-s1", "cg-high-s0", "cg-high-s1"]
    none = run_jointly(inputs, Settings(mixtures=["leave-out-domain"]))
    assert none.tables["run_cka"].empty and joint_key(inputs, Settings(mixtures=["leave-out-domain"])).keys() == {
        "index"
    }


def test_other_weights_or_images_are_another_key(inputs: StudyInputs) -> None:
    before = joint_key(inputs, Settings())
    assert set(before) == {"cg-high-s0", "cg-high-s1", "index"} and all(before.values())
    save_weights(build(CONFIG, seed=9), inputs.of_run(RUNS[3]).model_folder / "model.safetensors")
    after = joint_key(inputs, Settings())
    assert [name for name in before if before[name] != after[name]] == ["cg-high-s1"]


def test_a_site_that_the_models_lack_is_named(inputs: StudyInputs) -> None:
    with pytest.raises(DataError, match=r"^the model has no site 'layer1': did you mean layer1\.0"):
        run_jointly(inputs, Settings(sites=["layer1"]))
    assert not (inputs.cache / "activations").exists()


def test_activations_that_are_not_finite_are_named(inputs: StudyInputs) -> None:
    path = inputs.of_run(RUNS[3]).model_folder / "model.safetensors"
    weights = load_tensors(path)
    name = "visual.layer1.0.conv1.weight"
    model = build(CONFIG, seed=0)
    model.load_state_dict({**weights, name: torch.full_like(weights[name], float("nan"))})
    save_weights(model, path)
    with pytest.raises(DataError, match=r"activations of site layer1\.0 are not finite") as caught:
        run_jointly(inputs, Settings(sites=SITES))
    assert "\n" not in str(caught.value)
