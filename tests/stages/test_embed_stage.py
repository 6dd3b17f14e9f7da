"""The stage embed on a tiny project: what it writes, that it repeats itself, and how it fails."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from domix.data.store.index import read_index, write_index
from domix.embed.embeddings import Embeddings, load_embeddings
from domix.model.checkpoint import save_weights
from domix.model.clip import build
from domix.project.common import load_params
from domix.runtime.errors import DataError
from domix.runtime.files import sha256_file, write_json
from domix.settings.params import Params
from stages import embed
from tests.commands import told
from tests.preprocessed import preprocessed
from tests.tiny import CONFIG, WORDS, make_images, write_split_project

MODEL = Path("artifacts/models/clip/tiny-s0")
SHARDS = Path("artifacts/shards/emoji")
OUT = Path("artifacts/embeddings/clip/tiny-s0")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project of 48 images, two a cell, every second one for the test, and an untrained model."""
    write_split_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    MODEL.mkdir(parents=True)
    save_weights(build(CONFIG, seed=0), MODEL / "model.safetensors")
    write_json(MODEL / "config.json", {"model": CONFIG})
    return load_params()


def embedded(params: Params) -> Embeddings:
    embed.main(params, "tiny", "0")
    return load_embeddings(OUT)


def test_embeds_the_test_images_of_every_domain_and_all_classes(params: Params) -> None:
    result = embedded(params)
    assert result.rows["row"].tolist() == list(range(20, 48))
    assert result.image_embeddings.shape == (28, 16)
    assert result.text.shape == (12, 16)
    assert (result.domains, result.classes) == (["real", "sketch"], WORDS)
    assert result.layers == ["act1", "act2", "act3", "avgpool", *(f"layer{i}.0" for i in (1, 2, 3, 4)), "attnpool"]
    assert result.layer("layer4.0").shape == (2, 12, 128)
    assert result.meta["model_sha256"] == sha256_file(MODEL / "model.safetensors")
    assert result.meta["prompts_a_class"] == 86


def test_cells_without_test_images_are_nan_and_no_others(params: Params) -> None:
    result = embedded(params)
    counts = np.zeros((2, 12), dtype=int)
    for domain, label in zip(result.rows["domain"], result.rows["label"], strict=True):
        counts[result.domains.index(domain), label] += 1
    for name in result.layers:
        np.testing.assert_array_equal(np.isnan(result.layer(name)).all(axis=2), counts == 0)
        np.testing.assert_array_equal(np.isnan(result.layer(name)).any(axis=2), counts == 0)


def test_each_row_holds_its_own_image(params: Params) -> None:
    result, images = embedded(params), make_images(48)
    model = build(CONFIG, seed=0).eval()
    for number in (0, 11, 27):
        inputs = preprocessed(images[int(result.rows["row"].iloc[number])][None], 32)
        with torch.inference_mode():
            expected = model.encode_image(inputs, normalize=True)[0]
        np.testing.assert_allclose(result.image_embeddings[number], expected, atol=2e-6)


def test_gives_the_same_bytes_twice(params: Params) -> None:
    embedded(params)
    first = {path.name: path.read_bytes() for path in OUT.iterdir()}
    embedded(params)
    assert {path.name: path.read_bytes() for path in OUT.iterdir()} == first


def test_does_not_know_the_test_domain(params: Params) -> None:
    shutil.rmtree("artifacts/mixtures")
    assert "clipart" not in (embedded(params).folder / "meta.json").read_text(encoding="utf-8")


def other_weights() -> None:
    wider = CONFIG | {"embed_dim": 32}
    save_weights(build(wider, seed=0), MODEL / "model.safetensors")


def no_test_images() -> None:
    index = read_index(SHARDS)
    write_index(SHARDS, index.assign(split="train").astype(index.dtypes))


def broken_image() -> None:
    last = read_index(SHARDS).iloc[-1]
    with open(SHARDS / last["shard"], "r+b") as file:
        file.seek(last["offset"])
        file.write(b"no image")


def other_size() -> None:
    index = read_index(SHARDS)
    write_index(SHARDS, index.assign(width=41).astype(index.dtypes))


TRAIN, PACK = "run dvc repro train@tiny-0$", "run dvc repro pack@emoji$"
FAULTS = {
    "weights of another model": (
        other_weights,
        rf"another model's: .* differ\); delete \S+model\.safetensors and {TRAIN}",
    ),
    "no weights": (
        (MODEL / "model.safetensors").unlink,
        rf"model\.safetensors are missing: {TRAIN}",
    ),
    "no configuration": ((MODEL / "config.json").unlink, rf"config\.json is missing: {TRAIN}"),
    "no index": ((SHARDS / "index.parquet").unlink, rf"index\.parquet is missing: {PACK}"),
    "no shard": (
        (SHARDS / "00000.tar").unlink,
        rf"00000\.tar is missing, which \S+index\.parquet names: {PACK}",
    ),
    "no test images": (no_test_images, "holds no test images"),
    "a broken image": (
        broken_image,
        rf"cannot be decoded \(.*\)[:;] delete {SHARDS} and {PACK}",
    ),
    "an image of another size": (
        other_size,
        rf"and the index says 40 x 41: delete {SHARDS} and {PACK}",
    ),
}


@pytest.mark.parametrize(("break_it", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_named_and_nothing_is_written(params: Params, break_it: Callable[[], None], message: str) -> None:
    break_it()
    with pytest.raises(DataError) as caught:
        embed.main(params, "tiny", "0")
    assert re.search(message, told(caught.value))
    assert "\n" not in str(caught.value)
    assert not OUT.parent.exists() or not any(OUT.parent.iterdir())
