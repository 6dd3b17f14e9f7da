"""Hyper-parameters of the analysis `ood`, chosen on images that nothing is reported on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from domix.analyses.contract import StudyInputs
from domix.analyses.ood import words
from domix.analyses.ood.choosing import set_of, split_known, validation_images
from domix.analyses.ood.images import StudyImages, deal_parts, read_images
from domix.analyses.ood.models import model_rows
from domix.analyses.ood.settings import Settings
from domix.analyses.registry import find
from domix.ood.choice import GRIDS, grid_of, several, text_of
from domix.ood.metrics import auroc
from domix.ood.scores.registry import compute_score
from domix.runtime.errors import DataError, ParameterError
from tests.unit.test_ood_analysis import QUICK, RUNS, STUDY, add_set
from tests.unit.test_ood_analysis import inputs as inputs

KS = [8, 3, 1, 500]
CHOSEN = QUICK.model_copy(update={"scores": {"max_cosine": {}, "knn": {"k": KS, "metric": "cos-sim"}}})


def with_validation(name: str, **changes: Any) -> Settings:
    return CHOSEN.model_copy(update={"validation": name, **changes})


def tables_of(inputs: StudyInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    return dict(find("ood").run_jointly(inputs, settings).tables)


def images_of(inputs: StudyInputs) -> StudyImages:
    return read_images(inputs.of_run(RUNS[0]).embeddings_folder, RUNS[0], STUDY, "emoji", None)


# What is tried ---------------------------------------------------------------------------------------


def test_lists_are_tried_each_with_each_and_neighbours_no_more_than_there_are() -> None:
    options = {"k": [1, 5, 5], "metric": ["sim", "BC"], "temperature": 0.1}
    assert several(options) == ["k", "metric"] and several({"k": 1}) == []
    assert [text_of(one) for one in grid_of("knn", options, bank=5)] == [
        "k 1, metric sim, temperature 0.1",
        "k 1, metric BC, temperature 0.1",
        "k 5, metric sim, temperature 0.1",
        "k 5, metric BC, temperature 0.1",
    ]
    assert [one["k"] for one in grid_of("knn", options, bank=4)] == [1, 1]
    assert [one["k"] for one in grid_of("knn", {"k": [7, 9]}, bank=4)] == [7]  # which then is refused by name
    assert grid_of("mcm", {"temperature": 1.0}, bank=4)[0] == {"temperature": 1.0}
    assert len(grid_of("mcm", {"temperature": 1.0}, bank=4)) == len(GRIDS["mcm"])


def test_the_first_part_of_the_known_images_chooses() -> None:
    known = np.array([True, False, True, True])
    inside, reported = split_known(known, np.array([1, 0, 2]))
    assert inside.tolist() == [False, False, True, False] and reported.tolist() == [True, False, False, True]


def test_a_set_a_group_of_it_or_half_of_its_classes_chooses() -> None:
    rows = pd.DataFrame(
        [(s, f"{group}{k}", group) for s in ("signs", "faces") for group in ("near", "far") for k in range(5)] * 2,
        columns=["set", "class", "cells"],
    )
    assert set_of("signs") == ("signs", None) and set_of("a:b") == ("a:b", None) and set_of("a:far") == ("a", "far")
    assert validation_images(rows, "signs", 0).tolist() == (rows["set"] == "signs").tolist()
    near = validation_images(rows, "signs:near", 0)
    assert near.tolist() == ((rows["set"] == "signs") & (rows["cells"] == "near")).tolist()
    half = validation_images(rows, "signs:half", 0)
    found = rows[half]
    assert set(found["set"]) == {"signs"} and found.groupby("cells")["class"].nunique().to_dict() == {
        "near": 2,
        "far": 2,
    }
    assert len(found) == 8  # all images of a class
    assert (half == validation_images(rows, "signs:half", 0)).all()
    assert any((half != validation_images(rows, "signs:half", seed)).any() for seed in range(1, 5))
    message = "there are no images of moons:far to choose hyper-parameters on; sets that are embedded: signs, faces"
    with pytest.raises(DataError) as caught:
        validation_images(rows, "moons:far", 0)
    assert str(caught.value) == message


# What comes of it -------------------------------------------------------------------------------------


def test_the_best_on_the_validation_set_is_reported_on_other_images(inputs: StudyInputs) -> None:
    for run in RUNS:
        add_set(inputs.of_run(run).embeddings_folder, "more", sign=1.0)  # not as easily told as signs
    tables = tables_of(inputs, with_validation("more:near"))
    images = images_of(inputs)
    known, labels = images.known(STUDY), images.rows["label"].to_numpy()
    part, near = deal_parts(labels[known], 3, seed=0), images.groups(STUDY)["near", "more"]
    part_of = np.full(len(known), -1)
    part_of[known] = part

    def score(k: int) -> np.ndarray:
        fits = [
            compute_score(
                "knn",
                {"features": images.features, "bank": images.features[known & (part_of != number)]},
                k=k,
                metric="cos-sim",
            )
            for number in range(3)
        ]
        return np.where(known, np.choose(np.maximum(part_of, 0), fits), np.mean(fits, axis=0))

    inside, reported = split_known(known, part)
    expected = {k: auroc(score(k)[inside], score(k)[near]) for k in KS[:3]}
    best = max(expected, key=lambda k: expected[k])
    assert best != KS[0]
    tried = tables["options"].query("mixture == 'natural-only' and score == 'knn'").set_index("options")
    assert list(tried.index) == [f"k {k}, metric cos-sim" for k in KS[:3]]  # there are no 500
    assert tried["auroc"].tolist() == pytest.approx(list(expected.values()))
    assert tried.index[tried["chosen"]].tolist() == [f"k {best}, metric cos-sim"]
    assert set(tried["validation"]) == {"more:near"}
    assert (tried["n_known"] == inside.sum()).all() and (tried["n_ood"] == 12).all()
    metrics = tables["metrics"].query("mixture == 'natural-only' and score == 'knn' and metric == 'auroc'")
    assert set(metrics["group"]) == {"seen", "held_out", "tested", "near", "far"}
    far = metrics.query("group == 'far' and known == 'natural' and set == 'more'").iloc[0]
    others = images.groups(STUDY)["far", "more"]
    assert far["estimate"] == pytest.approx(auroc(score(best)[reported], score(best)[others]))
    assert far["n_known"] == reported.sum() == 12
    flags = tables["flags"].query("mixture == 'natural-only' and score == 'knn'")
    assert flags["n"].sum() == len(known) - inside.sum() - near.sum() and "validation" not in set(flags["cells"])
    assert set(metrics.query("group == 'near'")["set"]) == {"signs"}
    near_classes = tables["classes"].query("group == 'near'")
    assert set(near_classes["set"]) == {"signs"}


def test_accuracy_is_of_the_images_that_are_reported_on(inputs: StudyInputs) -> None:
    images = images_of(inputs)
    known = images.known(STUDY)
    inside, _ = split_known(known, deal_parts(images.rows["label"].to_numpy()[known], 3, seed=0))
    told = StudyImages(
        images.rows.assign(cells=images.rows["cells"].mask(inside, "validation")),
        *(images.features, images.prototypes, "emoji"),
    )
    expected = model_rows(RUNS[0], None, told, STUDY, {"mcm": np.arange(float(len(known)))})[0]["zeroshot"]
    models = tables_of(inputs, with_validation("signs:near"))["models"]
    found = models.query("mixture == 'natural-only'")["zeroshot"]
    assert found.tolist() == pytest.approx([expected] * len(found))


def test_fixed_scores_are_listed_and_move_nothing(inputs: StudyInputs) -> None:
    tables = tables_of(inputs, QUICK)
    assert tables["options"][["mixture", "score", "options", "chosen", "validation"]].to_numpy().tolist() == [
        [run.mixture, name, options, True, ""] for run in RUNS for name, options in (("max_cosine", ""), ("knn", "k 2"))
    ]
    assert tables["options"]["auroc"].isna().all()


def test_a_whole_set_chooses_beside_those_that_are_reported_on(inputs: StudyInputs) -> None:
    for run in RUNS:
        add_set(inputs.of_run(run).embeddings_folder, "more", sign=1.0)
    for sets in (None, ["signs"]):
        metrics = tables_of(inputs, with_validation("more", sets=sets))["metrics"]
        assert set(metrics["set"]) == {"emoji", "signs"}
    with pytest.raises(DataError, match=r"^there are no images of moons to choose .*: more, signs$"):
        tables_of(inputs, with_validation("moons"))


def test_too_few_known_images_cannot_choose_and_be_reported_on(inputs: StudyInputs) -> None:
    for run in RUNS:
        folder = inputs.of_run(run).embeddings_folder
        rows = pd.read_parquet(folder / "rows.parquet")
        keep = ~((rows["domain"] == "real") & rows["class"].isin(STUDY.seen_classes)).to_numpy()
        keep[np.flatnonzero(~keep)[:2]] = True
        rows[keep].reset_index(drop=True).to_parquet(folder / "rows.parquet")
        np.save(folder / "image.npy", np.load(folder / "image.npy")[keep])
    with pytest.raises(DataError, match="2 known images are too few to choose on some and report on others"):
        tables_of(inputs, with_validation("signs", folds=2))


# What is refused and said -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (
            {"scores": {"mcm": {"temperature": [1.0, 0.1]}}},
            "x.scores: mcm has values to choose from, but no set chooses: name one (validation: <set of embed.ood>), or"
            " give one value",
        ),
        ({"validation": "signs"}, "x.validation is signs, but scores has no list of values to choose from"),
        ({"scores": {"mcm": {"temperature": []}}}, "x.scores: mcm has an empty list of values"),
        (
            {"scores": {"mcm": {"temperature": [1.0, 2.0]}}, "validation": "signs", "sets": ["signs"]},
            "x.validation: signs would both choose hyper-parameters and be reported on: take it out of sets, or a part"
            " of it (signs:half)",
        ),
        (
            {"scores": {"mcm": {"temperature": [1.0, 2.0]}}, "validation": "signs:half", "sets": []},
            "x.validation is a part of signs, which is not among sets: add it there",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(block: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Settings.read(block, "x")
    assert str(caught.value) == says


def test_the_section_says_what_was_chosen_on_what() -> None:
    rows = [("a", 0, -1, "k 5", True), ("b", 0, -1, "k 1", True), ("c", 0, -1, "k 5", True), ("a", 0, -1, "k 1", False)]
    table = pd.DataFrame(
        [*rows, ("a", 0, 3, "k 9", True)], columns=["mixture", "seed", "checkpoint", "options", "chosen"]
    )
    table = table.assign(score="knn", validation="signs:half", n_known=40, n_ood=60)
    text = " ".join(words.choices(table).split())
    assert "by AUROC on 40 other known images and 60 of <em>signs:half</em>, which nothing is reported on" in text
    assert "knn: k 5 in a and c; k 1 in b." in text
    assert words.choices(table.assign(validation="")) == ""
    seeds = words.choices(pd.concat([table, table.assign(seed=1)]))
    assert "k 5 in a-s0, c-s0, a-s1 and c-s1" in " ".join(seeds.split())
