"""Scores of logits z [N, C], p = softmax(z / T); all in double precision, block by block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from domix.ood.blocks import Array, Floats, blocks
from domix.ood.scores.registry import score
from domix.runtime.errors import ParameterError


def by_blocks(logits: Array, formula: Callable[[Floats], Floats]) -> Floats:
    """Apply a formula of logits to blocks of images."""
    return np.concatenate([formula(block) for _, block in blocks(logits, "the logits", size=512)])


def check_positive(value: float, name: str) -> float:
    """Return a hyper-parameter that must be above 0.

    Raises:
        ParameterError: it is not.
    """
    if not (np.isfinite(value) and value > 0):
        raise ParameterError(f"{name} is {value}: give a number above 0", argument=name)
    return value


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Return softmax(z / T) of each row."""
    shifted = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return shifted / shifted.sum(axis=1, keepdims=True)


@score("msp", source="Hendrycks and Gimpel 2017, arXiv 1610.02136")
def msp(logits: Array, *, temperature: float = 1.0) -> Floats:
    """Return max_c p_c, the maximum softmax probability [N]."""
    check_positive(temperature, "temperature")

    def formula(z: Floats) -> Floats:
        return 1.0 / np.exp((z - z.max(axis=1, keepdims=True)) / temperature).sum(axis=1)

    return by_blocks(logits, formula)


@score("max_logit", source="Hendrycks et al. 2022, arXiv 1911.11132")
def max_logit(logits: Array) -> Floats:
    """Return max_c z_c [N]."""
    return by_blocks(logits, lambda z: z.max(axis=1))


@score("energy", source="Liu et al. 2020, arXiv 2010.03759")
def energy(logits: Array, *, temperature: float = 1.0) -> Floats:
    """Return T log sum_c exp(z_c / T), the negative free energy [N]."""
    check_positive(temperature, "temperature")

    def formula(z: Floats) -> Floats:
        highest = z.max(axis=1)
        return highest + temperature * np.log(np.exp((z - highest[:, None]) / temperature).sum(axis=1))

    return by_blocks(logits, formula)


@score("l1", source="Adaloglou et al. 2024, arXiv 2303.05828 (code)")
def l1(logits: Array) -> Floats:
    """Return sum_c (z_c - min z) [N]."""
    return by_blocks(logits, lambda z: (z - z.min(axis=1, keepdims=True)).sum(axis=1))


@score("entropy", source="Chan et al. 2021, arXiv 2012.06575")
def negative_entropy(logits: Array, *, temperature: float = 1.0) -> Floats:
    """Return -H(p) = sum_c p_c log p_c [N], in nats."""
    check_positive(temperature, "temperature")

    def formula(z: Floats) -> Floats:
        shifted = (z - z.max(axis=1, keepdims=True)) / temperature
        raised = np.exp(shifted)
        total = raised.sum(axis=1)
        return np.einsum("nc,nc->n", raised, shifted) / total - np.log(total)

    return by_blocks(logits, formula)


@score("perplexity", source="Adaloglou et al. 2024, arXiv 2303.05828 (code)")
def negative_perplexity(logits: Array, *, temperature: float = 1.0) -> Floats:
    """Return -exp(H(p)) [N]: it orders images as the entropy does."""
    return -np.exp(-negative_entropy(logits, temperature=temperature))


@score("gen", source="Liu et al. 2023, CVPR (GEN)")
def gen(logits: Array, *, gamma: float = 0.1, top: int = 100) -> Floats:
    """Return -sum of p_c^gamma (1 - p_c)^gamma over the `top` most probable classes (all, if they are fewer) [N]."""
    check_positive(gamma, "gamma")
    check_positive(top, "top")

    def formula(z: Floats) -> Floats:
        p = softmax(z)
        if top < p.shape[1]:
            p = -np.partition(-p, top - 1, axis=1)[:, :top]
        return -((p * (1.0 - p)) ** gamma).sum(axis=1)

    return by_blocks(logits, formula)
