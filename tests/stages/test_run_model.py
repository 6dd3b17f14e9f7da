"""What an analysis of one run reads beside embeddings: the run's encoder, its images, its activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from domix.activations.store import open_or_make
from domix.analyses.contract import RunInputs, Shared
from domix.data.mixtures.mixture import read_mixture
from domix.data.store.index import read_index, write_index
from domix.embed import run_model
from domix.model.checkpoint import save_weights
from domix.model.clip import build
from domix.runs import Run
from domix.runtime.errors import DataError, Interrupted
from domix.runtime.files import write_json
from domix.study import Study
from tests.tiny import CONFIG, WORDS, write_project

COUNT = 24
SITES = ["layer1.0", "attnpool"]
SHARED = Shared(confidence=0.95, near_bits=6, drop="none", batch=5)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project of 24 images, the last 8 for the test, and a model of two seeds."""
    write_project(tmp_path, count=COUNT)
    shards = tmp_path / "artifacts/shards/emoji"
    index = read_index(shards)
    write_index(shards, index.assign(split=["train"] * 16 + ["test"] * 8).astype(index.dtypes))
    for seed in (0, 1):
        folder = tmp_path / f"artifacts/models/clip/tiny-s{seed}"
        save_weights(build(CONFIG, seed=seed), folder / "model.safetensors")
        write_json(folder / "config.json", {"model": CONFIG})
    return tmp_path


def inputs_of(home: Path, seed: int = 0) -> RunInputs:
    run = Run("clip", "tiny", seed)
    study = Study("sketch", "real", (WORDS[0],), ("real", "sketch"), tuple(WORDS), (run,))
    return RunInputs(study, run, ("emoji",), home / "artifacts", home / ".cache", SHARED)


def by_hand(inputs: RunInputs, site: str) -> np.ndarray:
    """The mean over positions of one site, all images in one batch, from the encoder itself."""
    (images,) = [torch.cat(list(inputs.model.batches("emoji", inputs.test_images())))]
    value = inputs.model.encoder.forward(images, [site]).sites[site].double()
    return value.flatten(2).mean(2).numpy() if value.ndim == 4 else value.numpy()


def test_activations_are_the_encoders_over_the_test_images(home: Path) -> None:
    inputs = inputs_of(home)
    store = inputs.model.activations("emoji", inputs.test_images(), SITES)
    assert (store.sites, store.count) == (tuple(SITES), 8)
    for site in SITES:
        found = np.concatenate(list(store.rows(site)))
        np.testing.assert_allclose(found, by_hand(inputs, site), atol=2e-3)


def test_activations_are_made_once_for_each_model_and_images(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    inner = run_model.encode
    monkeypatch.setattr(run_model, "encode", lambda *a, **b: passes.append(1) or inner(*a, **b))
    one, other = inputs_of(home, 0), inputs_of(home, 1)
    images = one.test_images()
    first = one.model.activations("emoji", images, SITES)
    again = inputs_of(home, 0).model.activations("emoji", images, SITES)
    assert again.folder == first.folder and len(passes) == 1
    assert other.model.activations("emoji", images, SITES).folder != first.folder
    assert one.model.activations("emoji", images.iloc[1:], SITES).count == 7
    assert len(passes) == 3


def test_a_pass_that_was_cut_short_goes_on_where_it_was(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of three images; the second pass begins with the first image whose shard is not whole."""
    inputs = inputs_of(home)
    images = inputs.test_images()
    whole = inputs.model.activations("emoji", images, SITES)
    expected = {site: np.concatenate(list(whole.rows(site))) for site in SITES}
    inner, seen = run_model.RunModel.batches, []

    def breaking(self: run_model.RunModel, source: str, rows: pd.DataFrame) -> Iterator[torch.Tensor]:
        seen.append(len(rows))
        for number, batch in enumerate(inner(self, source, rows)):
            if number == 1 and len(seen) == 1:
                raise Interrupted("stopped")
            yield batch

    monkeypatch.setattr(run_model, "open_or_make", partial(open_or_make, shard=3))
    monkeypatch.setattr(run_model.RunModel, "batches", breaking)
    later = replace(inputs_of(home), cache=home / "other")
    with pytest.raises(Interrupted):
        later.model.activations("emoji", images, SITES)
    store = later.model.activations("emoji", images, SITES)
    assert seen == [8, 5]  # of the first five images, three were kept
    for site in SITES:
        np.testing.assert_allclose(np.concatenate(list(store.rows(site))), expected[site], atol=1e-6)


def test_training_images_are_the_mixtures(home: Path) -> None:
    inputs = inputs_of(home)
    samples = read_mixture(home / "artifacts/mixtures/tiny.parquet").rows
    assert inputs.training_images()["emoji"]["row"].tolist() == sorted(samples["row"])
    (batch, *_) = inputs.model.batches("emoji", inputs.training_images()["emoji"])
    assert batch.shape == (5, 3, *inputs.model.encoder.preprocess.size)


def test_a_site_that_the_model_lacks_is_answered_with_the_nearest(home: Path) -> None:
    inputs = inputs_of(home)
    with pytest.raises(DataError, match=r"layer1.0"):
        inputs.model.activations("emoji", inputs.test_images(), ["layer1.00"])


def test_edits_and_gradients_are_the_encoders(home: Path) -> None:
    model = inputs_of(home).model
    (images, *_) = model.batches("emoji", inputs_of(home).test_images())
    plain = model.encoder.forward(images).output
    silenced = model.encoder.forward(images, edits={"layer1.0": torch.zeros_like}).output
    assert not torch.allclose(plain, silenced)
