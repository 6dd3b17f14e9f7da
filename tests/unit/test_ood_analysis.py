"""Which images of a study count as known and foreign, and what is said of scores whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from domix.analyses.contract import Shared, StudyInputs
from domix.analyses.ood.flags import class_rows, flag_rows, threshold
from domix.analyses.ood.images import StudyImages, deal_parts, read_images, score_images
from domix.analyses.ood.models import correlation_rows, model_rows
from domix.analyses.ood.resampled import Case, difference_rows, known_images, measure, metric_rows
from domix.analyses.ood.settings import Settings
from domix.analyses.registry import find
from domix.data.mixtures.composition import CELLS
from domix.embed.embeddings import load_embeddings, write_about
from domix.ood.metrics import fpr95
from domix.ood.neighbours import weighted_knn_accuracy
from domix.ood.resampling import Resampled
from domix.ood.scores.registry import compute_score
from domix.runs import Run
from domix.runtime.errors import DataError
from domix.runtime.files import read_json, write_json
from domix.study import Study
from tests.fakes import DOMAINS, make_index, write_embeddings

CLASSES = [f"class_{k}" for k in range(10)]
INDEX = make_index({name: [1] * 10 for name in DOMAINS}, 3, classes=CLASSES)
RUNS = (Run("clip", "natural-only", 0), Run("clip", "cg-low", 0))
STUDY = Study(
    *("clipart", "real", tuple(CLASSES[:4]), DOMAINS, tuple(CLASSES), RUNS),
    {"natural-only": "natural-only", "cg-low": "cg-low"},
)
QUICK = Settings(scores={"max_cosine": {}, "knn": {"k": 2}}, shown="knn", resamples=60, folds=3)


def add_set(folder: Path, name: str, *, sign: float = -1.0) -> None:
    """Embed a set of 24 foreign images opposite the study's own, half of them near, in two domains."""
    own = load_embeddings(folder)
    home = folder / "sets" / name
    home.mkdir(parents=True)
    rows = own.rows.iloc[:24].assign(label=-1, domain=["real", "sketch"] * 12)
    rows["class"] = ["hand"] * 12 + ["arrow"] * 12
    np.save(home / "image.npy", sign * own.image_embeddings[:24])
    np.save(home / "text.npy", own.text)
    meta = {name: own.meta[name] for name in ("model_sha256", "source", "classes")}
    write_about(home, rows, meta | {"groups": {"hand": "near", "arrow": "far"}})


@pytest.fixture
def inputs(tmp_path: Path) -> StudyInputs:
    """A study of two runs with a set of foreign images; the second run reads every image, the first half of them."""
    for number, run in enumerate(RUNS):
        folder = tmp_path / "embeddings/clip" / run.name
        write_embeddings(folder, INDEX, width=12, seed=number, right=lambda *_, number=number: 0.5 + number / 2)
        add_set(folder, "signs")
    held = [("natural-only", d, c, int(d == "real")) for d in DOMAINS for c in CLASSES]
    held += [("cg-low", d, c, 2 * (d == "real" or (d == "clipart" and c > "class_3"))) for _, d, c, _ in held[:60]]
    cells = pd.DataFrame(held, columns=["mixture", "domain", "class", "samples"])
    CELLS.write(cells, tmp_path / "mixtures/cells.parquet")
    return StudyInputs(STUDY, ("emoji",), tmp_path, tmp_path / "cache", Shared(0.9, 6, "none", 8))


@pytest.fixture
def images(inputs: StudyInputs) -> StudyImages:
    return read_images(inputs.of_run(RUNS[0]).embeddings_folder, RUNS[0], STUDY, "emoji", None)


def run_jointly(inputs: StudyInputs, settings: Settings = QUICK) -> dict[str, pd.DataFrame]:
    return dict(find("ood").run_jointly(inputs, settings).tables)


# Which images are what ------------------------------------------------------------------------------


def test_known_are_seen_classes_in_the_natural_domain(images: StudyImages, inputs: StudyInputs) -> None:
    rows = images.rows[images.known(STUDY)]
    assert set(rows["domain"]) == {"real"} and set(rows["class"]) == set(CLASSES[4:]) and len(rows) == 18
    assert rows["label"].tolist() == sorted([0, 1, 2, 3, 4, 5] * 3)
    text = load_embeddings(inputs.of_run(RUNS[0]).embeddings_folder).text
    np.testing.assert_array_equal(images.prototypes, text[4:])


