"""Work done one piece ahead of whoever uses it, by a thread."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Part = TypeVar("Part")
Made = TypeVar("Made")


def ahead(
    make: Callable[[Part], Made], parts: Iterable[Part], *, prepare: Callable[[], object] | None = None
) -> Generator[Made]:
    """Yield what `make` gives of each part, in order, the next one in the making while one is in use.

    An error of `make` is raised where its result was due, and nothing is made after it.

    Args:
        make: runs in a thread.
        parts: taken one by one, in this thread.
        prepare: runs first in that thread.
    """
    left = iter(parts)
    with ThreadPoolExecutor(1, initializer=prepare) as pool:
        coming = [pool.submit(make, part) for part in islice(left, 1)]
        while coming:
            ready = coming.pop().result()
            coming = [pool.submit(make, part) for part in islice(left, 1)]
            yield ready
