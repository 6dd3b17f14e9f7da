"""Out-of-distribution sets: from raw files through fetch, pack and embed to what an analysis reads of them."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domix.analyses import runner
from domix.analyses.contract import RunInputs, Shared
from domix.analyses.registry import find
from domix.data.classes.ood_groups import GROUPS
from domix.data.store.index import read_index, write_index
from domix.embed.embeddings import load_embeddings, load_scored, ood_sets_of, sets_of
from domix.evaluate.robustness import robustness_table
from domix.model.checkpoint import save_tensors, save_weights
from domix.model.classifier import build as build_classifier
from domix.model.clip import build
from domix.project.common import SETS, load_params
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json, sha256_file, write_json
from domix.runtime.settings import replace
from domix.settings.params import Params
from domix.study import Run, Study
from stages import embed, embed_supervised, evaluate, fetch_set, pack_set
from tests.commands import told
from tests.source_trees import make_tree
from tests.tiny import CONFIG, REPOSITORY, WORDS, write_split_project
from tests.tiny_supervised import RESNET

SHARDS, EMBEDDINGS = Path("artifacts/shards"), Path("artifacts/embeddings")
OUT = EMBEDDINGS / "clip/tiny-s0"
FACES, SIGNS = ("angry face", "boy", "crying face"), ("divide", "plus")
GROUPS_OF = dict.fromkeys(FACES, "near") | dict.fromkeys(SIGNS, "far")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project of 48 images, 28 of them for the test, a CLIP model and a classifier, and a set `faces` with groups."""
    write_split_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    model, classifier = Path("artifacts/models/clip/tiny-s0"), Path("artifacts/models/supervised/tiny-s0")
    for folder in (model, classifier):
        folder.mkdir(parents=True)
    save_weights(build(CONFIG, seed=0), model / "model.safetensors")
    save_weights(build(CONFIG, seed=1), model / "checkpoints/epoch_003.safetensors")
    write_json(model / "config.json", {"model": CONFIG})
    outputs = ["wolpertinger", *WORDS, "Apple"]  # another corpus has an apple, too
    write_json(classifier / "config.json", {"encoder": RESNET, "classes": outputs, "first_class": 1})
    save_tensors(build_classifier(RESNET, outputs=14, seed=0).state_dict(), classifier / "model.safetensors")
    add_set("faces", *FACES, *SIGNS)
    write_json(SETS / "faces" / GROUPS, GROUPS_OF)
    loaded = load_params()
    return replace(loaded, embed=replace(loaded.embed, templates="a {}.", batch=16))


def add_set(name: str, *classes: str | None) -> None:
    """Pack some of the images again as a set of these classes in turn: rows 0 to 29, the last ten for the test."""
    shutil.copytree(SHARDS / "emoji", SETS / name)
    index = read_index(SETS / name).iloc[:30]
    label = [row % len(classes) for row in range(30)]
    index = index.assign(source=name, label=label, split=["train"] * 20 + ["test"] * 10)
    write_index(SETS / name, index.assign(**{"class": [classes[n] for n in label]}))


def asked(params: Params, ood: dict[str, str | None], *others: str, checkpoints: bool = False) -> Params:
    changes = {"sets": [*others, *ood], "ood": ood, "checkpoints": checkpoints}
    return replace(params, embed=replace(params.embed, **changes))


def inputs(tmp_path: Path, classes: list[str] | None = None) -> RunInputs:
    run = Run("clip", "tiny", 0)
    study = Study("sketch", "real", ("apple",), ("real", "sketch"), tuple(classes or WORDS), (run,), {"tiny": "tiny"})
    return RunInputs(study, run, ("emoji",), Path("artifacts"), tmp_path / "cache", Shared(0.95, 6, "none", 8))


def test_an_analysis_reads_embeddings_with_domain_class_and_group(params: Params, tmp_path: Path) -> None:
    embed.main(asked(params, {"faces": None}), "tiny", "0")
    here, index = inputs(tmp_path), read_index(SETS / "faces")
    assert here.ood_sets == ood_sets_of(OUT) == ["faces"]
    found = here.set_embeddings("faces")
    rows = index[index["split"] == "test"]
    for name in ("row", "key", "domain", "class"):
        assert found.rows[name].tolist() == rows[name].tolist()
    assert found.rows["group"].tolist() == [GROUPS_OF[name] for name in rows["class"]]
    assert set(found.rows["group"]) == {"near", "far"}
    assert set(found.rows["label"]) == {-1}
    own = load_embeddings(OUT)
    by_row = dict(zip(own.rows["row"], own.image_embeddings, strict=True))  # the same images, embedded as the study's
    expected = np.stack([by_row[row] for row in found.rows["row"]])
    np.testing.assert_allclose(found.image_embeddings, expected, atol=1e-6)
    assert found.image_embeddings.dtype == np.float32
    np.testing.assert_array_equal(found.text, own.text)
    assert found.classes == WORDS
    np.testing.assert_allclose(np.concatenate(list(found.blocks(3))), expected @ own.text.T, atol=1e-6)
    assert read_json(OUT / "sets/faces/meta.json")["groups"] == GROUPS_OF


