"""Scores and metrics of pytorch-ood 0.4.0, where it is installed; its scores are turned, for they rise with OOD."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from domix.ood.gaussians import fit_gaussians
from domix.ood.metrics import auroc, fpr95
from domix.ood.scores import gaussian, head, logits, neighbours, prototypes

detectors = pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is no dependency of Domix")
metrics = pytest.importorskip("pytorch_ood.metrics")
RNG = np.random.default_rng(0)
CENTRES = RNG.normal(0, 1, (5, 12))
BANK = np.abs(CENTRES[np.arange(400) % 5] + RNG.normal(0, 0.5, (400, 12))).astype(np.float32)
FEATURES = np.abs(CENTRES[np.arange(90) % 5] + RNG.normal(0, 1.5, (90, 12))).astype(np.float32)
WEIGHT = (0.4 * CENTRES).astype(np.float32)
BIAS = -WEIGHT @ BANK.mean(axis=0)
LOGITS = FEATURES @ WEIGHT.T + BIAS
LABELS = np.where(RNG.random(400) < 0.8, (BANK @ WEIGHT.T + BIAS).argmax(axis=1), np.arange(400) % 5)


def tensor(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rows)


def linear(rows: torch.Tensor) -> torch.Tensor:
    return rows.flatten(1) @ tensor(WEIGHT).T + tensor(BIAS)


def agree(found: np.ndarray, theirs: torch.Tensor) -> None:
    assert np.allclose(found, -theirs.double().numpy(), rtol=1e-3, atol=1e-4)  # theirs are in single precision


def test_scores_of_logits() -> None:
    z = tensor(LOGITS)
    agree(logits.msp(LOGITS, temperature=2.0), detectors.MaxSoftmax.score(z, t=2.0))
    agree(logits.max_logit(LOGITS), detectors.MaxLogit.score(z))
    agree(logits.energy(LOGITS, temperature=2.0), detectors.EnergyBased.score(z, t=2.0))
    agree(logits.negative_entropy(LOGITS), detectors.Entropy.score(z))
    agree(logits.gen(LOGITS, top=3) / 3, detectors.GEN.score(z, M=3))


def test_scores_of_features() -> None:
    nearest = detectors.KNN(None, k=3).fit_features(tensor(BANK), tensor(LABELS))
    own = (
        neighbours.knn(FEATURES, BANK, k=3, metric="norm-l2") * 3
        - neighbours.knn(FEATURES, BANK, k=2, metric="norm-l2") * 2
    )  # theirs is the distance of the third
    agree(own, nearest.predict_features(tensor(FEATURES)))
    fitted = detectors.Mahalanobis(None).fit_features(tensor(BANK), tensor(LABELS))
    found = gaussian.mahalanobis(FEATURES, BANK, LABELS, weights="size") / 400 / 2  # theirs: half, scatter not divided
    agree(found, fitted.predict_features(tensor(FEATURES)))
    relative = detectors.RMD(None).fit_features(tensor(BANK), tensor(LABELS))
    found = gaussian.relative_mahalanobis(FEATURES, BANK, LABELS, weights="size") / 400
    agree(found, relative.predict_features(tensor(FEATURES)))
    assert np.allclose(fit_gaussians(BANK, LABELS).means, fitted.mu.numpy(), atol=1e-5)


def test_scores_in_front_of_a_head() -> None:
    x, bank, labels = tensor(FEATURES), tensor(BANK), tensor(LABELS)
    maps, bank_maps = x[:, :, None, None], bank[:, :, None, None]
    vim = detectors.ViM(None, d=7, w=tensor(WEIGHT), b=tensor(BIAS)).fit_features(bank, labels)
    agree(head.vim(FEATURES, BANK, WEIGHT, BIAS, dimensions=7), vim.predict_features(x))
    guide = detectors.NNGuide(None, linear, k=4).fit_features(bank, labels)
    agree(head.nnguide(FEATURES, BANK, WEIGHT, BIAS, k=4), guide.predict_features(x))
    she = detectors.SHE(None, linear).fit_features(bank, labels)
    agree(head.she(FEATURES, BANK, LABELS, WEIGHT, BIAS), she.predict_features(x))
    react = detectors.ReAct(None, linear, percentile=0.8).fit_feature_maps(bank_maps, labels)
    agree(head.react(FEATURES, BANK, WEIGHT, BIAS, share=0.8), react.predict_feature_maps(maps))
    ash = detectors.ASH(None, linear, percentile=0.6)
    agree(head.ash(FEATURES, WEIGHT, BIAS, share=0.6), ash.predict_feature_maps(maps))
    scale = detectors.SCALE(None, linear, percentile=0.6)
    agree(head.scale(FEATURES, WEIGHT, BIAS, share=0.6), scale.predict_feature_maps(maps))


def test_mcm() -> None:
    found = prototypes.mcm(FEATURES, WEIGHT, temperature=0.5)
    normal = torch.nn.functional.normalize
    agree(found, detectors.MaxSoftmax.score(normal(tensor(FEATURES)) @ normal(tensor(WEIGHT)).T, t=0.5))


def test_metrics_are_openood_s() -> None:
    inside, outside = RNG.normal(1, 1, 500), RNG.normal(0, 2, 300)
    measured = metrics.OODMetrics()
    measured.update(torch.from_numpy(-np.r_[inside, outside]), torch.from_numpy(np.r_[np.ones(500), -np.ones(300)]))
    theirs = measured.compute()
    assert auroc(inside, outside) == pytest.approx(theirs["AUROC"], abs=1e-6)
    assert fpr95(inside, outside, convention="openood") == pytest.approx(theirs["FPR95TPR"], abs=1e-6)
