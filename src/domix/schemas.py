"""Every table that one stage writes and another reads, as its writer declares it.

For documentation and tests (tools/document_tables.py); a reader imports the declaration that it needs from the writer.
"""

from __future__ import annotations

from domix.analyses import registry
from domix.data.mixtures import composition
from domix.data.mixtures import mixture as mixtures
from domix.data.store import index, texts
from domix.embed import embeddings
from domix.evaluate.schemas import TABLES as EVALUATION
from domix.report.tables.claim import SCORES
from domix.runtime.tables import TableSchema


def tables() -> tuple[TableSchema, ...]:
    """Return all declarations, in the order in which the pipeline writes the tables."""
    made_of_data = (index.ROWS, texts.TEXTS, texts.CAPTIONS, mixtures.ROWS, composition.CELLS)
    analyses = (table for analysis in registry.analyses().values() for table in analysis.written())
    return (*made_of_data, embeddings.ROWS, *EVALUATION.values(), *analyses, SCORES)
