"""AUROC, AUPR and FPR95: the three conventions against the references' formulas, ties, edges, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from domix.ood.metrics import CONVENTIONS, aupr, auroc, fpr95, id_accuracy
from domix.runtime.errors import DataError, ParameterError


def two_normals() -> tuple[np.ndarray, np.ndarray]:
    """ID N(1, 1), OOD N(0, 2): the convention decides between 63 and 99 %."""
    rng = np.random.default_rng(0)
    return rng.normal(1, 1, 5000), rng.normal(0, 2, 3000)


def roc(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truth = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    return reference.roc_curve(truth, np.r_[inside, outside], drop_intermediate=False)


def plp_literally(inside: np.ndarray, outside: np.ndarray) -> float:
    fpr, tpr, _ = roc(inside, outside)
    return float(np.interp(0.95, tpr, fpr))


def mcm_literally(inside: np.ndarray, outside: np.ndarray) -> float:
    score = np.r_[inside, outside]
    true = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    order = np.argsort(score, kind="mergesort")[::-1]
    score, true = score[order], true[order]
    ends = np.r_[np.where(np.diff(score))[0], true.size - 1]
    tps = np.cumsum(true)[ends]
    fps = 1 + ends - tps
    recall = tps / tps[-1]
    last = tps.searchsorted(tps[-1])
    recall, fps = np.r_[recall[last::-1], 1], np.r_[fps[last::-1], 0]
    return float(fps[np.argmin(np.abs(recall - 0.95))] / len(outside))


def openood_literally(inside: np.ndarray, outside: np.ndarray) -> float:
    fpr, tpr, _ = roc(-outside, -inside)
    return float(fpr[np.argmax(tpr >= 0.95)])


LITERALLY = {"plp": plp_literally, "mcm": mcm_literally, "openood": openood_literally}


def test_the_conventions_differ_on_the_same_scores() -> None:
    inside, outside = two_normals()
    assert round(auroc(inside, outside), 4) == 0.6661
    found = {name: round(fpr95(inside, outside, convention=name), 3) for name in CONVENTIONS}
    assert found == {"plp": 0.634, "mcm": 0.634, "openood": 0.991}


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("decimals", [0, 1, 2, 9])
def test_fpr95_is_its_formula_with_ties_and_small_sets(convention: str, decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    for count in (1, 2, 5, 19, 20, 21, 40, 41, 100, 200, 203):
        for other in (1, 3, 20, 40, 97):
            inside, outside = (rng.normal(1, 1, count).round(decimals), rng.normal(0, 1.5, other).round(decimals))
            expected = LITERALLY[convention](inside, outside)
            assert fpr95(inside, outside, convention=convention) == pytest.approx(expected, abs=1e-12), (count, other)


def test_where_tpr_is_just_95_percent_plp_takes_the_largest_fpr() -> None:
    inside = np.r_[np.arange(1.0, 20.0) + 10, 0.0]  # 19 of 20 above 10
    outside = np.array([20.5, 15.5, 9.0, 8.0, 7.0, -1.0])
    assert fpr95(inside, outside, convention="plp") == pytest.approx(5 / 6)
    assert fpr95(inside, outside, convention="mcm") == pytest.approx(5 / 6)


def test_of_two_recalls_as_close_mcm_takes_the_higher() -> None:
    inside, outside = np.array([5.0] * 9 + [1.0]), np.array([6.0, 3.0, 0.0, 0.5])
    assert fpr95(inside, outside, convention="mcm") == mcm_literally(inside, outside)


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_areas_are_those_of_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(7)
    inside, outside = rng.normal(1, 1, 300).round(decimals), rng.normal(0, 2, 200).round(decimals)
    truth, score = np.r_[np.ones(300), np.zeros(200)], np.r_[inside, outside]
    assert auroc(inside, outside) == pytest.approx(reference.roc_auc_score(truth, score), abs=1e-12)
    for positive, y, s in (("id", truth, score), ("ood", 1 - truth, -score)):
        assert aupr(inside, outside, positive=positive) == pytest.approx(reference.average_precision_score(y, s))
        precision, recall, _ = reference.precision_recall_curve(y, s)
        area = reference.auc(recall, precision)
        assert aupr(inside, outside, positive=positive, rule="trapezoid") == pytest.approx(area, abs=1e-12)


def test_ties_count_half_and_better_id_scores_are_good() -> None:
    assert auroc(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert auroc(np.array([2.0, 1.0]), np.array([1.0])) == 0.75
    assert auroc(np.array([3.0]), np.array([1.0, 2.0])) == 1.0


def test_arguments_stay_as_they_are() -> None:
    inside, outside = two_normals()
    before = inside.copy(), outside.copy()
    auroc(inside, outside), fpr95(inside, outside, convention="plp"), aupr(inside, outside, positive="ood")
    assert np.array_equal(inside, before[0]) and np.array_equal(outside, before[1])


def test_accuracy_of_id_images() -> None:
    assert id_accuracy(np.array([[1.0, 2.0], [2.0, 1.0], [0.0, 1.0]]), np.array([1, 0, 0])) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match=r"^the labels are of shape \(1,\), but there are 2 images: give one label an"):
        id_accuracy(np.zeros((2, 3)), np.array([1]))


def test_what_is_no_set_of_scores_is_told() -> None:
    good = np.array([1.0, 2.0])
    with pytest.raises(DataError, match=r"^the scores of the OOD images are empty: give a set with images$"):
        auroc(good, good[:0])
    with pytest.raises(DataError, match=r"^the scores of the ID images are not finite \(nan of image 1\)"):
        fpr95(np.array([1.0, np.nan]), good, convention="plp")
    with pytest.raises(DataError, match=r"^the scores of the ID images are of shape \(1, 2\): give one score an image"):
        aupr(good[None], good, positive="id")
    with pytest.raises(ParameterError, match=r"^there is no convention 'pytorch' of FPR95, but plp, mcm, openood$"):
        fpr95(good, good, convention="pytorch")
    with pytest.raises(ParameterError, match="'id' or 'ood', not 'in'"):
        aupr(good, good, positive="in")
    with pytest.raises(ParameterError, match="'step' or 'trapezoid', not 'x'"):
        aupr(good, good, positive="id", rule="x")
