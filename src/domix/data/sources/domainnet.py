"""DomainNet, cleaned release (Peng et al. 2019): 586,575 images of 345 classes in six styles."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from domix.data.sources.contract import SPLITS, Part
from domix.data.sources.layout import DomainNetLayout, Entry, divide, tabulate


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
        return [
            layout.entry(domain, split, line)
            for domain, split in itertools.product(layout.domains, SPLITS)
            for line in layout.lines(domain, split)
        ]