def test_groups_are_what_is_told_from_the_known_images(images: StudyImages) -> None:
    groups = images.groups(STUDY)
    described = {
        group: (set(images.rows[at]["domain"]), set(images.rows[at]["class"]), int(at.sum()))
        for group, at in groups.items()
    }
    assert described == {
        ("seen", "emoji"): ({"clipart"}, set(CLASSES[4:]), 18),
        ("held_out", "emoji"): ({"clipart"}, set(CLASSES[:4]), 12),
        ("tested", "emoji"): ({"real"}, set(CLASSES[:4]), 12),
        ("near", "signs"): ({"real", "sketch"}, {"hand"}, 12),
        ("far", "signs"): ({"real", "sketch"}, {"arrow"}, 12),
    }


def test_the_full_spectrum_counts_the_test_domains_seen_classes_as_known(images: StudyImages) -> None:
    known = images.known(STUDY)
    which = known_images(known, images.groups(STUDY))
    assert which["natural"].sum() == 18 and which["full"].sum() == 36
    assert set(images.rows[which["full"]]["domain"]) == {"real", "clipart"}
    assert list(known_images(known, {})) == ["natural"]


def test_sets_are_chosen_by_name(inputs: StudyInputs) -> None:
    folder = inputs.of_run(RUNS[0]).embeddings_folder
    none = read_images(folder, RUNS[0], STUDY, "emoji", [])
    assert len(none.rows) == 180 and list(none.groups(STUDY)) == [(n, "emoji") for n in ("seen", "held_out", "tested")]
    with pytest.raises(DataError, match=r"holds no foreign images of faces, but of signs"):
        read_images(folder, RUNS[0], STUDY, "emoji", ["faces"])


# Scores ---------------------------------------------------------------------------------------------


def test_parts_hold_as_many_images_and_no_class_twice_where_that_can_be() -> None:
    labels = np.repeat(np.arange(7), 3)
    part = deal_parts(labels, 4, seed=1)
    assert np.bincount(part).tolist() == [6, 5, 5, 5]
    assert all(len(set(part[labels == label])) == 3 for label in range(7))
    assert (part == deal_parts(labels, 4, seed=1)).all() and (part != deal_parts(labels, 4, seed=2)).any()


def test_no_image_is_compared_with_itself_and_others_get_the_mean_of_all_fits(images: StudyImages) -> None:
    known = images.known(STUDY)
    part = deal_parts(images.rows["label"].to_numpy()[known], 3, seed=0)
    options = {"k": 1, "metric": "cos-sim"}
    found = score_images(images, known, "knn", options, logit_scale=1.0, part=part)
    places = np.flatnonzero(known)
    cosines = images.features @ images.features[places].T
    for row, place in enumerate(places):
        assert found[place] == pytest.approx(np.exp(cosines[place][part != part[row]].max()), rel=1e-5)
    far = int(np.flatnonzero(~known)[5])
    fits = [np.exp(cosines[far][part != number].max()) for number in range(3)]
    assert found[far] == pytest.approx(np.mean(fits), rel=1e-5)


def test_labels_of_the_bank_are_those_of_its_images(images: StudyImages) -> None:
    known = images.known(STUDY)
    labels = images.rows["label"].to_numpy()
    part = deal_parts(labels[known], 2, seed=0)
    options = {"weights": "size", "shrinkage": 0.5}
    found = score_images(images, known, "mahalanobis", options, logit_scale=1.0, part=part)
    places = np.flatnonzero(known)
    left, right = places[part == 0], places[part == 1]
    given = {"features": images.features[left], "bank": images.features[right], "labels": labels[right]}
    np.testing.assert_allclose(found[left], compute_score("mahalanobis", given, **options))


def test_logits_are_scaled_cosines(images: StudyImages) -> None:
    known = images.known(STUDY)
    part = np.zeros(18, np.int64)
    found = score_images(images, known, "max_logit", {}, logit_scale=50.0, part=part)
    np.testing.assert_allclose(found, 50 * (images.features @ images.prototypes.T).max(axis=1), rtol=1e-5)


# Flags and classes ----------------------------------------------------------------------------------


def test_the_threshold_is_the_highest_that_keeps_95_percent_of_the_known() -> None:
    assert threshold(np.arange(100.0)) == 5
    assert threshold(np.arange(20.0)) == 1
    assert threshold(np.arange(19.0)) == 0  # 18 of 19 are too few


