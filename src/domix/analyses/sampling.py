"""Seeded draws of images, the same for every analysis that makes one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domix.runtime.seeds import numpy_generator


def draw_rows(domains: NDArray, images: int, *, seed: int) -> NDArray[np.int64]:
    """Draw up to `images` images of each domain without replacement: sorted positions in `domains` [N].

    The draw from a domain depends on the seed and that domain's images alone.
    """
    chosen = []
    for domain in sorted(set(domains.tolist())):
        here = np.flatnonzero(domains == domain)
        generator = numpy_generator(seed, "separation", domain)
        chosen.append(generator.choice(here, size=min(images, len(here)), replace=False))
    return np.sort(np.concatenate(chosen)).astype(np.int64)
