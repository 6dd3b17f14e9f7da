"""Nearest neighbours in blocks, the k-NN graph, weighted k-NN accuracy, statistics of features."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from domix.ood import blocks as block_module
from domix.ood import quantised, search
from domix.ood.gaussians import fit_background, fit_gaussians, standardisation, whitening
from domix.ood.neighbours import knn_graph, weighted_knn_accuracy
from domix.ood.search import nearest
from domix.runtime.errors import DataError, ParameterError

ROWS = np.random.default_rng(0).normal(0.4, 1, (150, 9))
COSINES = (ROWS @ ROWS.T) / np.linalg.norm(ROWS, axis=1) / np.linalg.norm(ROWS, axis=1)[:, None]


@pytest.fixture(params=[(16, 32, 1 << 28), (7, 5, 1), (2048, 8192, 1 << 28)])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut queries and bank into blocks of several sizes."""
    for name, value in zip(("QUERIES", "BANK", "HELD"), request.param, strict=True):
        monkeypatch.setattr(search, name, value)


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("k", [1, 3, 149])
def test_no_image_is_its_own_neighbour_in_any_block(k: int) -> None:
    others = COSINES.copy()
    np.fill_diagonal(others, -np.inf)
    order = np.argsort(-others, axis=1, kind="stable")[:, :k]
    found = knn_graph(ROWS, k)
    assert np.array_equal(found.place, order)
    assert np.allclose(found.similarity, np.take_along_axis(others, order, axis=1))


@pytest.mark.usefixtures("sizes")
def test_a_bank_may_come_in_parts_and_in_half_precision() -> None:
    whole, parts = nearest(ROWS[:40], ROWS, 4), nearest(ROWS[:40], [ROWS[:1], ROWS[1:90], ROWS[90:]], 4)
    assert np.array_equal(whole.place, parts.place)
    assert np.array_equal(whole.place[:, 0], np.arange(40))  # itself, for it is not left out here
    half = nearest(ROWS[:40].astype(np.float32), ROWS.astype(np.float16), 1)
    assert np.array_equal(half.place[:, 0], np.arange(40))


@pytest.mark.usefixtures("sizes")
def test_of_rows_as_near_the_first_counts() -> None:
    twice = np.concatenate([ROWS[:20], ROWS[:20], ROWS[:20]])
    assert np.array_equal(nearest(ROWS[:20], twice, 1).place[:, 0], np.arange(20))
    assert np.array_equal(nearest(ROWS[:20], twice, 2).place, np.arange(20)[:, None] + [0, 20])


def literal_accuracy(k: int, temperature: float, first: int) -> float:
    labels, right = np.arange(150) % 7, 0
    for row in range(50):
        order = np.argsort(-COSINES[row, 50:], kind="stable")[:k]
        votes = np.zeros(7)
        for place in order:
            votes[labels[50 + place]] += np.exp(COSINES[row, 50 + place] / temperature)
        ranked = [c for c in np.argsort(-votes, kind="stable")[:first] if votes[c] > 0]
        right += labels[row] in ranked
    return right / 50


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize(("k", "temperature"), [(20, 0.02), (3, 0.02), (60, 1.0)])
def test_neighbours_vote_by_their_likeness(k: int, temperature: float) -> None:
    labels = np.arange(150) % 7
    found = weighted_knn_accuracy(ROWS[:50], labels[:50], ROWS[50:], labels[50:], k=k, temperature=temperature)
    assert found.top1 == literal_accuracy(k, temperature, 1)
    assert found.top5 == literal_accuracy(k, temperature, 5)


def test_classes_without_a_vote_are_never_right() -> None:
    bank = np.eye(3)
    found = weighted_knn_accuracy(np.array([[1.0, 0.1, 0.0]] * 3), np.array([2, 1, 9]), bank, np.array([0, 1, 2]), k=2)
    assert found.top5 == pytest.approx(1 / 3)  # class 2 has no vote, class 9 is not in the bank
    own = weighted_knn_accuracy(bank, np.arange(3), bank, np.arange(3), k=2, exclude_self=True)
    assert own.top1 == own.top5 == 0.0


def test_statistics_are_unbiased_exact_and_streamed() -> None:
    rows = ROWS * 1e-3 + 1e6
    for batches in (rows, [rows[:1], rows[1:5], rows[:0], rows[5:]], iter([rows[:70], rows[70:]])):
        found = standardisation(batches)
        assert np.allclose(found.mean, rows.mean(axis=0), rtol=1e-14)
        assert np.allclose(found.std, rows.std(axis=0, ddof=1), rtol=1e-6)
    half = standardisation(iter([ROWS.astype(np.float16)] * 2))
    assert half.mean.dtype == np.float64