def test_flags_count_what_lies_below_the_threshold(images: StudyImages) -> None:
    known = images.known(STUDY)
    values = np.where(images.rows["domain"] == "sketch", -1.0, 1.0)
    values[known] = 0.0
    cells = pd.DataFrame(
        [("cg-low", "clipart", "class_9", 3), ("cg-low", "clipart", "class_0", 0)], columns=CELLS.names
    )
    run = Run("clip", "cg-low", 0)
    table = pd.DataFrame(flag_rows({run: {"mcm": values}}, images, known, cells, STUDY, 0.95))
    rows = table.set_index(["set", "domain", "cells"])
    assert rows.loc[("emoji", "sketch", "seen"), ["n", "flagged", "share"]].tolist() == [18, 18, 1.0]
    assert rows.loc[("emoji", "real", "seen"), "flagged"] == 0  # on the threshold is not below it
    assert rows.loc[("signs", "sketch", "near"), ["n", "flagged"]].tolist() == [6, 6]
    assert rows.loc[("emoji", "sketch", "seen"), "low"] == pytest.approx(0.025 ** (1 / 18))
    assert rows.index[rows["trained"]].tolist() == [("emoji", "clipart", "seen")]
    assert table["n"].sum() == len(images.rows)


def test_classes_of_foreign_groups_are_measured_each(images: StudyImages) -> None:
    known, groups = images.known(STUDY), images.groups(STUDY)
    values = np.random.default_rng(0).normal(size=len(known))
    table = pd.DataFrame(class_rows({RUNS[0]: {"mcm": values}}, images, known, groups))
    assert table.groupby("group")["class"].nunique().to_dict() == {"held_out": 4, "near": 1, "far": 1}
    row = table[(table["group"] == "held_out") & (table["class"] == "class_2")].iloc[0]
    at = groups["held_out", "emoji"] & (images.rows["class"] == "class_2").to_numpy()
    both = np.concatenate([values[known], values[at]])
    assert row["n"] == 3 and row["auroc"] == pytest.approx(roc_auc_score([1] * 18 + [0] * 3, both))


# Metrics and differences ----------------------------------------------------------------------------


def scored(images: StudyImages, *runs: Run) -> dict[Run, dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    return {run: {"mcm": rng.normal(size=len(images.rows)) + (images.known(STUDY))} for run in runs}


def test_metrics_are_of_known_images_against_each_group(images: StudyImages) -> None:
    scores, known, groups = scored(images, RUNS[0]), images.known(STUDY), images.groups(STUDY)
    measured = measure(scores, known, groups, QUICK)
    table = pd.DataFrame(metric_rows(scores, known, groups, measured, 0.9))
    assert set(table["metric"]) == {"auroc", "fpr95", "aupr_id", "aupr_ood"}
    values = scores[RUNS[0]]["mcm"]
    for known_name, inside in known_images(known, groups).items():
        at = groups["held_out", "emoji"]
        rows = table[(table["known"] == known_name) & (table["group"] == "held_out")].set_index("metric")
        truth = [1] * int(inside.sum()) + [0] * 12
        expected = roc_auc_score(truth, np.concatenate([values[inside], values[at]]))
        assert rows.loc["auroc", "estimate"] == pytest.approx(expected)
        assert rows.loc["auroc", "low"] < expected < rows.loc["auroc", "high"]
        assert rows.loc["auroc", ["n_known", "n_ood"]].tolist() == [inside.sum(), 12]
        assert np.isnan(rows.loc["aupr_id", "low"])
    assert set(table[table["known"] == "full"]["group"]) == {"held_out", "tested", "near", "far"}


def test_of_several_sets_of_a_group_the_mean_is_told_too(inputs: StudyInputs) -> None:
    for run in RUNS:
        add_set(inputs.of_run(run).embeddings_folder, "more", sign=1.0)
    table = run_jointly(inputs)["metrics"]
    rows = table[(table["metric"] == "auroc") & (table["score"] == "knn") & (table["mixture"] == "cg-low")]
    near = rows[(rows["group"] == "near") & (rows["known"] == "natural")].set_index("set")
    assert list(near.index) == ["more", "signs", "mean"]
    assert near.loc["mean", "estimate"] == pytest.approx(near.loc[["more", "signs"], "estimate"].mean())
    assert near.loc["mean", "n_ood"] == 24
    assert "mean" not in set(rows[rows["group"] == "held_out"]["set"])


def test_differences_are_paired_and_averaged_over_seeds(images: StudyImages) -> None:
    runs = [Run("clip", mixture, seed) for mixture in ("natural-only", "cg-low") for seed in (0, 1)]
    study = replace(STUDY, runs=(*runs, Run("clip", "cg-low", 2)))
    scores = scored(images, *study.runs)
    measured = measure(scores, images.known(STUDY), images.groups(STUDY), QUICK)
    table = pd.DataFrame(difference_rows(study, measured, 0.9))
    assert set(zip(table["mixture_a"], table["mixture_b"], strict=True)) == {("cg-low", "natural-only")}
    row = table[(table["group"] == "far") & (table["metric"] == "auroc") & (table["known"] == "natural")].iloc[0]
    case = Case("mcm", "far", "signs", "natural")
    ours, theirs = ([measured[run][case] for run in pair] for pair in (runs[2:], runs[:2]))
    assert row["difference"] == pytest.approx(np.mean([a.auroc - b.auroc for a, b in zip(ours, theirs, strict=True)]))
    change = np.mean([a.aurocs - b.aurocs for a, b in zip(ours, theirs, strict=True)], axis=0)
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(change, [0.05, 0.95])))
    assert row["seeds"] == 2


