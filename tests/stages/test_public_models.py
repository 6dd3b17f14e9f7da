"""Models of others in the pipeline: embedded as the study's are, by a stage or by a command alone, or refused."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from domix.data.store.index import read_index, write_index
from domix.embed.embeddings import load_embeddings
from domix.embed.settings import PublicModel
from domix.model.checkpoint import save_weights
from domix.project.common import load_params
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import sha256_file, write_json
from domix.runtime.settings import replace
from domix.settings.params import Params
from stages import embed, embed_public
from tests.commands import domix
from tests.public_models import INCEPTION, VIT, tiny_clip, weights_of, write_open_clip_folder
from tests.tiny import REPOSITORY, WORDS, write_project

SHARDS = Path("artifacts/shards/emoji")
TRAINED = Path("artifacts/models/clip/tiny-s0")
OUT = Path("artifacts/embeddings/public")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project of 48 test images, and one model in four places."""
    write_project(tmp_path, count=48, config=VIT)
    monkeypatch.chdir(tmp_path)
    index = read_index(SHARDS)
    write_index(SHARDS, index.assign(split="test").astype(index.dtypes))
    TRAINED.mkdir(parents=True)
    save_weights(tiny_clip(), TRAINED / "model.safetensors")
    write_json(TRAINED / "config.json", {"model": VIT})
    torch.save({"state_dict": weights_of(tiny_clip())}, "theirs.pt")
    write_open_clip_folder(Path("folder"), tiny_clip())
    write_open_clip_folder(Path("brighter"), tiny_clip(), mean=INCEPTION)
    models = {
        "trained": PublicModel(architecture=None, weights=str(TRAINED)),
        "file": PublicModel(architecture="model.json", weights="theirs.pt"),
        "folder": PublicModel(architecture=None, weights="folder"),
        "brighter": PublicModel(architecture=None, weights="brighter"),
    }
    classes = [WORDS[0], WORDS[3]]
    made = replace(load_params(), models=models, test_domain="sketch", natural_domain="real", test_classes=classes)
    return replace(made, evaluate=replace(made.evaluate, bootstrap=100))


def test_a_model_of_others_is_embedded_as_a_trained_one(params: Params) -> None:
    embed.main(params, "tiny", "0")
    for name in ("trained", "file", "folder"):
        embed_public.main(params, name)
        for file in ("image.npy", "text.npy", "rows.parquet", "layers.safetensors"):
            mine, theirs = Path("artifacts/embeddings/clip/tiny-s0") / file, OUT / name / file
            assert mine.read_bytes() == theirs.read_bytes(), (name, file)
    assert load_embeddings(OUT / "file").meta["model_sha256"] == sha256_file(Path("theirs.pt"))


def test_the_models_own_mean_is_used_and_told(params: Params) -> None:
    for name in ("folder", "brighter"):
        embed_public.main(params, name)
    plain, brighter = load_embeddings(OUT / "folder"), load_embeddings(OUT / "brighter")
    assert plain.meta["transform"].endswith("CLIP's mean and deviation")
    assert f"mean {INCEPTION}" in brighter.meta["transform"]
    assert not np.allclose(plain.image_embeddings, brighter.image_embeddings)
    np.testing.assert_array_equal(plain.text, brighter.text)


def test_what_was_embedded_is_kept(params: Params, caplog: pytest.LogCaptureFixture) -> None:
    embed_public.main(params, "folder")
    with caplog.at_level(logging.INFO):
        embed_public.main(params, "folder")
    assert "0 of 2 results are to be made" in caplog.text


def test_templates_are_those_of_the_parameters(params: Params) -> None:
    own = replace(params, embed=replace(params.embed, templates=["a {}", "the {}"]))
    embed_public.main(own, "folder")
    meta = load_embeddings(OUT / "folder").meta
    assert (meta["templates"], meta["prompts_a_class"]) == (["a {}", "the {}"], 2)


