"""Scores of logits z [N, C], p = softmax(z / T), block by block.

Exponentials are taken in single precision, of which they keep seven digits, where the logits are of single or half
precision, and are summed in double: of a confident image 1 - p is the sum of what the other classes have, to as many
digits, and no two such images come to the same score by rounding. Of logits in double precision all is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from domix.ood.blocks import Array, Floats, blocks, shape_of
from domix.ood.scores.registry import score
from domix.runtime.errors import ParameterError

NORMS = {"none": None, "l1": 1, "l2": 2}  # of max_logit
NUMBERS = 1 << 17  # in a block: half a megabyte, which stays in a core's cache


def by_blocks(logits: Array, formula: Callable[[Array], Floats]) -> Floats:
    """Apply a formula of logits to blocks of images."""
    _, classes = shape_of(logits, "the logits")
    dtype = np.float32 if logits.dtype in (np.float16, np.float32) else np.float64
    parts = blocks(logits, "the logits", size=max(1, NUMBERS // classes), dtype=dtype)
    return np.concatenate([formula(block) for _, block in parts])


def exponentials(z: Array, temperature: float = 1.0) -> tuple[Array, Array, Floats]:
    """Return (z - max z) / T and its exponentials [n, C], in the precision of z, and their sums [n]."""
    shifted = z - z.max(axis=1, keepdims=True)
    shifted /= float(temperature)
    raised = np.exp(shifted)
    return shifted, raised, raised.sum(axis=1, dtype=np.float64)


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

    return by_blocks(logits, lambda z: 1.0 / exponentials(z, temperature)[2])


@score("max_logit", source="Hendrycks et al. 2022, arXiv 1911.11132; lengths: Adaloglou et al. 2024 (code)")
def max_logit(logits: Array, *, norm: str = "none") -> Floats:
    """Return max_c z_c [N], of z as it is, or divided by its length, `l1` or `l2`; of a row of zeros 0.

    Raises:
        ParameterError: there is no such length.
    """
    if norm not in NORMS:
        raise ParameterError(f"there is no length {norm!r}, but {', '.join(NORMS)}", argument="norm")

    order = NORMS[norm]

    def formula(z: Array) -> Floats:
        highest = z.max(axis=1).astype(np.float64)
        if order is None:
            return highest
        return highest / np.maximum(np.linalg.norm(z.astype(np.float64), ord=order, axis=1), 1e-12)

    return by_blocks(logits, formula)


@score("energy", source="Liu et al. 2020, arXiv 2010.03759")
def energy(logits: Array, *, temperature: float = 1.0) -> Floats:
    """Return T log sum_c exp(z_c / T), the negative free energy [N]."""
    check_positive(temperature, "temperature")

    return by_blocks(logits, lambda z: z.max(axis=1) + temperature * np.log(exponentials(z, temperature)[2]))


@score("l1", source="Adaloglou et al. 2024, arXiv 2303.05828 (code)")
def l1(logits: Array) -> Floats:
    """Return sum_c (z_c - min z) [N]."""
    return by_blocks(logits, lambda z: z.sum(axis=1, dtype=np.float64) - z.shape[1] * z.min(axis=1).astype(np.float64))


@score("entropy", source="Chan et al. 2021, arXiv 2012.06575")
def negative_entropy(logits: Array, *, temperature: float = 1.0) -> Floats:
    """Return -H(p) = sum_c p_c log p_c [N], in nats."""
    check_positive(temperature, "temperature")

    def formula(z: Array) -> Floats:
        shifted, raised, total = exponentials(z, temperature)
        return np.multiply(raised, shifted, out=shifted).sum(axis=1, dtype=np.float64) / total - np.log(total)

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

    def formula(z: Array) -> Floats:
        shifted, _, total = exponentials(z)
        if top < z.shape[1]:
            shifted = np.partition(shifted, -top, axis=1)[:, -top:]
        p = np.exp(shifted.astype(np.float64)) / total[:, None]
        return -((p * (1.0 - p)) ** gamma).sum(axis=1)

    return by_blocks(logits, formula)