def test_equal_models_do_not_differ(images: StudyImages) -> None:
    mine = scored(images, RUNS[0])[RUNS[0]]
    measured = measure(dict.fromkeys(RUNS, mine), images.known(STUDY), images.groups(STUDY), QUICK)
    case = Case("mcm", "near", "signs", "full")
    np.testing.assert_array_equal(measured[RUNS[0]][case].aurocs, measured[RUNS[1]][case].aurocs)
    table = pd.DataFrame(difference_rows(STUDY, measured, 0.9))
    assert (table["difference"] == 0).all()


def test_conventions_seeds_and_numbers_of_resamples_are_those_asked_for(images: StudyImages) -> None:
    scores, known, groups = scored(images, RUNS[0]), images.known(STUDY), images.groups(STUDY)
    case = Case("mcm", "held_out", "emoji", "natural")

    def found(**changes: Any) -> Resampled:
        return measure(scores, known, groups, QUICK.model_copy(update=changes))[RUNS[0]][case]

    values = scores[RUNS[0]]["mcm"]
    for convention in ("plp", "mcm", "openood"):
        expected = fpr95(values[known], values[groups["held_out", "emoji"]], convention=convention)
        assert found(convention=convention).fpr95 == expected
    assert len(found(resamples=7).aurocs) == 7
    assert (found().aurocs == found().aurocs).all() and (found().aurocs != found(seed=1).aurocs).any()


# All together ---------------------------------------------------------------------------------------


def test_the_tables_of_a_study_are_those_declared(inputs: StudyInputs) -> None:
    tables = run_jointly(inputs)
    assert {name: len(table) > 0 for name, table in tables.items()} == dict.fromkeys(tables, True) | {
        "correlations": False  # of two models
    }
    auroc = tables["metrics"][(tables["metrics"]["metric"] == "auroc") & (tables["metrics"]["group"] == "near")]
    assert (auroc.loc[auroc["mixture"] == "cg-low", "estimate"] > 0.9).all()  # they lie opposite
    models = tables["models"].drop_duplicates("mixture").set_index("mixture")
    assert models.loc["cg-low", "zeroshot"] == 1.0 and models.loc["natural-only", "zeroshot"] < 0.9
    again = run_jointly(inputs)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, again[name])


def test_accuracy_of_a_model_is_balanced_over_seen_classes(images: StudyImages) -> None:
    known = images.known(STUDY)
    labels = images.rows["label"].to_numpy()[known]
    right = (images.features[known] @ images.prototypes.T).argmax(axis=1) == labels
    rows = model_rows(RUNS[0], 7, images, STUDY, {"mcm": np.arange(float(len(known)))})
    assert rows[0]["zeroshot"] == pytest.approx(np.mean([right[labels == k].mean() for k in range(6)]))
    assert {row["checkpoint"] for row in rows} == {7} and len(rows) == 5
    features = images.features[known]
    votes = weighted_knn_accuracy(features, labels, features, labels, k=17, temperature=0.02, exclude_self=True)
    assert rows[0]["knn"] == votes.top1


