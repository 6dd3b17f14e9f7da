"""`domix ood` of a list of models: classifiers, CLIP models and probes in one table, with correlations and figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file
from scipy import stats

from domix.analyses.ood.settings import Settings
from domix.cli.detection.heads import Head
from domix.cli.detection.scoring import Scored
from domix.cli.models import ood_models
from domix.cli.models.ood_models import accuracies, correlations, correlations_text, models_text, with_means
from domix.model.checkpoint import save_weights
from domix.ood.correlation import correlate
from domix.ood.neighbours import weighted_knn_accuracy
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from domix.settings.params import Params
from tests.commands import domix
from tests.ood_project import MODEL, write_folder, write_ood_project
from tests.public_models import VIT, tiny_clip, weights_of
from tests.tiny import WORDS

SETS = ("--id", "emoji", "--ood", "odd:far,strange:far")
LIST = f"""
models:
  - {{name: zero-shot, model: {MODEL}, group: CLIP, family: tiny}}
  - {{name: probed, model: {MODEL}, group: probe, family: tiny, features: tower, probe: labels}}
  - {{name: other, model: artifacts/models/clip/other-s0, group: CLIP}}
  - {{name: fine-tuned, model: timm12.safetensors, architecture: timm/test_resnet, group: classifier}}
  - {{name: IN21k, model: timm30.safetensors, architecture: timm/test_resnet, group: probe, probe: labels}}
"""


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The project of `domix ood`, with training images, another CLIP model, two classifiers and a list of all."""
    monkeypatch.chdir(tmp_path)
    made = write_ood_project(tmp_path)
    write_folder(Path("school"), dict.fromkeys(WORDS, 3), first=20)
    write_folder(Path("strange"), {"": 5}, first=7)
    other = Path("artifacts/models/clip/other-s0")
    other.mkdir(parents=True)
    torch.manual_seed(5)
    model = tiny_clip()
    with torch.no_grad():
        for tensor in model.visual.parameters():
            tensor += 0.3 * torch.randn_like(tensor)
    save_weights(model, other / "model.safetensors")
    write_json(other / "config.json", {"model": VIT})
    for outputs in (12, 30):
        torch.manual_seed(outputs)
        save_file(weights_of(timm.create_model("test_resnet", num_classes=outputs)), f"timm{outputs}.safetensors")
    Path("models.yaml").write_text(LIST, encoding="utf-8")
    return made


