"""DomainNet, cleaned release (Peng et al. 2019): 586,575 images of 345 classes in six styles."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from domix.data.sources.contract import SPLITS, Part
from domix.data.sources.layout import DomainNetLayout, Entry, divide, tabulate
from domix.runtime.errors import DataError


class DomainNet:
    """DomainNet, or any other set in its layout: six archives, twelve split lists (data/sources/layout.py)."""

    def files(self, root: Path) -> list[str]:
        """Return the archives and lists of the domains that have a training list.

        Raises:
            DataError: there is none.
        """
        return DomainNetLayout(root).files()

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Divide the lists, domain by domain, training then test, into parts of `size` samples.

        Raises:
            DataError: lists and archives do not fit together.
        """
        return divide(root, self._entries(root), size)

    def listing(self, root: Path, *, poses: int) -> pd.DataFrame:
        """Return what the lists name, in their order.

        Raises:
            DataError: as `parts`.
        """
        return tabulate(self._entries(root))

    def _entries(self, root: Path) -> list[Entry]:
        layout = DomainNetLayout(root)
        lists = itertools.product(layout.domains, SPLITS)
        entries = [entry for domain, split in lists for entry in layout.entries(domain, split)]
        seen: dict[str, str] = {}
        for entry in entries:
            if (other := seen.setdefault(entry.key, entry.path)) is not entry.path:
                raise DataError(f"the lists of {root} name {other} and {entry.path}, one sample: correct the lists")
        return entries
