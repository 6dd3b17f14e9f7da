"""The stage embed_supervised: scores of the study's images, and of sets that the classifier can tell apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from domix.data.classes.imagenet import imagenet_classes
from domix.data.store.index import read_index, write_index
from domix.embed.classifier import outputs_of
from domix.embed.embeddings import checkpoints_of, load_scored, sets_of
from domix.model.checkpoint import save_tensors
from domix.model.classifier import build
from domix.project.common import SETS, load_params
from domix.runtime.errors import DataError
from domix.runtime.files import read_json, sha256_file, write_json
from domix.runtime.settings import replace
from domix.settings.params import Params
from stages import embed_supervised
from tests.commands import told
from tests.preprocessed import preprocessed
from tests.tiny import WORDS, make_images, write_split_project
from tests.tiny_supervised import RESNET

SHARDS = Path("artifacts/shards")
MODEL, OUT = Path("artifacts/models/supervised/tiny-s0"), Path("artifacts/embeddings/supervised/tiny-s0")
TEXTS = [known.text for known in imagenet_classes().values()]
FOLDED = [None if label in (3, 340) else text for label, text in enumerate(TEXTS)]  # two count as classes of the source
BOTH = [*FOLDED, *WORDS, "wolpertinger"]  # ImageNet's, the source's, another corpus'


def write_classifier(classes: list[str | None], first: int, checkpoints: tuple[int, ...] = ()) -> None:
    shutil.rmtree(MODEL, ignore_errors=True)
    write_json(MODEL / "config.json", {"encoder": RESNET, "classes": classes, "first_class": first})
    save_tensors(build(RESNET, outputs=len(classes), seed=0).state_dict(), MODEL / "model.safetensors")
    for epoch in checkpoints:
        state = build(RESNET, outputs=len(classes), seed=1 + epoch).state_dict()
        save_tensors(state, MODEL / f"checkpoints/epoch_{epoch:03d}.safetensors")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project of 48 images, 28 of them for the test, and a classifier of the source's classes alone."""
    write_split_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_classifier(list(WORDS), 0)
    return load_params()


def changed(params: Params, **changes: object) -> Params:
    return replace(params, embed=replace(params.embed, **changes))


def add_set(name: str, labels: dict[int, str]) -> None:
    """Pack the images again as a source for tests, whose classes are given by label, in turn."""
    shutil.copytree(SHARDS / "emoji", SETS / name)
    index = read_index(SETS / name)
    label = [list(labels)[row % len(labels)] for row in range(len(index))]
    index = index.assign(source=name, domain=name, label=label, split="test", **{"class": [labels[n] for n in label]})
    write_index(SETS / name, index)


def logits(rows: list[int], *, outputs: int, seed: int = 0) -> np.ndarray:
    """Return all logits of some of the images, each computed alone."""
    model, images = build(RESNET, outputs=outputs, seed=seed).eval(), make_images(48)
    with torch.inference_mode():
        return torch.cat([model(preprocessed(images[row][None], 32)) for row in rows]).numpy()


def scores(**where: object) -> np.ndarray:
    return np.concatenate(list(load_scored(OUT, "supervised", **where).blocks(11)))  # ty: ignore[invalid-argument-type]


@pytest.mark.parametrize(("classes", "first"), [(WORDS, 0), (BOTH, 1000)])
def test_scores_are_the_outputs_of_the_studys_classes_in_label_order(
    params: Params, classes: list[str | None], first: int
) -> None:
    write_classifier(list(classes), first)
    embed_supervised.main(params, "tiny", "0")
    expected = logits(list(range(20, 48)), outputs=len(classes))[:, first : first + 12]
    np.testing.assert_allclose(scores(), expected, rtol=1e-4, atol=1e-5)
    found = load_scored(OUT, "supervised")
    assert (found.classes, found.text) == (WORDS, None)
    assert found.rows["row"].tolist() == list(range(20, 48))
    assert np.load(OUT / "scores.npy").dtype == np.float32
    assert read_json(OUT / "meta.json") == {
        "format": 1,
        "model_sha256": sha256_file(MODEL / "model.safetensors"),
        "index_sha256": sha256_file(SHARDS / "emoji/index.parquet"),
        "source": "emoji",
        "transform": "central square, antialiased bicubic to 32 x 32, CLIP's mean and deviation",
        "epochs": None,
        "domains": ["real", "sketch"],
        "classes": WORDS,
    }