def printed(params: Params, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    domix(params, "ood", *arguments)
    return capsys.readouterr().out


def test_models_of_every_kind_stand_in_one_table(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    scores = ("--score", "knn,max_logit,mcm")
    said = printed(params, capsys, "models.yaml", *SETS, "--train", "school", *scores, "--out", "found")
    table = pd.read_csv("found/models.csv")
    assert list(dict.fromkeys(table["model"])) == ["zero-shot", "probed", "other", "fine-tuned", "IN21k"]
    assert dict(zip(table["model"], table["family"], strict=True))["other"] == "other"  # resembles nobody
    by_model = table.groupby("model")["score"].unique().map(set).to_dict()
    assert by_model["zero-shot"] == {"knn", "max_logit", "mcm"} and by_model["fine-tuned"] == {"knn", "max_logit"}
    assert "fine-tuned: left out: mcm compares images with class names, and timm/test_resnet has no text tower" in said
    one = table.drop_duplicates("model").set_index("model")
    assert one["zeroshot"].notna().tolist() == [True, True, True, False, False]
    assert one["head"].notna().tolist() == [False, True, False, True, True]
    assert one["knn"].notna().all() and one.loc["zero-shot", "zeroshot"] == one.loc["probed", "zeroshot"]
    capsys.readouterr()
    domix(
        params, "ood", MODEL, *SETS, "--train", "school", "--score", "knn", "--features", "tower", "--probe", "labels"
    )
    alone = capsys.readouterr().out.splitlines()
    row = next(line.split() for line in alone if line.split()[:2] == ["knn", "odd"])
    mine = table[(table["model"] == "probed") & (table["score"] == "knn") & (table["set"] == "odd")].iloc[0]
    assert row[4] == f"{100 * mine['auroc']:.1f}"
    assert f"balanced accuracy of the probe {100 * mine['head']:.1f} %" in alone[0]
    shown = [line.split() for line in said.splitlines()]
    assert ["probed", *(f"{100 * mine[what]:.1f}" for what in ("knn", "zeroshot", "head")), "knn", "odd"] in [
        line[:6] for line in shown
    ]
    related = pd.read_csv("found/correlations.csv", keep_default_na=False)
    whole = related[related["without"] == ""]
    assert set(whole["set"]) == {"odd", "strange", "mean, far"} and "accuracy and AUROC over models:" in said
    for row in whole.itertuples():
        assert Path(f"found/ood-{row.accuracy}-{row.score}-{row.set.replace(', ', '-')}.png").is_file()
    assert set(whole.loc[whole["accuracy"] == "knn", "models"]) == {5, 3}  # mcm of the three with a text tower


def test_neighbours_are_training_images_where_there_are_some() -> None:
    rng = np.random.default_rng(1)
    features, bank = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(9, 4)).astype(np.float32)
    labels, bank_labels = rng.integers(0, 3, 30), rng.integers(0, 3, 9)
    prototypes = np.eye(3, 4, dtype=np.float32)
    fixed = {"bank": bank, "labels": bank_labels, "prototypes": prototypes}
    reported = np.arange(30) < 20
    scored = Scored("m", features, features, None, fixed, reported, labels, Settings())
    some, mine = features[:20], labels[:20]
    found = accuracies(scored, reported)
    assert found["knn"] == weighted_knn_accuracy(some, mine, bank, bank_labels, k=9).top1
    right = (some @ prototypes.T).argmax(axis=1) == mine
    assert found["zeroshot"] == pytest.approx(np.mean([right[mine == label].mean() for label in range(3)]))
    assert np.isnan(found["head"])
    alone = accuracies(replace(scored, fixed={"prototypes": prototypes}), reported)
    assert alone["knn"] == weighted_knn_accuracy(some, mine, some, mine, k=19, exclude_self=True).top1
    head = Head(prototypes.astype(np.float64), np.zeros(3), True, "probe")
    assert accuracies(replace(scored, head=head), reported)["head"] == found["zeroshot"]
    assert np.isnan(accuracies(replace(scored, head=replace(head, is_known=False)), reported)["head"])


def rows(**columns: list) -> pd.DataFrame:
    base = {"kind": "CLIP", "score": "mcm", "set": "a", "group": "far", "protocol": "pooled", "images": 5}
    measures = dict.fromkeys(("aupr_id", "aupr_ood", "fpr95_plp", "fpr95_mcm", "fpr95_openood"), 0.5)
    return pd.DataFrame(columns).assign(**base, **measures)


def test_accuracy_and_auroc_are_correlated_over_the_models_that_have_both() -> None:
    rng = np.random.default_rng(0)
    accuracy, auroc = rng.random(7), rng.random(7)
    zeroshot = np.where(np.arange(7) < 5, accuracy[::-1], np.nan)
    table = rows(
        model=list("abcdefg"), family=list("xxyyzzz"), knn=list(accuracy), zeroshot=list(zeroshot), auroc=list(auroc)
    ).assign(head=np.nan)
    found = correlations(table)
    whole = found[found["without"] == ""].set_index("accuracy")
    assert list(whole.index) == ["knn", "zeroshot"] and whole["models"].tolist() == [7, 5]
    fit = stats.linregress(accuracy, auroc)
    assert whole.loc["knn", "r2"] == pytest.approx(fit.rvalue**2) and whole.loc["knn", "slope"] == pytest.approx(
        fit.slope
    )
    expected = correlate(accuracy, auroc).statistics["r2"].intervals["models"]
    assert (whole.loc["knn", "low"], whole.loc["knn", "high"]) == expected
    left = found[(found["without"] == "x") & (found["accuracy"] == "knn")].iloc[0]
    assert left["r2"] == pytest.approx(stats.linregress(accuracy[2:], auroc[2:]).rvalue ** 2) and left["models"] == 5
    alone = correlations(table.assign(family=table["model"]))
    assert set(alone["without"]) == {""}  # nobody resembles anybody
    assert correlations_text(found, 7).splitlines()[2].split()[:3] == ["knn", "mcm", "a"]


def test_of_two_models_or_equal_accuracies_there_is_no_correlation() -> None:
    table = rows(model=list("ab"), family=list("ab"), knn=[0.1, 0.2], auroc=[0.1, 0.2]).assign(
        zeroshot=np.nan, head=np.nan
    )
    assert correlations(table).empty
    assert correlations_text(correlations(table), 2) == (
        "no correlation of accuracy and AUROC: it needs 3 models that differ, and there are 2"
    )
    equal = pd.concat([table.assign(knn=0.5), table.assign(model=["c", "d"], knn=0.5)], ignore_index=True)
    assert correlations(equal).empty


def test_means_over_the_sets_of_a_group_are_correlated_too() -> None:
    table = rows(model=["m", "m"], family=["m", "m"], knn=[0.5, 0.5], auroc=[0.2, 0.6]).assign(
        set=["a", "b"], zeroshot=np.nan, head=np.nan
    )
    found = with_means(table).iloc[-1]
    assert found["set"] == "mean, far" and found["auroc"] == pytest.approx(0.4) and found["knn"] == 0.5
    assert models_text(table, "plp").splitlines()[1].split() == [
        *("m", "50.0", "-", "-", "mcm", "a", "far", "5", "20.0", "50.0", "50.0", "50.0")
    ]


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        (["models.yaml"], ParameterError, "--probe needs images of its own to be trained on: name them with --train"),
        (["models.yaml", "--json", "a.json"], ParameterError, "--json, --csv and --architecture are of one model"),
        ([MODEL, "--out", "found"], ParameterError, "--out holds tables and figures of several models"),
        (["none.yaml"], DataError, "none.yaml"),
        (["twice.yaml"], DataError, "twice.yaml names the model 'a' 2 times: give every model a name of its own"),
        (["absent.yaml"], DataError, "a: "),
        (["texts.yaml", "--score", "mcm"], ParameterError, "a: mcm compares images with class names, and timm/"),
    ],
)
def test_faults_are_one_sentence_and_write_nothing(
    params: Params, arguments: list[str], kind: type[Exception], says: str
) -> None:
    entry = "{name: a, model: timm12.safetensors, architecture: timm/test_resnet, group: g}"
    Path("twice.yaml").write_text(f"models: [{entry}, {entry}]", encoding="utf-8")
    Path("texts.yaml").write_text(f"models: [{entry}]", encoding="utf-8")
    Path("absent.yaml").write_text(f"models: [{entry.replace('timm12', 'nowhere')}]", encoding="utf-8")
    with pytest.raises(kind) as caught:
        domix(params, "ood", *arguments, *SETS)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert not Path("found").exists()


def test_lists_are_told_by_their_ending() -> None:
    assert ood_models.LISTS == (".yaml", ".yml", ".json")
