"""The tables of captions that lie beside packed images: declared here, below all rooms that write and read them."""

from __future__ import annotations

from domix.runtime.tables import Column, TableSchema

TEXTS = TableSchema(
    "texts",
    (Column("key", "str", "the sample's"), Column("text", "str", "the caption that it brought along")),
    "the captions of a corpus; only there if its samples bring any",
    path="artifacts/shards/<source>/texts.parquet",
    written_by="pack",
)
CAPTIONS = TableSchema(
    "captions",
    (
        Column("key", "str", "the sample's"),
        Column("standard", "str", "its caption with words of its domain"),
        Column("aligned", "str", "the same with words that fit every domain"),
    ),
    "two captions of every sample of a source; samples that bring captions along have those for both",
    path="artifacts/captions/<source>.parquet",
    written_by="captions",
)
