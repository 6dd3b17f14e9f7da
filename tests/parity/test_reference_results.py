"""The reference's results.json against its own way of counting: scikit-learn's scores, class by class."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score

from domix.evaluate.reference_results import Answers, arrays, results, results_topk
from domix.evaluate.robustness import Judged
from domix.evaluate.zeroshot import rank_true
from domix.study import Study

CLASSES = [f"thing_{k}" for k in range(12)]
TESTED = ["thing_2", "thing_5", "thing_7"]
DOMAINS = ["clipart", "real", "sketch"]
STUDY = Study("sketch", "real", tuple(TESTED), tuple(DOMAINS), tuple(CLASSES))
STEPS = [0, 1, 2]
IMAGENET = Judged(np.array([0, 1, 1, 2, 2]), np.array([0, 1, 0, 0, 1]), np.array([1, 1, 3, 2, 4]))


@pytest.fixture(scope="module")
def scores() -> tuple[pd.DataFrame, np.ndarray]:
    """Return images and the scores [E, N, K] of three checkpoints; the sketches have none of the class 11."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"domain": np.repeat(["real", "sketch"], [90, 60]), "label": rng.integers(0, 12, 150)})
    rows.loc[(rows["domain"] == "sketch") & (rows["label"] == 11), "label"] = 2
    made = rng.normal(size=(3, 150, 12)).astype(np.float32)
    made[:, np.arange(150), rows["label"]] += np.array([0.0, 1.0, 2.0])[:, None]
    return rows, made


@pytest.fixture(scope="module")
def answers(scores) -> Answers:
    rows, made = scores
    said = [rank_true(each, np.eye(12, dtype=np.float32), rows["label"].to_numpy(dtype=np.int64)) for each in made]
    predicted, rank = (np.stack(part) for part in zip(*said, strict=True))
    return Answers(STEPS, rows, predicted, rank, [IMAGENET] * 3)


def test_results_have_exactly_the_references_keys(answers) -> None:
    tree = results(answers, STUDY)
    assert list(tree) == ["steps", "classes", "domain", "imagenet-val", "domainnet-val"]
    assert (tree["steps"], tree["classes"], tree["domain"]) == (STEPS, ["thing 2", "thing 5", "thing 7"], "sketch")
    assert tree["imagenet-val"] == {"accuracy": {"total": [0.4] * 3}}
    parts = ("lso-ood", "lso-id", "thing 2-ood", "thing 5-ood", "thing 7-ood")
    counted = {f"{domain}-{part}" for domain in ("sketch", "real") for part in parts}
    measured = counted | {f"{d}-lso-unweighted-{g}" for d in ("sketch", "real") for g in ("ood", "id")}
    assert set(tree["domainnet-val"]["accuracy"]) == measured
    assert set(tree["domainnet-val"]["num-samples"]) == counted
    assert all(len(series) == 3 for part in tree["domainnet-val"].values() for series in part.values())
    json.dumps(tree, allow_nan=False)
    assert "imagenet-val" not in results(answers, STUDY, imagenet=False)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("domain", ["sketch", "real"])
def test_numbers_are_scikit_learns(scores, answers, domain: str, k: int) -> None:
    rows, made = scores
    tree = results(answers, STUDY)["domainnet-val"] if k == 1 else results_topk(answers, STUDY, k)["domainnet-val"]
    accuracy = tree["accuracy" if k == 1 else f"top-{k}-accuracy"]
    labels = np.arange(12)
    ood = [CLASSES.index(name) for name in TESTED]
    for step, logits in enumerate(made):
        here = (rows["domain"] == domain).to_numpy()
        truth, own = rows["label"].to_numpy()[here], logits[here]

        def score(mask: np.ndarray, truth=truth, own=own) -> float:
            if k == 1:
                return accuracy_score(truth[mask], own[mask].argmax(axis=1))
            return top_k_accuracy_score(truth[mask], own[mask], k=k, labels=labels)

        tested = np.isin(truth, ood)
        assert accuracy[f"{domain}-lso-ood"][step] == pytest.approx(score(tested))
        assert accuracy[f"{domain}-lso-id"][step] == pytest.approx(score(~tested))
        by_class = {label: score(truth == label) for label in labels if (truth == label).any()}
        for label in ood:
            assert accuracy[f"{domain}-thing {label}-ood"][step] == pytest.approx(by_class[label])
            assert tree["num-samples"][f"{domain}-thing {label}-ood"][step] == (truth == label).sum()
        means = {True: [], False: []}
        for label, value in by_class.items():
            means[label in ood].append(value)
        assert accuracy[f"{domain}-lso-unweighted-ood"][step] == pytest.approx(np.mean(means[True]))
        assert accuracy[f"{domain}-lso-unweighted-id"][step] == pytest.approx(np.mean(means[False]))
        if k > 1:
            for mask, group in ((tested, "ood"), (~tested, "id")):
                said = own[mask].argmax(axis=1)
                wanted = f1_score(truth[mask], said, average="macro", labels=np.unique(truth[mask]))
                assert tree["f1-score"][f"{domain}-lso-{group}"][step] == pytest.approx(wanted)


def test_top_k_results_name_imagenet_by_the_same_scheme(answers) -> None:
    tree = results_topk(answers, STUDY, 3)
    f1 = f1_score(IMAGENET.label, IMAGENET.predicted, average="macro")
    assert tree["imagenet-val"] == {
        "top-3-accuracy": {"total": [0.8] * 3},
        "f1-score": {"total": [pytest.approx(f1)] * 3},
    }
    assert list(tree["domainnet-val"]) == ["top-3-accuracy", "f1-score", "num-samples"]


def test_a_class_without_images_has_no_accuracy_and_is_in_no_mean(answers) -> None:
    study = replace(STUDY, test_classes=("thing_2", "thing_11"))
    tree = results(answers, study)["domainnet-val"]
    assert tree["accuracy"]["sketch-thing 11-ood"] == [None] * 3
    assert tree["num-samples"]["sketch-thing 11-ood"] == [0] * 3
    assert tree["accuracy"]["sketch-lso-unweighted-ood"] == tree["accuracy"]["sketch-thing 2-ood"]


def test_arrays(scores, answers) -> None:
    rows, made = scores
    kept = arrays(answers, STUDY)
    assert kept["domain_labels"].tolist() == rows["label"].tolist()
    assert kept["domain_pred"].shape == (3, 150)
    assert (kept["domain_pred"] == made.argmax(axis=2)).all()
    assert kept["domain_ids"].tolist() == [1] * 90 + [2] * 60
    assert kept["val_pred"].tolist() == [[0, 1, 0, 0, 1]] * 3 and kept["val_labels"].tolist() == [0, 1, 1, 2, 2]
    assert {array.dtype for array in kept.values()} == {np.dtype(np.int64)}
    assert "val_pred" not in arrays(Answers(STEPS, rows, answers.predicted, answers.rank), STUDY)
