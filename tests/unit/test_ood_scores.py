"""Scores on plain arrays: literal formulas, orientation, hyper-parameters, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from domix.ood.scores.gaussian import mahalanobis, relative_mahalanobis
from domix.ood.scores.logits import energy, gen, l1, max_logit, msp, negative_entropy, negative_perplexity
from domix.ood.scores.neighbours import METRICS, knn
from domix.ood.scores.prototypes import max_cosine, mcm
from domix.ood.scores.registry import SCORES, compute_score

LOGITS = np.random.default_rng(0).normal(0, 4, (700, 13)).astype(np.float32)
BANK = np.random.default_rng(1).normal(0.5, 1, (400, 12)) * np.linspace(0.5, 2, 12)
FEATURES = np.random.default_rng(2).normal(0, 1, (90, 12))
LABELS = np.random.default_rng(3).choice([0, 1, 3, 4], 400, p=[0.1, 0.2, 0.3, 0.4])


def test_scores_of_logits_are_their_formulas() -> None:
    z = torch.from_numpy(LOGITS).double()
    for t in (1.0, 2.5):
        p = (z / t).softmax(1)
        entropy = -(p * p.log()).sum(1)
        assert np.allclose(msp(LOGITS, temperature=t), p.max(1).values, rtol=1e-12)
        assert np.allclose(energy(LOGITS, temperature=t), t * (z / t).logsumexp(1), rtol=1e-12)
        assert np.allclose(negative_entropy(LOGITS, temperature=t), -entropy, rtol=1e-10)
        assert np.allclose(negative_perplexity(LOGITS, temperature=t), -entropy.exp(), rtol=1e-10)
    assert np.array_equal(max_logit(LOGITS), z.max(1).values)
    assert np.allclose(l1(LOGITS), (z - z.min(1, keepdim=True).values).sum(1), rtol=1e-12)
    top = z.softmax(1).sort(descending=True).values[:, :5]
    assert np.allclose(gen(LOGITS, gamma=0.2, top=5), -(top**0.2 * (1 - top) ** 0.2).sum(1), rtol=1e-9)


def literal_similarities(metric: str) -> np.ndarray:
    x, y = torch.from_numpy(FEATURES), torch.from_numpy(BANK)
    unit_x, unit_y = torch.nn.functional.normalize(x), torch.nn.functional.normalize(y)
    p, q = (x / 0.1).softmax(1), (y / 0.1).softmax(1)
    return {
        "cos-sim": lambda: (unit_x @ unit_y.T).exp(),
        "temp-cos-sim": lambda: (unit_x @ unit_y.T / 0.02).exp(),
        "sim": lambda: p @ q.T,
        "BC": lambda: p.sqrt() @ q.sqrt().T,
        "l1": lambda: -torch.cdist(x, y, p=1),
        "l2": lambda: -torch.cdist(x, y, p=2),
        "norm-l1": lambda: -torch.cdist(unit_x, unit_y, p=1),
        "norm-l2": lambda: -torch.cdist(unit_x, unit_y, p=2),
    }[metric]().numpy()


@pytest.mark.parametrize("k", [1, 7, -1])
@pytest.mark.parametrize("metric", METRICS)
def test_knn_is_the_mean_of_the_highest_similarities(metric: str, k: int) -> None:
    all_of_them = np.sort(literal_similarities(metric), axis=1)[:, ::-1]
    expected = (all_of_them if k == -1 else all_of_them[:, :k]).mean(axis=1)
    assert np.allclose(knn(FEATURES, BANK, k=k, metric=metric), expected, rtol=1e-9)


@pytest.mark.parametrize("weights", ["equal", "size"])
def test_mahalanobis_is_its_formula(weights: str) -> None:
    parts = [BANK[np.equal(LABELS, c)] for c in np.unique(LABELS)]
    if weights == "equal":
        within = np.mean([np.cov(part.T) for part in parts], axis=0)
    else:
        within = np.sum([np.cov(part.T, ddof=0) * len(part) for part in parts], axis=0) / len(BANK)
    everywhere = np.cov(BANK.T, ddof=1 if weights == "equal" else 0)

    def distance(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        return np.einsum("nd,de,ne->n", FEATURES - mean, np.linalg.inv(covariance), FEATURES - mean)

    classes = np.stack([distance(part.mean(axis=0), within) for part in parts])
    background = distance(BANK.mean(axis=0), everywhere)
    assert np.allclose(mahalanobis(FEATURES, BANK, LABELS, weights=weights), -classes.min(axis=0), rtol=1e-9)
    relative = relative_mahalanobis(FEATURES, BANK, LABELS, weights=weights)
    assert np.allclose(relative, -(classes - background).min(axis=0), rtol=1e-9)


def test_mcm_is_msp_of_cosines() -> None:
    x, t = torch.from_numpy(FEATURES), torch.from_numpy(BANK[:9])
    cosine = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(t).T
    for temperature in (1.0, 0.01):
        expected = (cosine / temperature).softmax(1).max(1).values
        assert np.allclose(mcm(FEATURES, BANK[:9], temperature=temperature), expected, rtol=1e-10)
    assert np.allclose(max_cosine(FEATURES, BANK[:9]), cosine.max(1).values)


def test_every_score_is_computed_by_name() -> None:
    inputs = {"logits": LOGITS, "features": FEATURES, "bank": BANK, "labels": LABELS, "prototypes": BANK[:9]}
    for name, found in SCORES.items():
        if set(found.needs) <= set(inputs):
            assert np.isfinite(compute_score(name, inputs)).all()
