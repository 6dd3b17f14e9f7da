"""PLP from features to scores on made-up classes: scores point the right way, stay in range, and come again.

No test says that one method beats another: on such easy data zero-shot scores are better than the probe's.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.metrics import roc_auc_score

from domix.ood.probes.linear_probe import Recipe, train_probe
from domix.ood.probes.pseudo_labels import pseudo_labels

D, C, FOREIGN = 64, 20, 30
PLP = Recipe(epochs=100, batch=256)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def images(centres: np.ndarray, each: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(len(centres)), each)
    return unit(centres[labels] + 0.17 * rng.normal(size=(len(labels), D))), labels


def test_from_features_to_scores() -> None:
    rng = np.random.default_rng(0)
    text, foreign = unit(rng.normal(size=(C, D))), unit(rng.normal(size=(FOREIGN, D)))
    train, known = images(text, 100, rng)
    test, true = images(text, 50, rng)
    ood, _ = images(foreign, 25, rng)
    labelled = pseudo_labels(train, text, logit_scale=100, known=known)
    assert labelled.accuracy is not None and labelled.accuracy > 0.95
    assert labelled.confidence.min() >= 1 / C and labelled.confidence.max() <= 1 and labelled.empty == []
    probe = train_probe(train, labelled.labels, PLP, classes=C)
    assert probe.accuracy(test, true) > 0.95
    z, z_ood = probe.logits(test), probe.logits(ood)
    scores = {
        "msp": (softmax(z, axis=1).max(axis=1), softmax(z_ood, axis=1).max(axis=1)),
        "energy": (logsumexp(z, axis=1), logsumexp(z_ood, axis=1)),
        "mcm": (softmax(test @ text.T, axis=1).max(axis=1), softmax(ood @ text.T, axis=1).max(axis=1)),
    }
    for name, (inside, outside) in scores.items():
        assert np.isfinite(inside).all() and np.isfinite(outside).all(), name
        auroc = roc_auc_score(np.r_[np.ones(len(inside)), np.zeros(len(outside))], np.r_[inside, outside])
        assert 0.9 < auroc <= 1, name
    np.testing.assert_array_equal(train_probe(train, labelled.labels, PLP, classes=C).logits(ood), z_ood)