def test_balance_counts(images: StudyImages) -> None:
    """Of one class all images but one are left out, and that one is right."""
    known = images.known(STUDY)
    kept = ~(known & (images.rows["class"] == "class_9").to_numpy())
    kept[np.flatnonzero(~kept)[0]] = True
    features = images.features.copy()
    features[np.flatnonzero(known)] = images.prototypes[0]
    features[np.flatnonzero(known & (images.rows["class"] == "class_9").to_numpy())] = images.prototypes[5]
    few = StudyImages(images.rows[kept].reset_index(drop=True), features[kept], images.prototypes, "emoji")
    rows = model_rows(RUNS[0], None, few, STUDY, {"mcm": np.arange(float(kept.sum()))})
    assert rows[0]["zeroshot"] == pytest.approx(2 / 6)  # the first class and the last; 4 of 16 images


def test_checkpoints_are_points_of_the_correlation_too(inputs: StudyInputs) -> None:
    for run in RUNS:
        folder = inputs.of_run(run).embeddings_folder
        for home in (folder, folder / "sets/signs"):
            kept = home / "checkpoints/002"
            kept.mkdir(parents=True)
            np.save(kept / "image.npy", -np.load(home / "image.npy").astype(np.float16))
            np.save(kept / "text.npy", np.load(home / "text.npy"))
    tables = run_jointly(inputs)
    points = tables["models"][["mixture", "checkpoint"]].drop_duplicates()
    assert points.itertuples(index=False, name=None).__next__() == ("natural-only", 2) and len(points) == 4
    assert set(tables["correlations"]["n"]) == {4}
    assert set(tables["metrics"]["mixture"]) == {"natural-only", "cg-low"}
    last = tables["models"][tables["models"]["checkpoint"] < 0]
    assert (last.groupby("mixture")["zeroshot"].first() > 0.4).all()


def test_correlations_are_those_of_accuracy_and_auroc() -> None:
    models = pd.DataFrame({"zeroshot": [0.1, 0.2, 0.4, 0.8], "knn": 0.5, "auroc": [0.5, 0.6, 0.6, 0.9]})
    models = models.assign(score="mcm", group="near", set="signs")
    (row,) = correlation_rows(models, 0.95, resamples=50, seed=0)
    assert row["accuracy"] == "zeroshot" and row["n"] == 4  # neighbours do equally well in all
    assert row["r2"] == pytest.approx(np.corrcoef(models["zeroshot"], models["auroc"])[0, 1] ** 2)
    assert row["slope"] == pytest.approx(np.polyfit(models["zeroshot"], models["auroc"], 1)[0])
    assert correlation_rows(models.iloc[:2], 0.95, resamples=50, seed=0) == []


# Faults ---------------------------------------------------------------------------------------------


def test_tables_hang_on_all_that_is_read(inputs: StudyInputs) -> None:
    from domix.analyses.ood.computation import joint_key

    before = joint_key(inputs, QUICK)
    assert "cells" in before and "cg-low-s0/sets/signs/image.npy" in before and "cg-low-s0/rows.parquet" in before
    path = inputs.of_run(RUNS[1]).embeddings_folder / "sets/signs/image.npy"
    np.save(path, -np.load(path))
    assert joint_key(inputs, QUICK) != before


def test_too_few_known_images_are_told(inputs: StudyInputs) -> None:
    short = replace(inputs, study=replace(STUDY, test_classes=tuple(CLASSES[:9])))
    with pytest.raises(DataError, match=r"^3 real images of classes that are no test classes are too few"):
        run_jointly(short, Settings(folds=5))


def test_runs_of_other_images_are_refused(inputs: StudyInputs) -> None:
    folder = inputs.of_run(RUNS[1]).embeddings_folder
    meta = read_json(folder / "sets/signs/meta.json")
    write_json(folder / "sets/signs/meta.json", meta | {"groups": {"hand": "far", "arrow": "near"}})
    with pytest.raises(DataError, match="cg-low-s0 is of other images than the run before it"):
        run_jointly(inputs)


def test_a_score_that_cannot_be_computed_is_named(inputs: StudyInputs) -> None:
    with pytest.raises(DataError, match=r"^the score knn: the bank has 12 images and 40 neighbours are asked for"):
        run_jointly(inputs, Settings(scores={"knn": {"k": 40}}, shown="knn", folds=3))
