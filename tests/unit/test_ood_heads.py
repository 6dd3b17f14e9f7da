"""Scores in front of a linear head, and of negative words: literal formulas, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from domix.ood.quantiles import quantile
from domix.ood.scores.head import Head, ash, nnguide, principal_dimensions, react, residual, scale, she, vim
from domix.ood.scores.prototypes import mine_negatives, neglabel
from domix.runtime.errors import DataError, ParameterError

RNG = np.random.default_rng(5)
FEATURES, BANK = np.abs(RNG.normal(0, 1, (1200, 20))), np.abs(RNG.normal(0.3, 1, (300, 20)))
WEIGHT = RNG.normal(0, 0.5, (6, 20))
BIAS = RNG.normal(0, 0.1, 6) - WEIGHT @ BANK.mean(axis=0)  # so that every class is predicted
LABELS = (BANK @ WEIGHT.T + BIAS + RNG.normal(0, 1, (300, 6))).argmax(axis=1)


def energies(features: np.ndarray) -> np.ndarray:
    return np.logaddexp.reduce(features @ WEIGHT.T + BIAS, axis=1)


def literal_residuals(features: np.ndarray, dimensions: int) -> np.ndarray:
    origin = -np.linalg.pinv(WEIGHT) @ BIAS
    values, vectors = np.linalg.eig((BANK - origin).T @ (BANK - origin) / len(BANK))
    null = vectors[:, np.argsort(-values)[dimensions:]]
    return np.linalg.norm((features - origin) @ null, axis=1)


@pytest.mark.parametrize("dimensions", [3, None])
def test_vim_is_the_energy_less_the_scaled_residual(dimensions: int | None) -> None:
    kept = dimensions or 10
    lengths, own = literal_residuals(FEATURES, kept), literal_residuals(BANK, kept)
    alpha = (BANK @ WEIGHT.T + BIAS).max(axis=1).mean() / own.mean()
    assert np.allclose(residual(FEATURES, BANK, WEIGHT, BIAS, dimensions=dimensions), -lengths)
    assert np.allclose(vim(FEATURES, BANK, WEIGHT, BIAS, dimensions=dimensions), energies(FEATURES) - alpha * lengths)


def test_the_principal_subspace_is_as_large_as_in_the_paper_s_code() -> None:
    assert [principal_dimensions(width) for width in (2048, 2047, 768, 767, 10)] == [1000, 512, 512, 383, 5]


def test_nnguide_is_energy_times_guidance() -> None:
    length = np.linalg.norm(BANK, axis=1, keepdims=True)
    guide = BANK / length * energies(BANK)[:, None]
    products = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True) @ guide.T
    expected = np.sort(products, axis=1)[:, -7:].mean(axis=1) * energies(FEATURES)
    assert np.allclose(nnguide(FEATURES, BANK, WEIGHT, BIAS, k=7), expected)


def test_she_is_the_product_with_the_predicted_class_s_pattern() -> None:
    predicted = (BANK @ WEIGHT.T + BIAS).argmax(axis=1)
    labels = LABELS.copy()
    labels[labels == 2] = 0  # class 2 has no image that is predicted right
    assert [bool(((predicted == c) & (labels == c)).any()) for c in range(6)] == [True, True, False, True, True, True]
    patterns = [BANK[(predicted == c) & (labels == c)].mean(axis=0) if c != 2 else BANK.mean(axis=0) for c in range(6)]
    own = (FEATURES @ WEIGHT.T + BIAS).argmax(axis=1)
    assert (own == 2).any()
    expected = (FEATURES * np.stack(patterns)[own]).sum(axis=1)
    assert np.allclose(she(FEATURES, BANK, labels, WEIGHT, BIAS), expected)


def test_react_cuts_off_at_a_quantile_of_all_activations() -> None:
    for share in (0.9, 0.5):
        expected = energies(np.minimum(FEATURES, np.quantile(BANK, share)))
        assert np.allclose(react(FEATURES, BANK, WEIGHT, BIAS, share=share), expected, rtol=1e-6)


def test_ash_and_scale_raise_by_the_share_of_the_highest() -> None:
    for share in (0.9, 0.65):
        kept = 20 - round(20 * share)
        rest = np.sort(FEATURES, axis=1)[:, -kept:]
        factor = np.exp(FEATURES.sum(axis=1) / rest.sum(axis=1))[:, None]
        pruned = np.where(rest[:, :1] <= FEATURES, FEATURES, 0)
        assert np.allclose(ash(FEATURES, WEIGHT, BIAS, share=share), energies(pruned * factor))
        assert np.allclose(scale(FEATURES, WEIGHT, BIAS, share=share), energies(FEATURES * factor))


def test_neglabel_is_the_share_on_the_classes() -> None:
    x, t, n = (torch.nn.functional.normalize(torch.from_numpy(rows)) for rows in (FEATURES, WEIGHT, BANK[:8] - 0.5))
    known, foreign = (x @ t.T / 0.1).exp(), (x @ n.T / 0.1).exp()

    def share(words: torch.Tensor) -> np.ndarray:
        return (known.sum(1) / (known.sum(1) + words.sum(1))).numpy()

    assert np.allclose(neglabel(FEATURES, WEIGHT, BANK[:8] - 0.5, temperature=0.1), share(foreign))
    expected = (share(foreign[:, ::3]) + share(foreign[:, 1::3]) + share(foreign[:, 2::3])) / 3
    assert np.allclose(neglabel(FEATURES, WEIGHT, BANK[:8] - 0.5, temperature=0.1, groups=3), expected)
    assert np.isfinite(neglabel(FEATURES, WEIGHT, BANK[:8], temperature=1e-4)).all()


def test_negative_words_are_those_farthest_from_the_classes() -> None:
    words = np.random.default_rng(1).normal(size=(30, 20))
    cosine = words @ WEIGHT.T / np.linalg.norm(words, axis=1)[:, None] / np.linalg.norm(WEIGHT, axis=1)
    expected = np.argsort(np.quantile(cosine, 0.95, axis=1))[:9]
    assert mine_negatives(words, WEIGHT, 9).tolist() == expected.tolist()
    with pytest.raises(ParameterError, match=r"^31 words are asked for out of 30: give 1 to 30$"):
        mine_negatives(words, WEIGHT, 31)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_quantiles_are_those_of_numpy_with_ties_signs_and_zeros(share: float) -> None:
    rows = RNG.normal(0, 3, (500, 7)).astype(np.float32)
    rows[rows < -2] = -0.0
    rows[:100] = np.round(rows[:100])
    parts = [rows[:13], rows[13:400], rows[400:]]
    assert quantile(parts, share, "rows") == pytest.approx(np.quantile(rows.astype(np.float64), share), abs=1e-12)
    half = rows.astype(np.float16)
    assert quantile(half, share, "rows") == pytest.approx(np.quantile(half.astype(np.float64), share), abs=1e-12)


def test_a_head_that_does_not_fit_is_told() -> None:
    with pytest.raises(DataError, match=r"^the head takes 19 dimensions, the features have 20: give the features"):
        ash(FEATURES, WEIGHT[:, :19], BIAS)
    for call in (residual, vim, nnguide, react):
        with pytest.raises(DataError, match=r"^the head takes 20 dimensions, the \w+('s features)? have 19"):
            call(FEATURES[:, :19] if call is not react else FEATURES, BANK[:, :19], WEIGHT, BIAS)
    with pytest.raises(DataError, match=r"^the head takes 20 dimensions, the bank's features have 19"):
        she(FEATURES, BANK[:, :19], LABELS, WEIGHT, BIAS)
    with pytest.raises(DataError, match=r"^the head has 6 classes, its bias is of shape \(5,\): give one a class$"):
        Head(WEIGHT, BIAS[:5])
    with pytest.raises(DataError, match=r"^the head's bias is not finite"):
        Head(WEIGHT, BIAS * np.nan)
    with pytest.raises(DataError, match=r"^the head's weights are not finite \(row 0\)"):
        Head(WEIGHT * np.inf, BIAS)


def test_options_of_heads_are_checked() -> None:
    with pytest.raises(ParameterError, match=r"^20 principal dimensions of 20 are asked for: give 1 to 19$"):
        residual(FEATURES, BANK, WEIGHT, BIAS, dimensions=20)
    with pytest.raises(DataError, match=r"^the bank has 300 images and 301 neighbours are asked for: lower k$"):
        nnguide(FEATURES, BANK, WEIGHT, BIAS, k=301)
    with pytest.raises(ParameterError, match=r"^the share is 1\.0: give one in 0\.\.1 that leaves activations$"):
        ash(FEATURES, WEIGHT, BIAS, share=1.0)
    with pytest.raises(ParameterError, match=r"^the share is 2: give one in 0\.\.1$"):
        react(FEATURES, BANK, WEIGHT, BIAS, share=2)
    with pytest.raises(DataError, match=r"^an image's highest activations do not sum to above 0: such features"):
        scale(-FEATURES, WEIGHT, BIAS)
    with pytest.raises(ParameterError, match=r"^8 words make no 9 groups: give 1 to 8$"):
        neglabel(FEATURES, WEIGHT, BANK[:8], groups=9)