@pytest.mark.parametrize("group", ["near", "far"])
def test_a_group_of_the_parameters_goes_before_the_sets_own(params: Params, tmp_path: Path, group: str) -> None:
    embed.main(asked(params, {"faces": group}), "tiny", "0")
    assert set(inputs(tmp_path).set_embeddings("faces").rows["group"]) == {group}


def test_a_classifier_scores_the_set_by_the_studys_classes(params: Params) -> None:
    embed_supervised.main(asked(params, {"faces": None}), "tiny", "0")
    home = EMBEDDINGS / "supervised/tiny-s0"
    found, own = load_scored(home, "supervised", source="faces"), load_scored(home, "supervised")
    assert (found.classes, found.meta["groups"]) == (WORDS, GROUPS_OF)
    own_scores = dict(zip(own.rows["row"], np.concatenate(list(own.blocks())), strict=True))
    expected = np.stack([own_scores[row] for row in found.rows["row"]])
    assert expected.shape == (10, 12)
    np.testing.assert_allclose(np.concatenate(list(found.blocks())), expected, rtol=1e-4, atol=1e-5)


def test_checkpoints_embed_it_too(params: Params) -> None:
    embed.main(asked(params, {"faces": None}, checkpoints=True), "tiny", "0")
    kept = load_scored(OUT, "clip", checkpoint=3, source="faces")
    assert kept.image_embeddings.dtype == np.float16
    np.testing.assert_array_equal(kept.text, load_scored(OUT, "clip", checkpoint=3).text)
    assert kept.rows["group"].notna().all()


def test_study_and_other_sets_are_to_the_byte_what_they_are_without_it(params: Params) -> None:
    add_set("mine", "ant", "bee")

    def written() -> dict[str, str]:
        return {str(path.relative_to(OUT)): sha256_file(path) for path in OUT.rglob("*.*") if "faces" not in path.parts}

    embed.main(asked(params, {}, "mine"), "tiny", "0")
    before = written()
    shutil.rmtree(".cache")
    embed.main(asked(params, {"faces": None}, "mine"), "tiny", "0")
    assert sets_of(OUT) == ["faces", "mine"] and ood_sets_of(OUT) == ["faces"]
    assert written() == before
    assert "group" not in load_scored(OUT, "clip", source="mine").rows


