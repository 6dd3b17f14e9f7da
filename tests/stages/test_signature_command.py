"""`domix signature`: the table of one model on packed images and on a folder, and what it refuses."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from domix.cli.models.signature import signature_table
from domix.data.store.index import read_index, write_index
from domix.data.store.shards import ShardReader
from domix.embed.clip import embed_clip, open_subject
from domix.embed.embeddings import load_embeddings
from domix.embed.evaluation_sets import study_set
from domix.embed.passes import here
from domix.embed.run_model import RunModel
from domix.encoders.preprocess import square
from domix.evaluate.metrics import balanced_accuracy
from domix.model.checkpoint import save_weights
from domix.model.classifier import build as build_classifier
from domix.model.clip import build
from domix.project.common import load_params
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from domix.runtime.settings import replace
from domix.settings.params import Params
from domix.signature.directions import head_directions, head_importance, heavy_tail
from domix.signature.kurtosis import activation_kurtosis, summarise
from domix.signature.outliers import outlier_features
from domix.signature.pruning import PERCENT, pruned_head, pruning_order
from tests.commands import domix
from tests.tiny import CONFIG, write_project

SHARDS = Path("artifacts/shards/emoji")
MODEL = Path("artifacts/models/clip/tiny-s0")
RNG = np.random.default_rng(0)


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project of 48 test images and a model."""
    write_project(tmp_path, count=48)
    monkeypatch.chdir(tmp_path)
    index = read_index(SHARDS)
    write_index(SHARDS, index.assign(split="test").astype(index.dtypes))
    save_weights(build(CONFIG, seed=0), MODEL / "model.safetensors")
    write_json(MODEL / "config.json", {"model": CONFIG})
    return load_params()


def printed(
    params: Params, capsys: pytest.CaptureFixture[str], *arguments: str, model: Path = MODEL
) -> list[pd.DataFrame]:
    capsys.readouterr()
    domix(params, "signature", str(model), *arguments)
    tables = capsys.readouterr().out.split("\n\n")
    return [pd.read_csv(io.StringIO(text), sep=r"\s+").set_index(text.split()[0]) for text in tables]


def test_the_table_is_that_of_the_functions() -> None:
    embeddings, head = RNG.normal(size=(40, 12)), RNG.normal(size=(9, 12))
    embeddings[:, 4] += 30
    domains = np.array(["real"] * 32 + ["sketch"] * 8, dtype=object)
    table = signature_table(embeddings.astype(np.float32), head.astype(np.float32), domains).set_index("images")
    assert list(table.index) == ["all", "real", "sketch"] and table["n"].tolist() == [40, 32, 8]
    mine = embeddings[:32].astype(np.float32)
    over, outlying = summarise(activation_kurtosis(mine)), outlier_features(mine)
    tail = heavy_tail(head_importance(head.astype(np.float32), mine))
    row = table.loc["real"]
    assert [row["kurtosis"], row["median"], row["se"]] == pytest.approx([over.mean, over.median, over.standard_error])
    assert (row["outliers"], row["norm_share"]) == (1, pytest.approx(outlying.norm_share))
    assert outlying.indices.tolist() == [4]
    assert [row["top"], row["max_to_mean"], row["effective_rank"]] == pytest.approx(
        [tail.top, tail.max_to_mean, tail.effective_rank], rel=1e-5
    )
    assert (row["width"], row["rank"]) == (12, 9)
    assert np.isnan(table.loc["sketch", "top"])  # of fewer images than directions
    assert list(signature_table(embeddings[:32], head, domains[:32])["images"]) == ["all"]
    with pytest.raises(DataError, match=r"^there are 8 images for the head's 9 directions"):
        signature_table(embeddings[32:], head, domains[32:])


