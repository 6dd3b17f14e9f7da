"""The closer look and the numbers beside the study's models follow from the tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from domix.report.figures import effective, learning
from domix.report.load.study import load_results
from domix.report.page import drilldown
from domix.report.tables import other_models, plot_data, summary
from domix.runtime.errors import DataError
from domix.runtime.tables import read_table, write_table
from tests.fake_evaluation import PUBLIC, SUPERVISED, write_further
from tests.fake_report import CONFIDENCE, MIXTURES, Fake, image


@pytest.fixture(scope="module")
def fake(tmp_path_factory) -> Fake:
    made = Fake(tmp_path_factory.mktemp("study"), seeds=[0, 1], classes=12, test_classes=6)
    made.write()
    write_further(made, checkpoints=4)
    return made


@pytest.fixture(scope="module")
def study(fake):
    return load_results(fake.folder, fake.mixtures, fake.seeds, CONFIDENCE, supervised=SUPERVISED, public=PUBLIC)


def test_confused_pairs_are_counted_and_ordered():
    said = [("cat", "dog", 2), ("cat", "dog", 5), ("cat", "cat", 1), ("hat", "cap", 9), ("hat", "cup", 2)]
    rows = pd.DataFrame(said, columns=["class", "predicted", "rank"]).assign(row=range(5))
    pairs = drilldown.confused(rows, image)
    assert [(p.truth, p.said, p.count, p.of) for p in pairs] == [
        ("cat", "dog", 2, 3),
        ("hat", "cap", 1, 2),
        ("hat", "cup", 1, 2),
    ]
    assert all(p.uri.startswith("data:image/webp;base64,") for p in pairs)
    given = drilldown.answers(rows)
    assert (given[0].name, given[0].given, given[0].right, given[0].bear) == ("dog", 2, 0, 0)
    assert ("cat", 1, 1, 3) in [(a.name, a.given, a.right, a.bear) for a in given]


def test_most_improved_images_are_read_now_and_were_not_before(study):
    views = {view.mixture: view for view in drilldown.mixtures(study, image)}
    assert views["natural-only"].improved == [] and views["natural-only"].worsened == []
    improved = views["cg-high-all"].improved
    assert improved and all(change.after == 1 < change.before for change in improved)
    assert [c.before for c in improved] == sorted((c.before for c in improved), reverse=True)
    assert all(change.before == 1 < change.after for view in views.values() for change in view.worsened)
    ranks = study.predictions.query("domain == 'clipart' and mixture == 'natural-only'")
    means = np.exp(np.log(ranks["rank"]).groupby(ranks["row"]).mean())
    assert max(change.before for change in improved) <= means.max() + 1e-9
    row = summary.pick(summary.estimates(study), "cg-low", "real", "tested")
    assert row is not None
    assert views["cg-low"].measured["real"][0] == row.drop(["mixture", "domain", "cells"]).to_dict()


def test_every_class_shows_its_images_and_what_was_said(study):
    views = drilldown.classes(study, image)
    assert [view.name for view in views] == sorted(name.replace("_", " ") for name in study.test_classes)
    assert all(len(view.examples) == view.n for view in views)
    assert all([guess[0] for guess in e.guesses] == MIXTURES for view in views for e in view.examples)


def test_other_models_stand_beside_and_never_among_the_mixtures(study):
    assert set(study.metrics["kind"]) == {"clip"} and set(study.predictions["kind"]) == {"clip"}
    rows = other_models.result_table(study)
    assert [(row["mixture"], row["kind"]) for row in rows] == [
        ("cg-high", "classifier"),
        ("natural-only", "classifier"),
        ("public-small", "public model"),
    ]
    flat = other_models.results(study)
    own = summary.results(study)
    assert not set(flat) & set(own)
    assert (
        flat["supervised.cg-high.held_out.balanced_top1"] == own["cg-high.held_out.balanced_top1"]
    )  # as they are made
    assert flat["public.public-small.natural.n"] == own["cg-high.natural.n"]


def test_over_several_seeds_the_headline_covers_their_choice(study):
    flat = summary.results(study) | other_models.results(study)
    row = study.further.mixtures.query("kind == 'clip' and mixture == 'cg-low' and cells == 'held_out'").iloc[0]
    assert flat["cg-low.held_out.balanced_top1.low"] == pytest.approx(row["low"], abs=5e-5)
    assert flat["cg-low.held_out.seeds"] == 2
    assert flat["cg-low.held_out.minus_baseline.detectable"] == 0.071


def test_one_seed_adds_nothing_over_seeds(tmp_path):
    made = Fake(tmp_path, classes=12, test_classes=6)
    made.write()
    write_further(made, checkpoints=1)
    flat = other_models.results(load_results(made.folder, made.mixtures, made.seeds, CONFIDENCE))
    assert not any(key.startswith(("supervised.", "public.")) for key in flat)


def test_a_model_asked_for_that_was_not_evaluated_is_named(fake):
    with pytest.raises(DataError, match=r"holds nothing for the public model big seed 0$"):
        load_results(fake.folder, fake.mixtures, fake.seeds, CONFIDENCE, public=["big"])


def test_learning_curves_need_checkpoints(study, tmp_path):
    assert [name for name, _ in learning.learning(study)] == ["held_out", "seen", "natural"]
    assert [mixture for mixture, _ in learning.learning(study)[0][1]] == MIXTURES
    made = Fake(tmp_path, classes=12, test_classes=6)
    assert learning.learning(load_results(made.write(), made.mixtures, made.seeds, CONFIDENCE)) == []


def test_last_weights_alone_are_no_learning_curve(study):
    """Their epochs differ from mixture to mixture, as a small mixture is seen more often."""
    curves = study.further.curves
    last = curves[curves["checkpoint"] == curves["checkpoint"].max()]
    last = last.assign(checkpoint=last["checkpoint"] + last["mixture"].astype("category").cat.codes)
    alone = replace(study, further=replace(study.further, curves=last))
    assert learning.learning(alone) == [] and plot_data.frames(alone)["curves"].empty
    one = pd.concat([last, curves[curves["mixture"] == "cg-high"]]).drop_duplicates()
    mixed = replace(study, further=replace(study.further, curves=one))
    assert {mixture for _, panels in learning.learning(mixed) for mixture, _ in panels} == {"cg-high"}


def test_effective_robustness_is_that_of_the_last_checkpoint(study):
    trend, *others = effective.effective(study)
    assert [trend.transform, *(other.transform for other in others)] == ["logit", "probit", "linear"]
    rows = study.further.effective.query("mixture == 'cg-high' and checkpoint == 3 and transform == 'logit'")
    mine = next(row for row in trend.rows if row["model"] == "cg-high")
    assert mine["above"] == pytest.approx((rows["y"] - rows["expected"]).mean()) and mine["seeds"] == 2


def test_robustness_is_a_row_a_set_model_and_label_space(study):
    rows = other_models.robustness_table(study)
    keys = [(row["set"], row["model"], row["labels"]) for row in rows]
    assert len(set(keys)) == len(keys) == 3 * (len(MIXTURES) + 3)
    mine = next(row for row in rows if keys[rows.index(row)] == ("imagenet_r", "cg-high (classifier)", "subset"))
    table = study.further.robustness.query("kind == 'supervised' and mixture == 'cg-high' and set == 'imagenet_r'")
    table = table[(table["labels"] == "subset") & (table["metric"] == "top1")]
    assert mine["metrics"]["top1"]["estimate"] == pytest.approx(table["estimate"].mean()) and mine["seeds"] == 2


def test_curves_for_dvc_are_of_the_pages_panels(study):
    frame = plot_data.frames(study)["curves"]
    assert set(frame["images"]) == {"held_out", "seen", "natural"} and set(frame["checkpoint"]) == {0, 1, 2, 3}


def test_an_unfinished_study_holds_what_is_complete(tmp_path):
    made = Fake(tmp_path, seeds=[0, 1], classes=12, test_classes=6)
    folder = made.write()
    (folder / "models/clip/cg-low-s0/log.csv").unlink()
    frame = read_table(folder / "eval/metrics.parquet")
    write_table(folder / "eval/metrics.parquet", frame[frame["mixture"] != "cg-high"])
    umap = read_table(folder / "analysis/separation/umap.parquet")
    write_table(folder / "analysis/separation/umap.parquet", umap[umap["mixture"] != "natural-only"])
    asked = {"analyses": ["separation", "cka", "leakage"], "unfinished": True}
    study = load_results(folder, made.mixtures, made.seeds, CONFIDENCE, **asked)
    assert study.mixtures == ["natural-only", "leave-out-domain", "cg-low", "cg-high-all"]
    assert study.missing == [
        "the evaluation of cg-low seed 0",
        "the evaluation of cg-high seed 0",
        "the evaluation of cg-high seed 1",
        "natural-only seed 0 in separation/umap.parquet",
        "natural-only seed 1 in separation/umap.parquet",
    ]
    first = study.first(study.predictions)
    assert dict(zip(first["mixture"], first["seed"], strict=True))["cg-low"] == 1
    with pytest.raises(DataError, match=r"metrics\.parquet holds nothing for cg-high seed 0"):
        load_results(folder, made.mixtures, made.seeds, CONFIDENCE)
    for model in (folder / "models/clip").iterdir():
        (model / "done.json").unlink()
    with pytest.raises(DataError, match=r"no run of .* is both trained and evaluated yet"):
        load_results(folder, made.mixtures, made.seeds, CONFIDENCE, unfinished=True)