def test_checkpoints_pass_through_the_same_model(params: Params) -> None:
    write_classifier(list(WORDS), 0, checkpoints=(0, 5))
    embed_supervised.main(changed(params, checkpoints=True), "tiny", "0")
    assert checkpoints_of(OUT) == [0, 5]
    for epoch in (0, 5):
        assert np.load(OUT / f"checkpoints/{epoch:03d}/scores.npy").dtype == np.float16
        expected = logits(list(range(20, 48)), outputs=12, seed=1 + epoch)
        np.testing.assert_allclose(scores(checkpoint=epoch), expected, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(scores(), logits(list(range(20, 48)), outputs=12), rtol=1e-4, atol=1e-5)


def test_imagenet_is_told_apart_by_the_outputs_before_the_studys(params: Params) -> None:
    write_classifier(list(BOTH), 1000)
    add_set("imagenet", {label: TEXTS[label] for label in (0, 340, 988)})
    embed_supervised.main(changed(params, sets=["imagenet"]), "tiny", "0")
    expected = logits(list(range(48)), outputs=len(BOTH))[:, :1000]
    np.testing.assert_allclose(scores(source="imagenet"), expected, rtol=1e-4, atol=1e-5)
    assert load_scored(OUT, "supervised", source="imagenet").rows["label"].tolist() == [0, 340, 988] * 16
    assert read_json(OUT / "sets/imagenet/meta.json")["unlearned"] == [3, 340]


def test_a_set_of_classes_that_the_classifier_knows_is_found_by_name(params: Params) -> None:
    add_set("web", {0: "Kite", 1: "apple"})
    embed_supervised.main(changed(params, sets=["web"]), "tiny", "0")
    expected = logits(list(range(48)), outputs=12)[:, [WORDS.index("kite"), WORDS.index("apple")]]
    np.testing.assert_allclose(scores(source="web"), expected, rtol=1e-4, atol=1e-5)


def test_sets_that_the_classifier_cannot_tell_apart_are_left_out_and_named(
    params: Params, caplog: pytest.LogCaptureFixture
) -> None:
    add_set("imagenet", {0: TEXTS[0]})
    add_set("web", {0: "kite", 1: "unicorn"})
    embed_supervised.main(changed(params, sets=["imagenet", "web"]), "tiny", "0")
    assert sets_of(OUT) == []
    for name in ("imagenet", "web"):
        assert f"the classifier has no outputs for the classes of {name}: that set is left out" in caplog.text


def test_outputs_without_a_name_belong_to_no_class_but_imagenets() -> None:
    assert outputs_of(BOTH, 1000, TEXTS) == list(range(1000))
    assert outputs_of(BOTH, 1000, ["wolpertinger", TEXTS[7], "apple"]) == [1012, 7, 1000]
    assert outputs_of(BOTH, 1000, [TEXTS[3]]) is None
    assert outputs_of(WORDS, 0, TEXTS) is None


def test_a_classifier_of_other_classes_is_refused(params: Params) -> None:
    write_classifier([*WORDS[1:], WORDS[0]], 0)
    with pytest.raises(DataError, match=r"tells other classes apart than artifacts/shards/emoji has$") as caught:
        embed_supervised.main(params, "tiny", "0")
    assert told(caught.value).endswith(" has: delete it and run dvc repro train_supervised@tiny-0")


def test_a_diverged_classifier_is_named_and_nothing_is_written(params: Params) -> None:
    state = {
        n: v * float("nan") if v.is_floating_point() else v
        for n, v in build(RESNET, outputs=12, seed=0).state_dict().items()
    }
    save_tensors(state, MODEL / "model.safetensors")
    with pytest.raises(DataError, match="the classifier gives logits that are not finite: its weights are damaged"):
        embed_supervised.main(params, "tiny", "0")
    assert not any(OUT.parent.glob("*"))


def test_a_clip_model_is_no_classifier(params: Params) -> None:
    write_json(MODEL / "config.json", {"model": RESNET["clip"]})
    with pytest.raises(DataError, match="describes no classifier: it lacks encoder"):
        embed_supervised.main(params, "tiny", "0")
