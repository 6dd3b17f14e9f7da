"""Feature sharing against the reference's algorithms taken literally, image by image and set by set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from domix.analyses.sharing.overlap import (
    CORRECTED,
    REFERENCE,
    Rules,
    histograms,
    mean_over_classes,
    reference_results,
    score,
    sharing_matrix,
    strengths,
    votes,
)
from domix.analyses.sharing.resampled import share_classes

DOMAINS = ["clipart", "infograph", "painting", "quickdraw", "real", "sketch"]
CLASSES, UNITS = 4, 90
Array = NDArray[np.float64]


def made(images: int = 9, *, density: float = 0.4) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Codes of `images` a cell, each cell with favourite units; class and domain of each image."""
    rng = np.random.default_rng(2)
    label, domain = (part.ravel() for part in np.indices((CLASSES, len(DOMAINS), images))[:2])
    favour = rng.gamma(0.4, size=(CLASSES, 1, UNITS)) + 0.6 * rng.gamma(0.4, size=(CLASSES, len(DOMAINS), UNITS))
    codes = (
        rng.gamma(1.0, size=(len(label), UNITS)) * favour[label, domain] * (rng.random((len(label), UNITS)) < density)
    )
    order = rng.permutation(len(label))
    return codes[order].astype(np.float32), label[order], domain[order]


def slow_histogram(codes: NDArray[np.float32]) -> Array:
    """Algorithm 1: the twenty largest of each image, those above zero."""
    found = np.zeros(codes.shape[1])
    for image in codes:
        values, units = torch.from_numpy(image).topk(20)
        found[units[values > 0]] += 1
    return found


def slow_reference(a: Array, b: Array) -> float:
    """Algorithm 2 as the reference's code has it."""
    shares = []
    for k in (5, 10, 15, 20):
        top = [set(torch.topk(torch.tensor(one), k=k)[1].tolist()) for one in (a, b)]
        shares.append(len(top[0] & top[1]) / k)
    return sum(shares) / 4


def slow_corrected(a: Array, b: Array, strength: tuple[Array, Array]) -> float:
    """Algorithm 2 with units that have votes alone, ties by the summed values."""
    ranked = [
        [unit for unit in sorted(range(len(votes)), key=lambda u: (-votes[u], -value[u])) if votes[unit] > 0]
        for votes, value in zip((a, b), strength, strict=True)
    ]
    if not all(ranked):
        return float("nan")
    shares = []
    for k in (5, 10, 15, 20):
        one, other = (set(units[:k]) for units in ranked)
        shares.append(len(one & other) / max(len(one), len(other)))
    return sum(shares) / 4


def by_cell(codes: NDArray[np.float32], label: NDArray, domain: NDArray) -> Array:
    cell = label * len(DOMAINS) + domain
    found = histograms(votes(codes), cell, CLASSES * len(DOMAINS), UNITS)
    return found.reshape(CLASSES, len(DOMAINS), UNITS)


@pytest.mark.parametrize("density", [0.4, 0.02])
def test_histograms_equal_the_loop(density: float) -> None:
    codes, label, domain = made(density=density)
    found = by_cell(codes, label, domain)
    for number in range(CLASSES):
        for d in range(len(DOMAINS)):
            here = (label == number) & (domain == d)
            np.testing.assert_array_equal(found[number, d], slow_histogram(codes[here]))


@pytest.mark.parametrize(("images", "density"), [(9, 0.4), (2, 0.05), (1, 0.0)])
def test_the_references_numbers_defects_included(images: int, density: float) -> None:
    codes, label, domain = made(images, density=density)
    counts = by_cell(codes, label, domain)
    names = [f"class {n}" for n in range(CLASSES)]
    results = reference_results(dict(zip(names, counts, strict=True)), DOMAINS, "clipart")
    slow = {name: [[slow_reference(a, b) for b in of] for a in of] for name, of in zip(names, counts, strict=True)}
    for name in names:
        assert results[name]["mpct_shared@20"] == slow[name]
    average = np.mean([slow[name] for name in names], axis=0)
    np.testing.assert_allclose(results["avg"]["mpct_shared@20"], average, rtol=1e-12)
    assert results["score"]["mpct_shared@20"] == pytest.approx(np.delete(average[5], 5).mean())  # sketch's, always


def test_the_score_is_that_of_the_domain_asked_for_once_corrected() -> None:
    matrix = np.mean([sharing_matrix(of) for of in by_cell(*made())], axis=0)
    for number in range(len(DOMAINS)):
        assert float(score(matrix, number)) == pytest.approx(np.delete(matrix[number], number).mean())
        assert float(score(matrix, number, REFERENCE)) == pytest.approx(np.delete(matrix[5], 5).mean())


@pytest.mark.parametrize(("images", "density"), [(9, 0.4), (3, 0.05), (1, 0.02)])
def test_corrected_sharing_equals_sets(images: int, density: float) -> None:
    codes, label, domain = made(images, density=density)
    cell = label * len(DOMAINS) + domain
    shape = (CLASSES, len(DOMAINS), UNITS)
    counts = by_cell(codes, label, domain)
    value = strengths(votes(codes), cell, CLASSES * len(DOMAINS), UNITS).reshape(shape)
    options: dict[str, int] = {"classes": CLASSES, "domains": len(DOMAINS), "draws": 1, "permutations": 1, "seed": 0}
    found = share_classes(votes(codes), label, domain, **options)
    for number in range(CLASSES):
        for a in range(len(DOMAINS)):
            for b in range(len(DOMAINS)):
                pair = (value[number, a], value[number, b])
                slow = slow_corrected(counts[number, a], counts[number, b], pair)
                assert found.observed[number, a, b] == pytest.approx(slow, nan_ok=True)
    assert (found.units == (counts > 0).sum(axis=2).clip(max=20)).all()
    assert (found.images == images).all()


def test_two_empty_histograms_share_all_in_the_reference_and_nothing_is_said_once_corrected() -> None:
    counts = np.zeros((3, 40))
    counts[2, :30] = np.arange(30) + 1
    assert sharing_matrix(counts, REFERENCE)[0, 1] == 1
    corrected = sharing_matrix(counts, CORRECTED)
    assert np.isnan(corrected[:2]).all() and corrected[2, 2] == 1
    assert np.isnan(mean_over_classes(corrected[None])[0, 1])


def test_each_defect_is_a_switch() -> None:
    counts = np.zeros((2, 40))
    counts[0, :3], counts[1, 1:4] = 1, 1
    few = sharing_matrix(counts, CORRECTED)[0, 1]
    assert few == pytest.approx(2 / 3)  # two of three units, at every K
    assert sharing_matrix(counts, Rules(zero_units=True))[0, 1] != pytest.approx(few)
    assert sharing_matrix(counts, Rules(last_domain=True))[0, 1] == pytest.approx(few)
