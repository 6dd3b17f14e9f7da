"""`domix ood`: a model, known images and foreign sets, packed or in folders of the user's, in one table."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domix.analyses.ood.settings import Settings
from domix.cli.detection.output import shown_table
from domix.cli.detection.scoring import Scored, settings_of
from domix.cli.detection.sets import open_foreign, open_known
from domix.cli.models import ood as command
from domix.embed.clip import open_subject
from domix.embed.feature_model import of_clip
from domix.embed.image_sets import embed_classes, embed_images
from domix.ood.metrics import auroc, fpr95
from domix.ood.scores.registry import compute_score
from domix.project.embedding import means_of
from domix.runtime.errors import DataError, ParameterError
from domix.settings.params import Params
from tests.commands import domix
from tests.ood_project import MODEL, printed, write_folder, write_ood_project
from tests.tiny import WORDS

COLUMNS = ["score", "set", "group", "images", "AUROC", "AUPR-in", "AUPR-out", "FPR95"]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project as write_ood_project makes it, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_ood_project(tmp_path)


def test_a_table_of_scores_and_sets_is_printed(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    first, table = printed(params, capsys, "--id", "emoji", "--ood", "odd:far", "--score", "mcm,knn")
    assert first.startswith("known: 48 images of 12 classes of emoji; balanced zero-shot accuracy ")
    assert list(table) == COLUMNS
    assert table[["score", "set", "group", "images"]].to_numpy().tolist() == [
        ["mcm", "odd", "far", "8"],
        ["knn", "odd", "far", "8"],
    ]
    subject, context = open_subject(Path(MODEL)), means_of(params)
    known = open_known(params, "emoji", None)
    prototypes = embed_classes(subject, [[f"a {name}."] for name in WORDS], context)
    model = of_clip(subject, "joint", name="tiny", device="cpu")
    foreign = embed_images(model, open_foreign(params, "odd:far", known), context)
    assert prototypes.shape == (12, 16) and foreign.shape == (8, 16)
    np.testing.assert_allclose(np.linalg.norm(foreign, axis=1), 1, rtol=1e-5)
    inside, outside = (
        compute_score("mcm", {"features": features, "prototypes": prototypes})
        for features in (embed_images(model, known, context), foreign)
    )
    assert table.loc[0, "AUROC"] == f"{100 * auroc(inside, outside):.1f}"
    assert table.loc[0, "FPR95"] == f"{100 * fpr95(inside, outside, convention='plp'):.1f}"


def test_nothing_is_computed_twice(params: Params, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    before = printed(params, capsys, "--id", "emoji", "--ood", "odd:far", "--score", "mcm")
    packed = sorted(Path(".cache/folders").rglob("*.tar"))

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("computed a second time")

    monkeypatch.setattr("domix.embed.image_sets.encode", refuse)
    monkeypatch.setattr("domix.embed.image_sets.class_prototypes", refuse)
    monkeypatch.setattr("domix.data.pack.packing.pack", refuse)
    again = printed(params, capsys, "--id", "emoji", "--ood", "odd:far", "--score", "mcm")
    assert again[0] == before[0]
    pd.testing.assert_frame_equal(again[1], before[1])
    assert sorted(Path(".cache/folders").rglob("*.tar")) == packed and len(packed) == 1


def test_a_folder_that_has_changed_is_read_again(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--id", "emoji", "--ood", "odd:far", "--score", "mcm")
    printed(params, capsys, *arguments)
    write_folder(Path("odd"), {"": 2}, first=5)
    assert printed(params, capsys, *arguments)[1]["images"].tolist() == ["10"]


def test_known_images_may_lie_in_folders_of_classes_that_a_file_names(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(Path("mine"), {"n01": 3, "n02": 3}, first=2)
    Path("names.txt").write_text("apple\n\nbear\n", encoding="utf-8")
    arguments = ("--id", "mine", "--ood", "odd:near", "--score", "max_cosine")
    first, plain = printed(params, capsys, *arguments)
    assert "6 images of 2 classes of mine" in first
    named = printed(params, capsys, *arguments, "--classes", "names.txt")[1]
    assert named.loc[0, "AUROC"] != plain.loc[0, "AUROC"] or named.loc[0, "AUPR-in"] != plain.loc[0, "AUPR-in"]
    assert open_known(params, "mine", Path("names.txt")).classes == ["apple", "bear"]


def test_templates_and_conventions_are_those_asked_for(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(command, "embed_classes", lambda subject, prompts, context: seen.append(prompts) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        domix(params, "ood", MODEL, "--id", "emoji", "--ood", "odd:far", "--templates", "the {} here")
    assert seen[0] == [[f"the {name} here"] for name in WORDS]


def test_means_stand_below_the_sets_of_a_group() -> None:
    rows = [("mcm", "a", "far", 4, 0.5), ("mcm", "b", "far", 5, 0.7), ("mcm", "c", "near", 6, 0.9)]
    measures = ["auroc", "aupr_id", "aupr_ood", "fpr95_plp", "fpr95_mcm", "fpr95_openood"]
    table = pd.DataFrame(
        [
            {"score": s, "set": n, "group": g, "protocol": "pooled", "images": i} | dict.fromkeys(measures, v)
            for s, n, g, i, v in rows
        ]
    ).assign(fpr95_mcm=0.25)
    lines = shown_table(table, "mcm").to_string(index=False).splitlines()
    assert [line.split()[:4] for line in lines[1:4]] == [["mcm", n, g, str(i)] for _, n, g, i, _ in rows]
    assert lines[4].split() == ["mcm", "mean,", "far", "far", "60.0", "60.0", "60.0", "25.0"]


def test_results_are_written_in_the_layouts_of_others(params: Params, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(Path("strange"), {"": 5}, first=7)
    sets = ("--id", "emoji", "--ood", "odd:far,strange:near")
    with caplog.at_level(logging.WARNING):
        domix(params, "ood", MODEL, *sets, "--score", "mcm,energy,knn,gen", "--json", "out.json")
    assert "gen is left out of out.json" in caplog.text
    listed = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert [one["out_dist"] for one in listed] == ["odd", "strange"]
    assert {name: type(value) for name, value in listed[0]["auroc"].items()} == {
        "msp": list,
        "free_energy": list,
        "knn": float,
    }
    assert listed[0]["auroc"]["msp"][0]["temp"] == 1.0
    assert listed[0]["auroc"]["free_energy"][0]["temp"] == 0.01  # of plain cosines
    domix(params, "ood", MODEL, *sets, "--score", "mcm", "--csv", "out.csv")
    table = pd.read_csv("out.csv")
    assert table["dataset"].tolist() == ["strange", "nearood", "odd", "farood"]
    subject, context, known = open_subject(Path(MODEL)), means_of(params), open_known(params, "emoji", None)
    prototypes = embed_classes(subject, [[f"a {name}."] for name in WORDS], context)
    model = of_clip(subject, "joint", name="tiny", device="cpu")
    right = (embed_images(model, known, context) @ prototypes.T).argmax(axis=1) == known.rows["label"]
    assert set(table["ACC"]) == {round(100 * float(right.mean()), 2)}
    assert table.loc[2, "AUROC"] == round(listed[0]["auroc"]["msp"][0]["auroc"], 2)


def test_what_a_set_shares_with_the_known_images_is_told(params: Params, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(Path("mine"), {"ant": 3, "bee": 3})
    with caplog.at_level(logging.WARNING):
        domix(params, "ood", MODEL, "--id", "mine", "--ood", "odd:far", "--score", "mcm")
    assert "images of odd are images of mine, for one 00: ant/00" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        (["--ood", "odd"], DataError, "nothing says how near odd is to the classes of emoji: give it a group"),
        (["--ood", "nowhere:far"], ParameterError, "there is no packed source and no folder nowhere: give one"),
        (["--ood", "empty:far"], DataError, "holds no"),
        (["--ood", "odd:far,odd:near"], ParameterError, "two of the sets are called odd: name each once"),
        (["--ood", "odd:far", "--score", "mmc"], ParameterError, "there is no score 'mmc': did you mean mcm?"),
        (["--ood", "odd:far", "--score", "vim"], ParameterError, "vim needs a linear head, which artifacts"),
        (["--ood", "odd:far", "--csv", "a.csv"], ParameterError, "--csv holds the results of one score"),
        (["--ood", "odd:far", "--templates", "hello"], ParameterError, "sentences with {} for the class"),
        (["--ood", "odd:far", "--classes", "names.txt"], DataError, "names.txt names 1 classes, but emoji has 12"),
    ],
)
def test_faults_are_one_sentence_and_write_nothing(
    params: Params, arguments: list[str], kind: type[Exception], says: str
) -> None:
    Path("empty").mkdir()
    Path("names.txt").write_text("apple", encoding="utf-8")
    with pytest.raises(kind) as caught:
        domix(params, "ood", MODEL, "--id", "emoji", *arguments)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert not Path("a.csv").exists()


def test_known_images_need_classes(params: Params) -> None:
    with pytest.raises(DataError, match="odd has images without a class"):
        domix(params, "ood", MODEL, "--id", "odd", "--ood", "emoji:far")


def test_known_images_must_be_compared_with_others(params: Params) -> None:
    write_folder(Path("mine"), {"ant": 1})
    with pytest.raises(DataError, match=r"^mine has one image: give two known ones at least"):
        domix(params, "ood", MODEL, "--id", "mine", "--ood", "odd:far")
    write_folder(Path("mine"), {"bee": 1}, first=2)
    with pytest.raises(DataError, match=r"^the score mahalanobis: no class of the bank has two images"):
        domix(params, "ood", MODEL, "--id", "mine", "--ood", "odd:far")
    domix(params, "ood", MODEL, "--id", "mine", "--ood", "odd:far", "--score", "mcm,knn")


def test_scores_have_the_hyper_parameters_of_the_analysis(params: Params) -> None:
    settings = Settings(scores={"knn": {"k": 3}}, shown="knn")
    rows = np.eye(4, dtype=np.float32)
    scored = Scored("m", rows, rows, None, {"prototypes": rows}, np.ones(4, np.bool_), np.arange(4), settings)
    assert scored.choose(["knn", "gen"], validated=False) == {"knn": {"k": 3}, "gen": {}}
    assert scored.choose([], validated=False) == {"knn": {"k": 3}}
    assert settings_of(params).scores == Settings().scores