def test_dead_dimensions_are_divided_by_epsilon() -> None:
    rows = ROWS.copy()
    rows[:, 3] = 7.0
    found = standardisation(rows)
    assert found.std[3] == 0.0
    standard = found.apply(rows)
    assert np.isfinite(standard).all() and (standard[:, 3] == 0).all()
    assert np.allclose(standard[:, 0], (rows[:, 0] - rows[:, 0].mean()) / rows[:, 0].std(ddof=1))
    assert found.apply(np.full((1, 9), 8.0), epsilon=0.5)[0, 3] == 2.0
    with pytest.raises(DataError, match=r"^there are 1 images: a standard deviation needs two$"):
        standardisation(ROWS[:1])
    with pytest.raises(DataError, match=r"^a batch has 8 dimensions, those before it 9"):
        standardisation(iter([ROWS, ROWS[:, :8]]))


def test_classes_without_two_images_have_no_part_in_equal_weights() -> None:
    labels = np.repeat([0, 2, 5], [80, 69, 1])
    equal, size = fit_gaussians(ROWS, labels), fit_gaussians(ROWS, labels, weights="size")
    assert equal.classes.tolist() == [0, 2] and size.classes.tolist() == [0, 2, 5]
    assert np.allclose(equal.covariance, (np.cov(ROWS[:80].T) + np.cov(ROWS[80:149].T)) / 2)
    assert np.allclose(size.means[2], ROWS[149])
    with pytest.raises(DataError, match=r"^no class of the bank has two images: a covariance needs them$"):
        fit_gaussians(ROWS[:3], np.arange(3))
    with pytest.raises(ParameterError, match=r"^classes are weighed 'equal' or by 'size', not 'none'$"):
        fit_gaussians(ROWS, labels, weights="none")


def test_shrinkage_makes_an_inverse_where_there_is_none() -> None:
    rows = ROWS.copy()
    rows[:, 3] = 7.0
    covariance = np.cov(rows.T)
    message = r"^the covariance of the features has no inverse \(dimension 3 is constant\): set shrinkage or ridge"
    with pytest.raises(DataError, match=message):
        whitening(covariance)
    with pytest.raises(DataError, match=r"no inverse \(more dimensions than images span\)"):
        whitening(np.cov(ROWS[:5].T))
    for shrinkage, ridge in ((0.1, 0.0), (0.0, 0.2), (0.3, 0.1)):
        shrunk = (1 - shrinkage) * covariance + (shrinkage * np.trace(covariance) / 9 + ridge) * np.eye(9)
        white = whitening(covariance, shrinkage=shrinkage, ridge=ridge)
        assert np.allclose(white @ white.T, np.linalg.inv(shrunk))
    steep = np.diag(10.0 ** -np.arange(0, 18, 2))  # has an inverse only by its eigenvalues, or by a part of the ridge
    with pytest.raises(DataError, match=r"no inverse \(more dimensions than images span\)"):
        whitening(steep)
    for ridge in (2.2e-15, 1e-14, 1e-9):
        white = whitening(steep, ridge=ridge)
        assert np.allclose(white @ white.T, np.diag(1 / (np.diag(steep) + ridge)), rtol=1e-9)
    with pytest.raises(ParameterError, match=r"^shrinkage is 1\.1: give a share in 0\.\.1$"):
        whitening(covariance, shrinkage=1.1)
    with pytest.raises(ParameterError, match=r"^ridge is -1: give a number from 0$"):
        whitening(covariance, ridge=-1)


