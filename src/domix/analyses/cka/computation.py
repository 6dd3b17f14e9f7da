"""The table of one run: every pair of domains in every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domix.analyses.cka.alignment import compare_domains
from domix.analyses.cka.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from domix.analyses.contract import RunInputs


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Compare the domains of one run.

    Raises:
        DataError: embeddings are missing or damaged, or of another study.
    """
    table = compare_domains(inputs.embeddings, kernels=settings.kernels, subsets=inputs.study.class_subsets())
    return {"cka": table}
