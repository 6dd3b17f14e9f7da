"""All weights of a run, on all sets: each image decoded once, each result made once, and kept."""

from __future__ import annotations

import errno
import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from domix.data.classes.imagenet import imagenet_classes
from domix.data.classes.names import class_text
from domix.data.loading import decode
from domix.data.store.index import read_index, write_index
from domix.data.store.shards import ShardReader
from domix.embed import clip as library
from domix.embed import passes as every_pass
from domix.embed.embeddings import checkpoints_of, load_embeddings, load_scored, sets_of
from domix.embed.passes import ComputeContext
from domix.embed.run_model import RunModel
from domix.model.checkpoint import save_tensors, save_weights
from domix.model.clip import build
from domix.project.common import SETS, load_params
from domix.runtime.errors import DataError, DomixError
from domix.runtime.files import read_json, write_json
from domix.runtime.settings import replace
from domix.settings.params import Params
from stages import embed
from tests.tiny import CONFIG, write_split_project

SHARDS = Path("artifacts/shards")
MODELS, OUTS = Path("artifacts/models/clip"), Path("artifacts/embeddings/clip")
OUT = OUTS / "tiny-s0"
CLASSES = list(imagenet_classes().values())


@functools.cache
def base() -> dict[str, torch.Tensor]:
    return build(CONFIG, seed=0).state_dict()


def weights(seed: int) -> dict[str, torch.Tensor]:
    """Return weights that differ a little from one seed to the next."""
    generator = torch.Generator().manual_seed(seed)
    noise = {name: torch.randn(value.shape[-1:], generator=generator) for name, value in base().items()}
    return {n: value + 0.02 * noise[n] if value.is_floating_point() else value for n, value in base().items()}


