"""Made-up studies for property tests: small data sets with any numbers of samples, in any order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from hypothesis import assume
from hypothesis import strategies as st

from tests.fakes import make_index

NATURAL = "real"


@dataclass(frozen=True)
class Made:
    """A data set and what to withhold from it."""

    index: pd.DataFrame
    test_domain: str
    test_classes: frozenset[str]


@st.composite
def studies(draw: st.DrawFn, *, extra_domain: str = "sketch", thin: bool = True) -> Made:
    """Draw 3 to 5 domains, 2 to 6 classes, and 0 to 9 (`thin`) or 1 to 9 training samples a cell, in shuffled rows."""
    domains = draw(st.lists(st.sampled_from(["aa", "clipart", "painting"]), min_size=1, max_size=3, unique=True))
    count = draw(st.integers(2, 6))
    number = st.integers(0 if thin else 1, 9)
    train = {d: draw(st.lists(number, min_size=count, max_size=count)) for d in [*domains, NATURAL, extra_domain]}
    index = make_index(train, 1)
    order = np.random.default_rng(draw(st.integers(0, 2**32))).permutation(len(index))
    index = index.iloc[order].assign(row=np.arange(len(index))).reset_index(drop=True)
    names = sorted(set(index["class"]))
    tested = draw(st.sets(st.sampled_from(names), min_size=1, max_size=count - 1))
    test_domain = draw(st.sampled_from(domains))
    assume(any(n for k, n in enumerate(train[test_domain]) if f"class_{k}" not in tested))
    return Made(index, test_domain, frozenset(tested))
