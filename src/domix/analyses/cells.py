"""Which rows of a table, and which classes, a study holds out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from domix.study import Study

if TYPE_CHECKING:
    import pandas as pd


def held_out_rows(study: Study, table: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which rows of a table with the columns domain and class lie in held-out cells."""
    inside = (table["domain"] == study.test_domain) & table["class"].isin(study.test_classes)
    return inside.to_numpy(dtype=np.bool_)


def class_subsets(study: Study) -> dict[str, NDArray[np.bool_]]:
    """Return the classes all, test and seen, each bool [K] in label order."""
    test = np.array([name in set(study.test_classes) for name in study.classes], dtype=np.bool_)
    return {"all": np.ones_like(test), "test": test, "seen": ~test}
