"""Random generators derived from one seed and a name, so that no two uses share a stream and none depends on order."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, *names: object) -> int:
    """Return a seed in 0 .. 2**63 - 1 that depends on `seed` and every name, and on nothing else."""
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *names: object) -> np.random.Generator:
    """Return NumPy's default generator for this seed and these names."""
    return np.random.default_rng(derive(seed, *names))


def torch_generator(seed: int, *names: object) -> torch.Generator:
    """Return a CPU torch generator for this seed and these names."""
    import torch  # here: most stages need no torch, and it takes seconds to import

    return torch.Generator().manual_seed(derive(seed, *names))
