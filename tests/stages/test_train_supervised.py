"""The stage train_supervised: what it reads, writes and refuses."""

from __future__ import annotations

import csv
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from domix.data.classes.imagenet import imagenet_classes
from domix.data.mixtures.mixture import read_mixture, write_mixture
from domix.data.store.index import read_index, write_index
from domix.model.classifier import load_classifier
from domix.project import training
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json
from domix.settings.load import load
from domix.settings.params import Params
from domix.train.settings import DECIDING, Supervised
from stages import train_supervised
from tests.tiny import REPOSITORY, WORDS, write_project
from tests.tiny_supervised import RECIPE

MODEL = Path("artifacts/models/supervised/tiny-s0")
SHARDS = Path("artifacts/shards")
TEXTS = [known.text for known in imagenet_classes().values()]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a project and make it the working directory."""
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def params_of(**changes: Any) -> Params:
    """Return the project's parameters; `changes` are keys of `supervised`, or of `validation` as validation__key."""
    tree = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    tree["supervised"] = RECIPE.model_dump() | {"samples": 8 * 6, "encoder": "clip"}
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        tree[section or "supervised"][key] = value
    YAML(typ="safe", pure=True).dump(tree, Path("params.yaml"))
    return load(Path("params.yaml").read_text(encoding="utf-8"))


def add_corpus(name: str, classes: dict[int, str | None]) -> None:
    """Add a corpus to the mixture: the images again, of the classes that are given by label, in turn."""
    shutil.copytree(SHARDS / "emoji", SHARDS / name)
    index = read_index(SHARDS / name)
    labels = [list(classes)[row % len(classes)] for row in range(len(index))]
    index = index.assign(source=name, domain=name, label=labels, **{"class": [classes[label] for label in labels]})
    write_index(SHARDS / name, index)
    path = Path("artifacts/mixtures/tiny.parquet")
    mixture = read_mixture(path)
    rows = pd.DataFrame({"source": name, "row": index["row"], "caption": "standard"})
    mixture.rows["source"] = mixture.rows["source"].astype(str)
    mixture.rows["caption"] = mixture.rows["caption"].astype(str)
    joined = pd.concat([mixture.rows[["source", "row", "caption"]], rows], ignore_index=True)
    fields_of = {f.name: getattr(mixture, f.name) for f in fields(mixture)}
    counts = mixture.samples | {name: len(rows)}
    indices = {source: read_index(SHARDS / source) for source in counts}
    write_mixture(path, type(mixture)(**fields_of | {"rows": joined, "samples": counts}), indices)


def test_the_stage_trains_a_classifier_without_captions(project: Path) -> None:
    shutil.rmtree("artifacts/captions")
    train_supervised.main(params_of(checkpoints=[0, 1]), "tiny", "0")
    config, done = read_json(MODEL / "config.json"), read_json(MODEL / "done.json")
    assert config["classes"] == WORDS
    assert (config["name"], config["seed"], config["first_class"]) == ("clip", 0, 0)
    assert (config["mixture"]["name"], config["mixture"]["samples"]) == ("tiny", 23)
    assert done["steps"] == 6
    assert (MODEL / "checkpoints/epoch_001.safetensors").is_file()
    with open(MODEL / "log.csv", newline="") as file:
        log = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in log]
    assert (MODEL / "first_batch.png").is_file()
    assert not list(Path(".cache/resume").glob("*/*"))
    assert load_classifier(MODEL)[1] == config


def test_imagenets_classes_are_outputs_of_their_own(project: Path) -> None:
    """ImageNet's class 948 is DomainNet's apple, 294 its bear; 0 is none of the data's."""
    add_corpus("corpus", {0: TEXTS[0], 294: TEXTS[294], 948: TEXTS[948]})
    train_supervised.main(params_of(), "tiny", "0")
    config = read_json(MODEL / "config.json")
    assert (len(config["classes"]), config["first_class"]) == (1012, 1000)
    assert config["classes"][1000:] == WORDS
    assert (config["classes"][0], config["classes"][294], config["classes"][948]) == (TEXTS[0], None, None)


def test_curves_are_measured_on_the_way(project: Path) -> None:
    index = read_index(SHARDS / "emoji")
    index.loc[20:, "split"] = "test"
    write_index(SHARDS / "emoji", index)
    train_supervised.main(params_of(validation__every=2, validation__images=4), "tiny", "0")
    with open(MODEL / "validation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert set(rows[0]) >= {"step", "n_seen", "seen_loss", "seen_top1", "seen_balanced_top1"}


def test_the_list_of_mixtures_does_not_make_it_another_training(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    monkeypatch.setattr(training, "fit", lambda job, **named: folders.append(named["resume"]))
    for changes in ({"mixtures": []}, {"mixtures": ["cg-high"]}, {"lr": 0.2}):
        train_supervised.main(params_of(**changes), "tiny", "0")
    assert folders[0] == folders[1] != folders[2]


def test_other_labels_make_it_another_training(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    monkeypatch.setattr(training, "fit", lambda job, **named: folders.append(named["resume"]))
    for exchanged in ({}, {1: 2, 2: 1}):
        index = read_index(SHARDS / "emoji")
        label = index["label"].replace(exchanged)
        write_index(SHARDS / "emoji", index.assign(label=label, **{"class": [WORDS[number] for number in label]}))
        train_supervised.main(params_of(), "tiny", "0")
    assert folders[0] != folders[1]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"encoder": "resnet5"}, r"supervised\.encoder: there is no encoder 'resnet5'; did you mean resnet50"),
        ({"batch": 32, "samples": 320}, r"supervised\.batch is 32, more than the mixture's 23 samples: lower it"),
        ({"checkpoints": [9]}, r"supervised\.checkpoints asks for epoch 9, but training ends after"),
        ({"samples": 7}, r"supervised asks for 7 samples in all, less than one batch of 8"),
    ],
)
def test_bad_parameters_are_told_in_a_sentence(project: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        train_supervised.main(params_of(**changes), "tiny", "0")
    assert not Path("artifacts/models").exists()


def test_an_unknown_mixture_is_told(project: Path) -> None:
    with pytest.raises(ParameterError, match="there is no mixture 'tinny': did you mean 'tiny'"):
        train_supervised.main(params_of(), "tinny", "0")


def test_a_mixture_with_samples_without_a_class_is_refused(project: Path) -> None:
    add_corpus("cc3m", {-1: None})
    says = r"^supervised\.mixtures: mixture 'tiny' holds 24 samples of source 'cc3m' that have no class, .*"
    says += "leave the mixture out$"
    with pytest.raises(DataError, match=says):
        train_supervised.main(params_of(), "tiny", "0")
    assert not Path("artifacts/models").exists()


def test_dvc_goes_by_what_decides_the_result() -> None:
    stage = YAML(typ="safe", pure=True).load(REPOSITORY / "dvc.yaml")["stages"]["train_supervised"]
    named: dict[str, set[str]] = {}
    for name in stage["params"]:
        section, _, key = name.partition(".")
        named.setdefault(section, set()).add(key)
    assert named == {
        "model": {""},
        "supervised": set(Supervised.model_fields) - {"mixtures"},
        "trainer": set(DECIDING),
        "validation": {"every", "images"},
    }
    assert "artifacts/captions" not in stage["deps"]
    assert stage["matrix"]["mixture"] == "${supervised.mixtures}"