def write_model(seed: int, checkpoints: dict[int, int]) -> None:
    """Write a model folder with the weights of `seed`, and checkpoints: epochs -> seed."""
    folder = MODELS / f"tiny-s{seed}"
    save_tensors(weights(seed), folder / "model.safetensors")
    write_json(folder / "config.json", {"model": CONFIG})
    for epoch, other in checkpoints.items():
        save_tensors(weights(other), folder / f"checkpoints/epoch_{epoch:03d}.safetensors")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project of 48 images, 28 of them for the test, and a model with two checkpoints."""
    write_split_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_model(0, {0: 100, 7: 107})
    loaded = load_params()
    return replace(loaded, embed=replace(loaded.embed, templates="a {}.", checkpoints=True, batch=16))


def changed(params: Params, **changes: object) -> Params:
    return replace(params, embed=replace(params.embed, **changes))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that gets an item for every pass of a tower: "image" or "text"."""
    made: list[str] = []
    for name in ("encode", "encode_classes"):
        inner = getattr(library, name)

        def counting(*args: object, name: str = name, inner: Callable[..., object] = inner, **named: object) -> object:
            made.append("image" if name == "encode" else "text")
            return inner(*args, **named)

        monkeypatch.setattr(library, name, counting)
    return made


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that gets the key of every image that is decoded."""
    keys: list[str] = []
    inner = decode.decode_rgb

    def counting(data: bytes, name: str) -> np.ndarray:
        keys.append(name)
        return inner(data, name)

    monkeypatch.setattr(decode, "decode_rgb", counting)
    return keys


def add_set(name: str, labels: dict[int, str], *, split: str = "test") -> None:
    """Pack the images again as a source whose classes are given by label, in turn."""
    shutil.copytree(SHARDS / "emoji", SETS / name)
    index = read_index(SETS / name)
    label = [list(labels)[row % len(labels)] for row in range(len(index))]
    index = index.assign(source=name, domain=name, label=label, split=split, **{"class": [labels[n] for n in label]})
    write_index(SETS / name, index)


def test_checkpoints_lie_beside_the_last_weights_as_if_each_were_embedded_alone(params: Params) -> None:
    embed.main(params, "tiny", "0")
    assert checkpoints_of(OUT) == [0, 7]
    last = load_embeddings(OUT)
    for seed in (0, 100, 107):
        write_model(seed, {})
        alone = changed(params, checkpoints=False)
        shutil.rmtree(".cache")
        embed.main(alone, "tiny", str(seed))
        made = load_embeddings(OUTS / f"tiny-s{seed}")
        if seed == 0:
            np.testing.assert_array_equal(last.image_embeddings, made.image_embeddings)
            np.testing.assert_array_equal(last.text, made.text)
            assert [np.array_equal(last.layer(n), made.layer(n), equal_nan=True) for n in made.layers] == [True] * 9
            write_model(0, {0: 100, 7: 107})
            embed.main(params, "tiny", "0")
            continue
        home = OUT / f"checkpoints/{seed - 100:03d}"
        assert sorted(path.name for path in home.iterdir()) == ["image.npy", "text.npy"]
        np.testing.assert_array_equal(np.load(home / "image.npy"), made.image_embeddings.astype(np.float16))
        np.testing.assert_array_equal(np.load(home / "text.npy"), made.text)
        scores = np.concatenate(list(load_scored(OUT, "clip", checkpoint=seed - 100).blocks()))
        np.testing.assert_allclose(scores, made.image_embeddings @ made.text.T, atol=2e-3)


def test_embeddings_are_to_the_bit_those_of_images_decoded_for_the_pass(params: Params, tmp_path: Path) -> None:
    embed.main(params, "tiny", "0")
    with ShardReader(SHARDS / "emoji") as reader:
        slow = RunModel(MODELS / "tiny-s0", "clip", {"emoji": reader}, ComputeContext(tmp_path, 16))
        rows = read_index(SHARDS / "emoji").iloc[20:]
        np.testing.assert_array_equal(np.load(OUT / "image.npy"), np.concatenate(list(slow.embeddings("emoji", rows))))


def test_33_checkpoints_and_several_runs_decode_each_image_once(params: Params, decoded: list[str]) -> None:
    epochs = {0: range(33), 1: range(2), 2: range(1)}
    for seed, kept in epochs.items():
        write_model(seed, {epoch: 1000 * seed + epoch for epoch in kept})
        embed.main(params, "tiny", str(seed))
        assert checkpoints_of(OUTS / f"tiny-s{seed}") == list(kept)
    index = read_index(SHARDS / "emoji")
    assert sorted(decoded) == sorted(index.loc[index["split"] == "test", "key"])
    images = [np.load(OUTS / f"tiny-s{s}/checkpoints/{e:03d}/image.npy").tobytes() for s in epochs for e in epochs[s]]
    assert len(set(images)) == 36


def test_only_what_is_new_is_embedded(params: Params, passes: list[str]) -> None:
    embed.main(params, "tiny", "0")
    assert passes == ["image", "text"] * 3
    first = {path: path.read_bytes() for path in OUT.rglob("*") if path.is_file()}
    passes.clear()
    shutil.rmtree(OUT)
    embed.main(params, "tiny", "0")
    assert passes == []
    assert {path: path.read_bytes() for path in OUT.rglob("*") if path.is_file()} == first
    write_model(0, {0: 100, 7: 107, 9: 109})  # a checkpoint more
    embed.main(params, "tiny", "0")
    assert passes == ["image", "text"]
    passes.clear()
    add_set("web", {0: "axe", 1: "red_bed"})  # a set more
    embed.main(changed(params, sets=["web"]), "tiny", "0")
    assert passes == ["image", "text"] * 4  # by all weights
    passes.clear()
    embed.main(changed(params, templates=["a {}.", "the {}."], batch=5), "tiny", "0")  # other prompts
    assert passes == ["text"] * 4


def test_a_checkpoint_of_the_last_weights_takes_no_pass_of_its_own(params: Params, passes: list[str]) -> None:
    write_model(0, {8: 0})  # beside 0 and 7
    embed.main(params, "tiny", "0")
    assert checkpoints_of(OUT) == [0, 7, 8]
    assert passes == ["image", "text"] * 3
    last = load_embeddings(OUT)
    np.testing.assert_array_equal(np.load(OUT / "checkpoints/008/image.npy"), last.image_embeddings.astype(np.float16))
    np.testing.assert_array_equal(np.load(OUT / "checkpoints/008/text.npy"), last.text)
    assert last.meta["epochs"] == 8


def test_other_code_or_weights_embed_anew(params: Params, passes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = changed(params, checkpoints=False)
    embed.main(plain, "tiny", "0")
    write_model(0, {})
    save_tensors(weights(5), MODELS / "tiny-s0/model.safetensors")
    embed.main(plain, "tiny", "0")
    assert passes == ["image", "text"] * 2
    for changed_code in ("1", "2"):
        monkeypatch.setattr(every_pass, "code_digest", lambda module, changed_code=changed_code: changed_code)
        embed.main(plain, "tiny", "0")
    assert passes == ["image", "text"] * 4


def test_what_is_kept_and_damaged_is_noticed_and_embedded_again(params: Params, passes: list[str]) -> None:
    embed.main(params, "tiny", "0")
    first = {path: path.read_bytes() for path in OUT.rglob("*") if path.is_file()}
    passes.clear()
    damaged = next(path for path in Path(".cache/embeddings").glob("*/image.npy") if path.stat().st_nlink == 2)
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.unlink()
    damaged.write_bytes(content)
    embed.main(params, "tiny", "0")
    assert passes == ["image"]
    assert {path: path.read_bytes() for path in OUT.rglob("*") if path.is_file()} == first


def test_a_set_of_its_own_classes(params: Params) -> None:
    add_set("web", {0: "axe", 1: "red_bed"})
    embed.main(changed(params, sets=["web"], checkpoints=False), "tiny", "0")
    assert sets_of(OUT) == ["web"]
    found, meta = load_scored(OUT, "clip", source="web"), read_json(OUT / "sets/web/meta.json")
    assert found.rows["row"].tolist() == list(range(48))
    assert (found.classes, found.subset, found.answers) == (["axe", "red_bed"], None, None)
    assert meta["source"] == "web"
    assert meta["templates"] == "a {}."
    assert meta["model_sha256"] == load_embeddings(OUT).meta["model_sha256"]
    model = build(CONFIG, seed=0)
    model.load_state_dict(weights(0))
    expected = library.encode_classes(
        model, library.Prompts.tokenised(library.tokenizer(CONFIG), [["a axe."], ["a red bed."]])
    )
    np.testing.assert_array_equal(np.load(OUT / "sets/web/text.npy"), expected)
    own = load_embeddings(OUT)  # the same images, of which the last 28 are the study's
    np.testing.assert_allclose(np.load(OUT / "sets/web/image.npy")[20:], own.image_embeddings, atol=2e-6)


def test_a_set_of_imagenet_labels_is_told_apart_by_all_thousand_classes(params: Params) -> None:
    add_set("imagenet-r", {label: CLASSES[label].text for label in (1, 340, 988)})
    embed.main(changed(params, sets=["imagenet-r"], checkpoints=False), "tiny", "0")
    found = load_scored(OUT, "clip", source="imagenet-r")
    assert found.classes == [known.text for known in CLASSES]
    assert next(found.blocks()).shape == (48, 1000)
    assert found.rows["label"].tolist() == [1, 340, 988] * 16
    assert found.subset is not None
    assert len(found.subset) == 200
    assert class_text(found.classes[340]) == "zebra"


def other_model() -> None:
    save_weights(build(CONFIG | {"embed_dim": 32}, seed=0), MODELS / "tiny-s0/checkpoints/epoch_007.safetensors")


def cut() -> None:
    path = MODELS / "tiny-s0/checkpoints/epoch_007.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def diverged() -> None:
    state = {n: v * float("nan") if v.is_floating_point() else v for n, v in weights(3).items()}
    save_tensors(state, MODELS / "tiny-s0/checkpoints/epoch_007.safetensors")


def without_test_images() -> None:
    add_set("web", {0: "axe", 1: "bed"}, split="train")


def without_classes() -> None:
    add_set("web", {-1: None})  # ty: ignore[invalid-argument-type]


FAULTS = {
    "a checkpoint of another model": (
        other_model,
        [],
        r"epoch_007.safetensors are another model's: text_projection is 8x32 there and 8x16 in the",
    ),
    "a checkpoint cut short": (cut, [], r"epoch_007.safetensors are damaged"),
    "a diverged checkpoint": (diverged, [], "image embeddings that are not finite: its weights are damaged"),
    "a set without test images": (without_test_images, ["web"], "web/index.parquet holds no test images"),
    "a set without classes": (
        without_classes,
        ["web"],
        r"^embed\.sets: .* without a class: leave the set out$",
    ),
    "a set that is not packed": (lambda: None, ["web"], "web/index.parquet is missing"),
}


@pytest.mark.parametrize(("break_it", "sets", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_named_and_nothing_is_written(
    params: Params, break_it: Callable[[], None], sets: list[str], message: str
) -> None:
    break_it()
    with pytest.raises(DataError, match=message) as caught:
        embed.main(changed(params, sets=sets), "tiny", "0")
    assert "\n" not in str(caught.value)
    assert not any(OUTS.glob("*"))


@pytest.mark.parametrize("from_the", [1, 2, 4])  # images, embeddings, a checkpoint's
def test_a_full_disk_is_told_and_nothing_half_made_stays(
    params: Params, monkeypatch: pytest.MonkeyPatch, from_the: int
) -> None:
    inner, calls = os.posix_fallocate, []

    def filling(*args: int) -> None:
        calls.append(args)
        if len(calls) >= from_the:
            raise OSError(errno.ENOSPC, "No space left on device")
        inner(*args)

    monkeypatch.setattr(os, "posix_fallocate", filling)
    with pytest.raises(DomixError, match=r"^no space left to write .*: free some disk space and run again$"):
        embed.main(params, "tiny", "0")
    assert not any(OUTS.glob("*"))
    assert not any(Path(".cache").rglob("*tmp-*"))
    monkeypatch.setattr(os, "posix_fallocate", inner)
    embed.main(params, "tiny", "0")
    assert checkpoints_of(OUT) == [0, 7]