def test_the_command_reads_packed_images_and_folders_alike(
    params: Params, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (table,) = printed(params, capsys)
    assert list(table.index) == ["all", "real", "sketch"] and table["n"].tolist() == [48, 24, 24]
    assert table["width"].unique().tolist() == [16] and table["kurtosis"].between(1, 16).all()
    shutil.copytree(SHARDS, SHARDS.parent / "other")
    both = replace(params, sources=["emoji", "other"])
    assert printed(both, capsys, "--images", "other")[0].loc["all", "kurtosis"] == table.loc["all", "kurtosis"]
    folder = tmp_path / "images" / "below"
    folder.mkdir(parents=True)
    index = read_index(SHARDS)
    with ShardReader(SHARDS) as reader:
        for row in index["row"]:
            (folder / f"{row}.png").write_bytes(reader.read(row))
    (folder / "notes.txt").write_text("no image")
    (found,) = printed(params, capsys, "--images", "images")
    assert list(found.index) == ["all"] and (found.loc["all"] == table.loc["all"]).all()


def test_what_is_no_image_is_told(params: Params, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"^there is no packed source and no folder nowhere: name one with"):
        domix(params, "signature", str(MODEL), "--images", "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"^there is no image in empty"):
        domix(params, "signature", str(MODEL), "--images", "empty")
    (tmp_path / "empty/broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"empty/broken\.png"):
        domix(params, "signature", str(MODEL), "--images", "empty")
    (tmp_path / "empty/broken.png").unlink()
    Image.new("RGB", (8, 8)).save(tmp_path / "empty/one.png")
    with pytest.raises(DataError, match=r"^there are 1 images for the head's \d+ directions"):
        domix(params, "signature", str(MODEL), "--images", "empty")


def test_accuracy_of_the_pruned_head_is_printed_if_asked_for(
    params: Params, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, pruned = printed(params, capsys, "--pruned")
    assert pruned.index.name == "percent" and pruned.index.tolist() == list(PERCENT)
    embeddings = tmp_path / "embeddings"
    embed_clip(open_subject(MODEL), embeddings, here(tmp_path, 16), templates=params.embed.templates, study=SHARDS)
    found = load_embeddings(embeddings)
    label, directions = found.rows["label"].to_numpy(), head_directions(found.text)
    total = len(directions.right)
    order = pruning_order(head_importance(found.text, found.image_embeddings))
    for percent in (0, 50, 90):
        kept = total - percent * total // 100
        scores = found.image_embeddings @ pruned_head(directions, order[total - kept :]).T
        want = balanced_accuracy(label, scores.argmax(axis=1) == label)
        row = pruned.loc[percent]
        assert (row["importance"], row["kept"]) == (pytest.approx(want, abs=6e-4), kept)
    assert pruned.loc[0, ["singular_value", "random"]].tolist() == [pruned.loc[0, "importance"]] * 2
    (tmp_path / "images").mkdir()
    for number in range(12):
        pixels = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{number}.png")
    with pytest.raises(DataError, match=r"^these images have no classes of the head, so that nothing can be said"):
        domix(params, "signature", str(MODEL), "--images", "images", "--pruned")


@pytest.mark.parametrize("first", [0, 2])
def test_a_classifier_is_read_before_its_last_layer(
    params: Params, capsys: pytest.CaptureFixture[str], first: int
) -> None:
    folder, classes = Path("artifacts/models/supervised/tiny-s0"), study_set(SHARDS).classes
    classifier = build_classifier({"clip": CONFIG, "image_size": 32}, outputs=first + len(classes), seed=0)
    with torch.no_grad():
        classifier.head.bias[first] = 5.0  # all images seem to be of the first class
    save_weights(classifier, folder / "model.safetensors")
    config = {"encoder": {"clip": CONFIG, "image_size": 32}, "classes": [*["x"] * first, *classes]}
    write_json(folder / "config.json", config | {"first_class": first})
    table, pruned = printed(params, capsys, "--pruned", model=folder)
    with ShardReader(SHARDS) as reader:
        batches = RunModel(folder, "supervised", {"emoji": reader}, here(Path(".cache"), 16)).batches(
            "emoji", study_set(SHARDS).rows
        )
        with torch.inference_mode():
            outputs = [classifier.eval().visual(square(32).normalise(batch)) for batch in batches]
    features = np.concatenate([values.numpy() for values in outputs]).clip(min=0)
    kurtosis = summarise(activation_kurtosis(features))
    assert table.loc["all", "kurtosis"] == pytest.approx(kurtosis.mean, abs=1e-3)
    tail = heavy_tail(head_importance(classifier.head.weight.detach().numpy()[first:], features))
    assert table.loc["all", "effective_rank"] == pytest.approx(tail.effective_rank, abs=1e-3)
    assert pruned["importance"].tolist() == pytest.approx([1 / 12] * len(PERCENT), abs=6e-4)  # the bias is kept
    write_json(folder / "config.json", config | {"classes": [*["x"] * first, *classes[::-1]], "first_class": first})
    with pytest.raises(DataError, match=r"has no outputs for the classes of emoji: name other images$"):
        domix(params, "signature", str(folder))
