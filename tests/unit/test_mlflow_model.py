"""A published model in MLflow: loads without Domix's help or a pickle, and says what our own encoder says."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.models import Model
from torch.nn import functional as F

from domix.encoders import mlflow_model
from domix.model import clip
from domix.model.checkpoint import CONFIG, WEIGHTS, load_model, save_weights
from domix.runtime.files import sha256_file, write_json
from domix.runtime.tracking import mlflow_store
from domix.runtime.tracking.registry import Registry
from tests import tiny
from tests.preprocessed import preprocessed

MIXTURE = {"name": "cg-low", "digest": "12ab"}


def publish(folder: Path, *, seed: int = 0) -> Path:
    """Write a model folder of an untrained model, with a checkpoint that is not to be copied."""
    model = clip.build(tiny.CONFIG, seed=seed)
    folder.mkdir()
    save_weights(model, folder / WEIGHTS)
    save_weights(model, folder / "checkpoints" / "epoch_001.safetensors")
    write_json(folder / CONFIG, {"name": "tiny", "model": tiny.CONFIG, "seed": seed, "mixture": MIXTURE})
    write_json(folder / "done.json", {"weights_sha256": sha256_file(folder / WEIGHTS)})
    return folder


class Store:
    """A store in which two runs have kept a model each."""

    def __init__(self, root: Path) -> None:
        self.root, self.models = root, []
        for seed in (0, 1):
            folder = publish(root / f"cg-low-s{seed}", seed=seed)
            self.tracker(folder.name).model(folder)
            self.last.finish(succeeded=True)
            self.models.append(folder)
        self.client = MlflowClient(tracking_uri=f"sqlite:///{root / mlflow_store.DATABASE}")

    def tracker(self, name: str) -> Any:
        self.last = mlflow_store.open_tracker(
            enabled=True,
            uri=None,
            root=self.root,
            experiment="domix",
            run_name=name,
            tags={},
            registry=Registry("domix", mlflow_model.save),
        )
        return self.last

    def folder(self, version: str) -> Path:
        return Path(self.client.get_model_version("domix", version).source.removeprefix("file://"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("store")
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / mlflow_store.DATABASE}")  # where models are looked up
        yield Store(root)


def test_models_are_versions_under_one_name_with_tags_and_belong_to_their_runs(store: Store) -> None:
    versions = sorted(store.client.search_model_versions("name='domix'"), key=lambda one: int(one.version))
    assert len(versions) == 2
    for seed, (version, folder) in enumerate(zip(versions, store.models, strict=True)):
        run = store.client.get_run(version.run_id)
        (output,) = run.outputs.model_outputs
        kept = store.client.get_logged_model(output.model_id)
        assert run.info.run_name == kept.name == folder.name == f"cg-low-s{seed}"
        assert kept.status == "READY"
        wanted = {
            "mixture": "cg-low",
            "mixture_digest": "12ab",
            "seed": str(seed),
            "run": folder.name,
            "weights_sha256": sha256_file(folder / WEIGHTS),
        }
        assert version.tags == wanted
        assert wanted.items() <= kept.tags.items()
        assert json.loads(kept.tags["mlflow.modelVersions"]) == [{"name": "domix", "version": version.version}]


def test_nothing_of_it_is_a_pickle_and_checkpoints_stay_behind(store: Store) -> None:
    files = [path for path in store.folder("1").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pyc")]
    assert sorted(path.name for path in files if path.suffix == ".safetensors") == [WEIGHTS]
    assert (store.folder("1") / "artifacts" / "model" / WEIGHTS).read_bytes() == (
        store.models[0] / WEIGHTS
    ).read_bytes()


def test_the_signature_and_the_requirements_are_explicit(store: Store) -> None:
    signature: Any = Model.load(store.folder("1")).signature
    assert str(signature.inputs) == "[Tensor('uint8', (-1, -1, -1, 3))]"
    assert str(signature.outputs) == "[Tensor('float32', (-1, 16))]"
    assert [param.name for param in signature.params] == ["captions"]
    required = (store.folder("1") / "requirements.txt").read_text().split()
    assert required == mlflow_model.requirements()
    assert {line.partition("==")[0] for line in required} == {"mlflow", *mlflow_model.PACKAGES}
    assert all("+" not in line and line.count("==") == 1 for line in required)


@pytest.mark.parametrize("version", [1, 2])
def test_it_gives_our_encoders_embeddings(store: Store, version: int) -> None:
    loaded = mlflow.pyfunc.load_model(str(store.folder(str(version))))
    images = np.random.default_rng(0).integers(0, 256, (130, 40, 50, 3), dtype=np.uint8)
    captions = ["a drawing of a bear", "an apple, & \u732b"]
    model: Any = load_model(store.models[version - 1])[0]
    with torch.inference_mode():
        inputs = preprocessed(torch.from_numpy(images).permute(0, 3, 1, 2), 32)
        image = F.normalize(model.encode_image(inputs), dim=-1)
        text = F.normalize(model.encode_text(clip.tokenizer(tiny.CONFIG)(captions)), dim=-1)
    np.testing.assert_allclose(loaded.predict(images), image.numpy(), atol=1e-6)
    np.testing.assert_allclose(loaded.predict(images[:0], params={"captions": captions}), text.numpy(), atol=1e-6)
    assert loaded.predict(images[:0]).shape == (0, 16)


LOAD = """
import sys
sys.modules["domix"] = None  # as where Domix is not installed: only the model's own copy is there
del sys.modules["domix"]
import mlflow, numpy
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict(numpy.zeros((1, 9, 9, 3), numpy.uint8)).shape)
import domix
print(domix.__path__[0])
"""


@pytest.mark.slow
def test_it_brings_its_own_code(store: Store, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOAD, str(store.folder("1"))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    shape, where = done.stdout.split("\n")[:2]
    assert shape == "(1, 16)"
    assert Path(where).is_relative_to(store.folder("1"))


def test_a_model_that_cannot_be_kept_costs_one_warning_and_nothing_of_the_record(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = store.tracker("broken")
    with caplog.at_level(logging.WARNING, "domix"):
        tracker.model(tmp_path / "nothing")
        tracker.metrics({"loss": 1.0}, 1)
        tracker.finish(succeeded=True)
    (record,) = caplog.records
    assert "the model is not registered in MLflow" in record.getMessage()
    run = store.client.get_run(tracker.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert len(store.client.search_model_versions("name='domix'")) == 2
