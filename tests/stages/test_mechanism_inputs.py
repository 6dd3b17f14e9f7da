"""What analyses of activations make of bad inputs: each is one sentence that says what is wrong, or simply less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from domix.analyses.contract import Shared, StudyInputs
from domix.analyses.registry import find
from domix.analyses.run_cka.settings import Settings as RunCka
from domix.analyses.sae.settings import Settings
from domix.analyses.sharing.settings import Settings as Sharing
from domix.data.store.index import read_index, write_index
from domix.embed.clip import embed_clip, open_subject
from domix.embed.passes import ComputeContext
from domix.model.checkpoint import load_tensors, save_weights
from domix.model.clip import build
from domix.runs import Run
from domix.runtime.errors import DataError, DomixError, ParameterError
from domix.runtime.files import write_json
from domix.study import Study
from tests.tiny import CONFIG, WORDS, write_project

SHARED = Shared(confidence=0.9, near_bits=6, drop="none", batch=16)
SMALL: dict[str, Any] = {"units": 24, "batch": 16, "passes": 3, "lr": 3e-3, "resample_every": None, "l1": 1e-3}
SETTINGS = {
    "sae": Settings(mixtures=None, **SMALL, browsed=2, top=2, bins=4),
    "sharing": Sharing(mixtures=None, **SMALL, draws=3, resamples=5, permutations=4),
    "run_cka": RunCka(mixtures=None, sites=["layer1.0", "attnpool"], images=10),
}
ABSENT = WORDS[3]  # no sketch shows it
RUN = Run("clip", "tiny", 0)


@pytest.fixture
def inputs(tmp_path: Path) -> StudyInputs:
    """72 images, every third pair for the test; one class has no test sketch."""
    write_project(tmp_path, count=72)
    shards = tmp_path / "artifacts/shards/emoji"
    index = read_index(shards)
    split = np.array(["test" if row // 24 == 2 else "train" for row in range(72)], dtype=object)
    split[(index["class"] == ABSENT) & (index["domain"] == "sketch")] = "train"
    write_index(shards, index.assign(split=split).astype(index.dtypes))
    folder = tmp_path / "artifacts/models/clip" / RUN.name
    save_weights(build(CONFIG, seed=0), folder / "model.safetensors")
    write_json(folder / "config.json", {"model": CONFIG})
    home = tmp_path / "artifacts/embeddings/clip" / RUN.name
    embed_clip(open_subject(folder), home, ComputeContext(tmp_path / ".cache", 16), templates="a {}.", study=shards)
    study = Study("sketch", "real", (WORDS[0], ABSENT), ("real", "sketch"), tuple(sorted(WORDS)), (RUN,))
    study = replace(study, standard_names={"tiny": "tiny"})
    return StudyInputs(study, ("emoji",), tmp_path / "artifacts", tmp_path / ".cache", SHARED)


def run(inputs: StudyInputs, name: str, **changes: Any) -> dict[str, Any]:
    """Run an analysis as its stage does, and return its tables."""
    settings = SETTINGS[name].model_copy(update=changes)
    if find(name).tables:
        return find(name).run(inputs.of_run(RUN), settings)
    return dict(find(name).run_jointly(inputs, settings).tables)


def weights(inputs: StudyInputs) -> Path:
    return inputs.artifacts / "models/clip" / RUN.name / "model.safetensors"


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_without_weights_is_named(inputs: StudyInputs, name: str) -> None:
    weights(inputs).unlink()
    with pytest.raises(DataError, match=r"the weights \S+/tiny-s0/model\.safetensors are missing") as caught:
        run(inputs, name)
    assert caught.value.remake is not None


@pytest.mark.parametrize("name", SETTINGS)
def test_a_site_that_does_not_exist_is_answered_with_the_nearest(inputs: StudyInputs, name: str) -> None:
    wrong: dict[str, Any] = {"sites": ["layer2.00"]} if name == "run_cka" else {"site": "layer2.00"}
    with pytest.raises(DomixError, match=r"no site 'layer2\.00': did you mean layer2\.0"):
        run(inputs, name, **wrong)


@pytest.mark.parametrize("name", ["sae", "sharing"])
def test_positions_that_are_neither_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="'pooled' or 'every'"):
        type(SETTINGS[name])(positions="all")


@pytest.mark.parametrize("name", SETTINGS)
def test_weights_that_are_nan_are_told_and_nothing_is_kept(inputs: StudyInputs, name: str) -> None:
    tensors = {key: value.clone() for key, value in load_tensors(weights(inputs)).items()}
    tensors["visual.layer1.0.conv1.weight"].fill_(torch.nan)
    model = build(CONFIG, seed=0)
    model.load_state_dict(tensors)
    save_weights(model, weights(inputs))
    with pytest.raises(DataError, match=r"the activations of site \S+ are not finite: nothing of them is kept"):
        run(inputs, name)
    assert not list(inputs.cache.glob("activations/*/*.done")) + list(inputs.cache.glob("autoencoders/*/*.json"))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_class_that_a_domain_lacks_is_left_out_of_it(inputs: StudyInputs, name: str) -> None:
    tables = run(inputs, name)
    if name == "sharing":
        assert ABSENT not in set(tables["classes"]["class"]) and len(tables["classes"])
        test = tables["pairs"].query("cells == 'test'")
        assert test["n"].tolist() == [1] and np.isfinite(test["value"]).all()
    if name == "sae":
        n = tables["domains"].set_index(["domain", "cells"])["n"]
        assert n["sketch", "all"] == n["sketch", "test"] + n["sketch", "seen"] < n["real", "all"]
        assert np.isfinite(tables["domains"]["accuracy_reconstructed"]).all()
    if name == "run_cka":
        assert np.isfinite(tables["run_cka"]["value"]).all() and len(tables["run_cka"])


@pytest.mark.parametrize("name", ["sae", "sharing"])
def test_test_classes_that_a_domain_lacks_altogether_have_no_row(inputs: StudyInputs, name: str) -> None:
    study = replace(inputs.study, test_classes=(ABSENT,))
    tables = run(replace(inputs, study=study), name)
    table = tables["domains" if name == "sae" else "pairs"]
    test = table[table["cells"] == "test"]
    if name == "sae":
        assert test["domain"].tolist() == ["real"]
    else:
        assert test["n"].tolist() == [0] and test["value"].isna().all()


def test_fewer_images_than_asked_are_all_taken(inputs: StudyInputs) -> None:
    few, many = (run(inputs, "sae", images=asked)["quality"] for asked in (500, None))
    assert few.equals(many)
    table = run(inputs, "run_cka", images=10_000)["run_cka"]
    index = read_index(inputs.artifacts / "shards/emoji")
    assert table.groupby("images")["n"].first().to_dict() == {
        "all": int((index["split"] == "test").sum()),
        **index[index["split"] == "test"]["domain"].value_counts().to_dict(),
    }


def test_fewer_images_than_a_batch_still_train(inputs: StudyInputs) -> None:
    quality = run(inputs, "sae", images=2, batch=4096, activation="batchtopk", k=3)["quality"]
    assert np.isfinite(quality["explained_variance"]).all()


def cut_short(folder: Path) -> None:
    path = folder / "attnpool" / "00000.npy"
    path.write_bytes(path.read_bytes()[:-6])


def other_key(folder: Path) -> None:
    write_json(folder / "key.json", {"weights": "of another"})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut_short, r"00000\.npy is damaged .*: delete \S+ and make it again"),
        (other_key, "holds activations of another encoder, images or sites: name another folder"),
    ],
)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_store_that_is_damaged_or_of_another_encoder_is_named(
    inputs: StudyInputs, name: str, damage: Callable[[Path], None], says: str
) -> None:
    changes = {"sites": ["attnpool"]} if name == "run_cka" else {}
    run(inputs, name, **changes)
    for folder in (inputs.cache / "activations").iterdir():
        damage(folder)
    for kept in (inputs.cache / "autoencoders").glob("*/about.json"):
        kept.unlink()
    with pytest.raises(DataError, match=says):
        run(inputs, name, **changes)


def test_units_that_all_die_say_what_to_change(inputs: StudyInputs) -> None:
    with pytest.raises(DataError, match="all 24 units of the sparse autoencoder are dead: lower l1 or lr, or give it"):
        run(inputs, "sharing", l1=1e4, lr=0.1, passes=40)


def test_more_units_a_code_than_there_are_name_the_key(inputs: StudyInputs) -> None:
    with pytest.raises(ParameterError, match="k is more than the 24 units") as caught:
        run(inputs, "sharing", k=30)
    assert caught.value.argument == "k"