def test_a_file_is_found_from_a_copy_of_the_repository(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc exp run --temp` and sweeps run in copies, which lack what Git does not track."""
    copy = Path(".dvc/tmp/exps/standalone/x").resolve()
    shutil.copytree("artifacts/shards", copy / "artifacts/shards")
    monkeypatch.chdir(copy)
    embed_public.main(params, "file")
    assert (copy / OUT / "file/image.npy").is_file()


class Malicious:
    """An object whose unpickling makes a folder."""

    def __reduce__(self) -> Any:
        return (os.mkdir, ("trace",))


def changed(params: Params, **fields: Any) -> Params:
    return replace(params, models={"x": replace(params.models["file"], **fields)})


def test_faults_name_the_model_and_write_nothing(params: Params) -> None:
    torch.save({"state_dict": Malicious()}, "evil.pt")
    for fields, kind, message in (
        ({"weights": "evil.pt"}, DataError, r"^models\.x: evil\.pt holds objects whose code would have to be run"),
        ({"weights": "absent.pt"}, ParameterError, r"^models\.x: there is no file or folder absent\.pt"),
        ({"architecture": "mini"}, DataError, r"^models\.x: the weights theirs\.pt are another model's"),
        ({"architecture": "min"}, ParameterError, r"^models\.x: the architecture: there is no model 'min'; did you"),
    ):
        with pytest.raises(kind, match=message):
            embed_public.main(changed(params, **fields), "x")
    with pytest.raises(ParameterError, match="models has no 'y', but trained, file, folder, brighter"):
        embed_public.main(params, "y")
    assert not Path("trace").exists()
    assert not OUT.exists()


def printed(params: Params, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    capsys.readouterr()
    domix(params, "evaluate-model", *arguments)
    return capsys.readouterr().out.splitlines()


def test_the_command_prints_one_row_a_group_of_images(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(params, capsys, "theirs.pt", "--architecture", "model.json")
    assert lines[0].split()[:5] == ["domain", "cells", "n", "n_classes", "balanced_top1"]
    groups = [line.split()[:4] for line in lines[1:]]
    assert groups == [
        ["real", "tested", "4", "2"],
        ["real", "seen", "20", "10"],
        ["real", "all", "24", "12"],
        ["sketch", "held_out", "4", "2"],
        ["sketch", "seen", "20", "10"],
        ["sketch", "all", "24", "12"],
    ]
    for other in (["folder"], [str(TRAINED)], ["file"]):
        assert printed(params, capsys, *other) == lines
    assert not OUT.exists()


def test_the_commands_numbers_are_the_embeddings(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(params, capsys, "brighter")
    embed_public.main(params, "brighter")
    e = load_embeddings(OUT / "brighter")
    right = (e.image_embeddings @ e.text.T).argmax(axis=1) == e.rows["label"].to_numpy()
    for line in lines[1:]:
        domain, cells, *_ = line.split()
        if cells == "all":
            assert line.split()[4] == f"{100 * right[(e.rows['domain'] == domain).to_numpy()].mean():.1f}"
    assert 0 < right.sum() < len(right)


def test_the_command_knows_other_sources(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(SHARDS, SHARDS.parent / "other")
    both = replace(params, sources=["emoji", "other"])
    lines = printed(both, capsys, "folder", "--source", "other")
    assert lines[0].split()[:5] == ["set", "labels", "n", "n_classes", "top1"]
    assert [line.split()[:4] for line in lines[1:]] == [["other", "all", "48", "12"]]


def test_the_command_takes_an_architecture_once(params: Params) -> None:
    with pytest.raises(ParameterError, match=r"models\.file is described in params\.yaml: leave --arch"):
        domix(params, "evaluate-model", "file", "--architecture", "mini")


def test_dvc_makes_a_stage_of_each_model(tmp_path: Path) -> None:
    """A mapping is what `foreach` takes, an empty one too; a matrix would not."""
    shutil.copy(REPOSITORY / "dvc.yaml", tmp_path)
    yaml = YAML(typ="safe", pure=True)
    tree = yaml.load(REPOSITORY / "params.yaml")

    def dvc(*arguments: str) -> list[str]:
        environment = os.environ | {"DVC_NO_ANALYTICS": "true"}
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
        return done.stdout.split()

    dvc("init", "--no-scm", "-q")
    found = {}
    for names in ((), ("a", "ViT-B_32")):
        tree["models"] = {name: {"architecture": None, "weights": "x"} for name in names}
        yaml.dump(tree, tmp_path / "params.yaml")
        found[names] = set(dvc("stage", "list", "--name-only"))
    without, with_two = found.values()
    assert "evaluate" in without
    assert with_two - without == {"embed_public@a", "embed_public@ViT-B_32"}
