"""The table of one run: every pair of domains in every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domix.analyses.cka.alignment import compare_domains
from domix.analyses.cka.settings import Settings
from domix.analyses.hsic import LEAST
from domix.runtime.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from domix.analyses.contract import RunInputs


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Compare the domains of one run.

    Raises:
        DataError: embeddings are missing or damaged, of another study, or not finite; or nothing can be compared.
    """
    subsets = inputs.study.class_subsets()
    table = compare_domains(inputs.embeddings, kernels=settings.kernels, subsets=subsets, median=settings.median)
    if table.empty:
        raise DataError(
            f"no two domains have {LEAST} classes in common that {inputs.run.name} tells apart, which CKA needs: "
            "leave this analysis out"
        )
    return {"cka": table}