def test_what_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"^the bank has 149 images, the image itself left out, and 150 neighbours are"):
        knn_graph(ROWS, 150)
    with pytest.raises(ParameterError, match=r"^k is 0: give a number of neighbours from 1, or -1 for all$"):
        nearest(ROWS, ROWS, 0)
    with pytest.raises(DataError, match=r"^the features have 9 dimensions, the bank's 8: give them of one encoder$"):
        nearest(ROWS, ROWS[:, :8], 1)
    with pytest.raises(DataError, match=r"^there are 149 images and 150 in the bank: give the same to leave out"):
        nearest(ROWS[1:], ROWS, 1, exclude_self=True)
    with pytest.raises(DataError, match=r"^the features are empty: give a set with images$"):
        nearest(ROWS[:0], ROWS, 1)
    with pytest.raises(DataError, match=r"^the bank's features are of shape \(9,\): give arrays"):
        nearest(ROWS, ROWS[0], 1)
    bad = ROWS.copy()
    bad[140, 2] = np.nan
    with pytest.raises(DataError, match=r"^the bank's features are not finite \(row 140\): mend or leave out"):
        nearest(ROWS, [bad[:7], bad[7:]], 1)
    with pytest.raises(DataError, match=r"^the labels are of shape \(3,\), but there are 150 images: give one label"):
        fit_gaussians(ROWS, np.arange(3))
    with pytest.raises(DataError, match=r"^the labels are no whole numbers from 0: number the classes so$"):
        fit_gaussians(ROWS, np.full(150, -1))
    assert block_module.unit(np.zeros((1, 3))).tolist() == [[0, 0, 0]]


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("weights", ["equal", "size"])
@pytest.mark.parametrize("parts", [[50, 50, 50], [80, 69, 1], [75, 74, 1], [75, 0, 75], [49, 50, 51]])
def test_the_background_follows_where_classes_weigh_alike(weights: str, parts: list[int]) -> None:
    found = fit_gaussians(ROWS + 1e3, np.repeat([0, 2, 5], parts), weights=weights)
    alike = len({part for part in parts if part > 1}) == 1
    assert (found.background is not None) == (alike or weights == "size")
    expected = np.cov(ROWS.T, ddof=weights == "equal")
    assert np.allclose(fit_background(ROWS + 1e3, found.mean, weights=weights), expected, rtol=1e-9)
    if found.background is not None:
        assert np.allclose(found.background, expected, rtol=1e-9)


@pytest.mark.usefixtures("sizes")
def test_the_likeness_of_weighed_rows_is_multiplied() -> None:
    weights = np.random.default_rng(2).normal(1, 1, 150)
    found = nearest(
        ROWS[:40],
        [ROWS[:70], ROWS[70:]],
        3,
        likeness=search.Likeness(block_module.unit, block_module.unit, weights=weights),
    )
    order = np.argsort(-COSINES[:40] * weights, axis=1)[:, :3]
    assert np.array_equal(found.place, order)
    assert np.allclose(found.similarity, np.take_along_axis(COSINES[:40] * weights, order, axis=1), rtol=1e-12)


