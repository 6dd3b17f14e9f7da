"""What the controlled test holds a model's signature against: its training domains and its accuracy.

Shapes: N images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from domix.embed.embeddings import load_scored
from domix.evaluate.metrics import balanced_accuracy
from domix.evaluate.zeroshot import rank_right, rank_true
from domix.runs import SUPERVISED
from domix.runtime.tables import Column, TableSchema
from domix.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from domix.analyses.contract import RunInputs

MODELS = TableSchema(
    "models",
    (
        Column("domains", "int64", "domains of the multi-domain source that the training mixture holds"),
        Column("held_out", "float64", "balanced accuracy on the held-out cells"),
        Column("seen", "float64", "that on the other classes of the test domain"),
        Column("natural", "float64", "that on the images of the natural domain"),
        Column("natural_tested", "float64", "that on its images of the test classes"),
    ),
    "what the controlled test holds the analysis against",
)


def cell_groups(study: Study, rows: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Return which images [N] lie in each group of cells, for rows with the columns domain and class."""
    test = rows["class"].isin(study.test_classes).to_numpy(dtype=np.bool_)
    here, natural = ((rows["domain"] == name).to_numpy() for name in (study.test_domain, study.natural_domain))
    return {"held_out": here & test, "seen": here & ~test, "natural": natural, "natural_tested": natural & test}


def model_facts(inputs: RunInputs) -> pd.DataFrame:
    """Return the one row of MODELS of a run.

    Raises:
        DataError: embeddings or mixture are missing or damaged, or of another study.
    """
    import pandas as pd

    from domix.data.mixtures.mixture import read_mixture

    found, label = inputs.readout, inputs.readout.rows["label"].to_numpy()
    groups = cell_groups(inputs.study, found.rows)
    read = np.logical_or.reduce(list(groups.values()))
    correct = np.zeros(len(label), dtype=np.bool_)
    if inputs.run.kind == SUPERVISED:
        scores = np.concatenate(list(load_scored(inputs.embeddings_folder, SUPERVISED).blocks()))
        correct = rank_right(scores, label[:, None])[1] == 1
    else:
        correct[read] = rank_true(found.activations[read], found.head, label[read])[1] == 1
    accuracy = {name: balanced_accuracy(label[here], correct[here]) for name, here in groups.items()}
    mixture = read_mixture(inputs.artifacts / "mixtures" / f"{inputs.run.mixture}.parquet")
    return pd.DataFrame([{"domains": len(mixture.domains), **accuracy}])