def test_tables_of_accuracy_leave_it_out(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is right there."""
    seen: list[list[str]] = []

    def noting(models: object, sets: list[str], plan: object) -> pd.DataFrame:
        seen.append(sets)
        return robustness_table([], [], plan)  # ty: ignore[invalid-argument-type]

    monkeypatch.setattr(evaluate, "robustness_table", noting)
    monkeypatch.setattr(evaluate, "set_curves", lambda runs, sets, plan: seen.append(sets) or pd.DataFrame())
    add_set("mine", "ant", "bee")
    wanted = asked(params, {"faces": None}, "mine")
    embed.main(wanted, "tiny", "0")
    summary = {"test_domain": "sketch", "natural_domain": "real", "domains": ["real", "sketch"], "classes": WORDS}
    summary |= {"test_classes": WORDS[:6], "mixtures": [{"name": "tiny", "standard_name": "tiny"}]}
    write_json(Path("artifacts/mixtures/summary.json"), summary)
    evaluate.main(replace(wanted, mixtures=["tiny"], seeds=[0], evaluate=replace(wanted.evaluate, bootstrap=100)))
    assert seen == [["mine"], ["mine"]]


def test_tables_of_a_run_hang_on_sets_where_the_analysis_reads_them(params: Params, tmp_path: Path) -> None:
    def key(*, sets: bool) -> dict[str, object]:
        return runner._run_key(dataclasses.replace(find("cka"), reads_sets=sets), inputs(tmp_path))

    embed.main(asked(params, {"faces": "near"}), "tiny", "0")
    before = key(sets=False), key(sets=True)
    assert before[0] != before[1]
    embed.main(asked(params, {"faces": "far"}), "tiny", "0")
    assert key(sets=False) == before[0]
    assert key(sets=True) != before[1]


def test_the_bundled_set_from_git_to_an_index_with_groups(params: Params) -> None:
    paths = {"emoji-ood": str(REPOSITORY / "bundled/emoji-ood")}
    params = replace(params, fetch=replace(params.fetch, paths=paths, offline=True))
    fetch_set.main(params, "emoji-ood")
    pack_set.main(params, "emoji-ood")
    index, groups = read_index(SETS / "emoji-ood"), read_json(SETS / "emoji-ood" / GROUPS)
    assert len(index) == 521 and set(index["split"]) == {"test"}
    assert set(index["class"]) == set(groups) and len(groups) == 48
    assert groups["crying face"] == "near" and groups["up arrow"] == "far"
    assert index["domain"].nunique() == 6
    assert not (SHARDS / "emoji" / GROUPS).exists()


@pytest.mark.parametrize("flat", [False, True])
def test_any_folder_of_images(params: Params, tmp_path: Path, flat: bool) -> None:
    classes = [""] if flat else ["ant", "bee"]
    make_tree(tmp_path / "mine", *[f"{name}/{number}.png".lstrip("/") for name in classes for number in range(3)])
    params = asked(replace(params, fetch=replace(params.fetch, paths={"image-folder": str(tmp_path / "mine")})), {})
    fetch_set.main(params, "image-folder")
    pack_set.main(params, "image-folder")
    embed.main(asked(params, {"image-folder": "far"}), "tiny", "0")
    rows = inputs(tmp_path).set_embeddings("image-folder").rows
    assert rows["key"].tolist() == [f"{name}/{number}".lstrip("/") for name in classes for number in range(3)]
    assert set(rows["class"]) == ({"image-folder"} if flat else {"ant", "bee"})
    assert set(rows["group"]) == {"far"}


# Warnings and faults ------------------------------------------------------------------------------


@pytest.mark.parametrize("near_bits", [1, 2])
def test_what_the_set_shares_with_the_study_is_told(
    params: Params, caplog: pytest.LogCaptureFixture, near_bits: int
) -> None:
    add_set("odd", "Castle", "boy", "bear")
    index, own = read_index(SETS / "odd"), read_index(SHARDS / "emoji")
    like = "0123456789abcdef"
    index = index.assign(sha256=[f"{row:064}" for row in range(30)])
    write_index(SETS / "odd", index.assign(phash=[like if row in (3, 4) else "0" * 16 for row in range(30)]))
    own = own.assign(sha256=[f"{row + 29:064}" for row in range(48)])
    write_index(SHARDS / "emoji", own.assign(phash=[like[:-1] + "c" if row == 7 else "0" * 16 for row in range(48)]))
    wanted = replace(asked(params, {"odd": "near"}), mixing=replace(params.mixing, near_bits=near_bits))
    with caplog.at_level(logging.WARNING):
        embed.main(wanted, "tiny", "0")
    keys, others = index["key"], own["key"]
    said = [f"1 images of odd are images of emoji, for one {keys[29]}: {others[0]}"]
    if near_bits == 2:
        said += [f"2 images of odd look (within 2 bits) like images of emoji, for one {keys[3]}: {others[7]}"]
    said += [
        "2 of the 3 classes of odd are classes of emoji, too, so that they are not out of distribution: Castle, bear"
    ]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == said


def no_test_image(index: pd.DataFrame) -> pd.DataFrame:
    return index.assign(split="train")


def some_unnamed(index: pd.DataFrame) -> pd.DataFrame:
    return index.assign(**{"class": [None if row == 25 else "boy" for row in range(30)]})


def other_classes(index: pd.DataFrame) -> pd.DataFrame:
    return index.assign(**{"class": "girl"})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (no_test_image, "holds no test images: a source to evaluate on needs a test split$"),
        (some_unnamed, "has images with a class and 1 without: give all of them one$"),
        (other_classes, r"groups\.json does not give every class a group, near or far"),
    ],
)
def test_a_set_that_does_not_serve(params: Params, damage: Callable[[pd.DataFrame], pd.DataFrame], says: str) -> None:
    write_index(SETS / "faces", damage(read_index(SETS / "faces")))
    with pytest.raises(DataError, match=says):
        embed.main(asked(params, {"faces": None}), "tiny", "0")


def test_images_without_any_class_are_one_class_named_as_the_set(params: Params, tmp_path: Path) -> None:
    add_set("textures", None)
    embed.main(asked(params, {"textures": "far"}), "tiny", "0")
    rows = inputs(tmp_path).set_embeddings("textures").rows
    assert set(zip(rows["class"], rows["group"], strict=True)) == {("textures", "far")}


def test_a_set_of_which_nobody_says_how_near_it_is(params: Params) -> None:
    add_set("mine", "ant", "bee")
    with pytest.raises(DataError) as caught:
        embed.main(asked(params, {"mine": None}), "tiny", "0")
    assert told(caught.value) == (
        "embed.ood: nothing says how near mine is to the classes of emoji: give it a group, near or far"
    )


def test_an_ood_set_must_be_a_set(params: Params) -> None:
    with pytest.raises((ParameterError, ValueError), match="ood names 'faces', which is not among the sets"):
        replace(params.embed, ood={"faces": None})


def test_embeddings_of_another_studys_classes_are_refused(params: Params, tmp_path: Path) -> None:
    embed.main(asked(params, {"faces": None}), "tiny", "0")
    with pytest.raises(DataError, match="was made from other classes or domains than the mixtures"):
        inputs(tmp_path, [*WORDS[:-1], "yak"]).set_embeddings("faces")


def test_a_class_without_a_group_is_damage(params: Params, tmp_path: Path) -> None:
    embed.main(asked(params, {"faces": None}), "tiny", "0")
    meta = OUT / "sets/faces/meta.json"
    write_json(meta, read_json(meta) | {"groups": {"boy": "near"}})
    with pytest.raises(DataError, match=r"rows\.parquet has classes whose group meta\.json does not know"):
        inputs(tmp_path).set_embeddings("faces")