def clusters(count: int, kind: str) -> np.ndarray:
    """Rows in single precision: of no structure, with one dimension far larger than the rest, or with twins."""
    rng = np.random.default_rng(8)
    rows = rng.normal(0, 1, (count, 24)) + rng.normal(0, 1, (7, 24))[np.arange(count) % 7]
    rows[:, 5] += 300 if kind == "outlier" else 0
    rows[count // 2 :] = rows[: count - count // 2] if kind == "twins" else rows[count // 2 :]
    return rows.astype(np.float32)


@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("kind", ["plain", "outlier", "twins", "weighed"])
def test_products_of_8_bit_numbers_find_the_same_neighbours(
    monkeypatch: pytest.MonkeyPatch, kind: str, k: int, exclude_self: bool
) -> None:
    for name, value in {"QUERIES": 16, "BANK": 32, "LARGE": 64, "MANY": 1, "HELD": 1 << 13}.items():
        monkeypatch.setattr(search, name, value)
    bank = clusters(300, kind)
    queries = bank if exclude_self else clusters(100, "plain") + np.float32(0.1)
    found, weights = {}, np.linspace(-1, 2, 300) if kind == "weighed" else np.ones(300)
    likeness = search.Likeness(block_module.unit, block_module.unit, weights=weights)
    for faster in (True, False):
        monkeypatch.setattr(search, "quantised_is_faster", lambda faster=faster: faster)
        found[faster] = nearest(queries, bank, k, exclude_self=exclude_self, likeness=likeness)
    assert np.allclose(found[True].similarity, found[False].similarity, atol=1e-6)
    x, y = (rows.astype(float) / np.linalg.norm(rows.astype(float), axis=1, keepdims=True) for rows in (queries, bank))
    cosine = x @ y.T * weights
    if exclude_self:
        np.fill_diagonal(cosine, -np.inf)
    assert np.allclose(found[True].similarity, -np.sort(-cosine, axis=1)[:, :k], atol=1e-6)
    assert np.allclose(np.take_along_axis(cosine, found[True].place, axis=1), found[True].similarity, atol=1e-12)


@pytest.mark.parametrize("width", [1, 9, 24, 769, 1024])
def test_turning_leaves_products_as_they_are_and_spreads_single_dimensions(width: int) -> None:
    rows = np.random.default_rng(0).standard_normal((700, width)).astype(np.float32)
    turned = quantised.turned(rows).astype(float)
    assert turned.shape[1] % quantised.FILL == 0 and turned.shape[1] - width < quantised.FILL
    assert np.allclose(turned @ turned.T, rows.astype(float) @ rows.T.astype(float), atol=1e-5 * width)
    single = quantised.turned(np.eye(1, width, dtype=np.float32))
    assert abs(single).max() <= 2.001 / turned.shape[1] ** 0.5
    even = quantised.turned(np.ones((1, width), np.float32))  # without signs all of it would come to one dimension
    assert width < 100 or abs(even).max() < 0.3 * np.linalg.norm(even)


@pytest.mark.parametrize("crowd", [False, True])
def test_the_bound_on_8_bit_products_holds(crowd: bool) -> None:
    rows, others = clusters(200, "outlier"), clusters(90, "plain")
    if crowd:  # closer together than 8 bits tell
        others = (rows[:1] + 0.01 * np.random.default_rng(0).standard_normal((90, 24))).astype(np.float32)
    small = quantised.Quantised(quantised.turned(rows), each_row=True)
    bank = quantised.Quantised(quantised.turned(others), each_row=False)
    products = rows.astype(float) @ others.T.astype(float)
    rounded = small.products(bank, leave_out=(np.array([3]), np.array([4])))
    assert np.array_equal(rounded == quantised.LEFT_OUT, np.arange(200 * 90).reshape(200, 90) == 3 * 90 + 4)
    wrong = 0
    for share in (0.0, 0.5, 0.9, 1.0):
        least = np.quantile(products, share, axis=1)
        at, columns = small.pairs_above(least - 1e-3, bank, rounded)
        kept = np.zeros(products.shape, bool)
        kept[at, columns] = True
        assert not kept[3, 4]
        kept[3, 4] = True
        assert kept[products >= least[:, None]].all()
        assert share < 0.9 or crowd or not kept.all()
        wrong += (rounded * small.scale * bank.scale < least[:, None])[products >= least[:, None]].sum()
    assert wrong > 0  # their word alone would not do
    at, columns = small.pairs_above(np.full(200, -np.inf), bank, rounded)
    assert len(at) == 200 * 90 - 1
    assert isinstance(quantised.quantised_is_faster(), bool)


@pytest.mark.parametrize("exact", ["queries", "bank"])
def test_the_errors_of_both_sides_are_in_the_bound(exact: str) -> None:
    """Whole numbers up to 127 are rounded to themselves; what ends in .4 always loses."""
    whole = np.full((1, 24), 100, np.float32)
    whole[0, 0] = 127
    other = np.full((1, 24), 50.4, np.float32)
    other[0, 0] = 127
    rows, others = (whole, other) if exact == "queries" else (other, whole)
    small, bank = quantised.Quantised(rows, each_row=True), quantised.Quantised(others, each_row=False)
    assert (small.errors[0] == 0) == (exact == "queries") and (bank.errors[0] == 0) == (exact == "bank")
    products = small.products(bank, leave_out=(np.arange(0), np.arange(0)))
    assert products[0, 0] < float(rows[0] @ others[0])
    assert len(small.pairs_above(rows @ others[0], bank, products)[0]) == 1


@pytest.mark.parametrize("k", [1, 4])
def test_the_highest_products(k: int) -> None:
    products = np.random.default_rng(0).permutation(600).reshape(6, 100).astype(np.int32)
    found = np.take_along_axis(products, quantised.highest(products, k), axis=1)
    assert np.array_equal(np.sort(found, axis=1), np.sort(products, axis=1)[:, -k:])


def test_products_of_chosen_pairs() -> None:
    rng = np.random.default_rng(0)
    queries, bank = rng.standard_normal((5, 8)).astype(np.float32), rng.standard_normal((7, 8)).astype(np.float32)
    rows, columns = np.array([0, 0, 3, 4]), np.array([6, 2, 0, 5])  # queries 1 and 2 have none
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = search._inner_products(queries, bank, rows, columns)
    assert np.allclose(found, (queries @ bank.T)[rows, columns], atol=1e-6)
    assert len(search._inner_products(queries, bank, rows[:0], columns[:0])) == 0
