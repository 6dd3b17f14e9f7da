"""Export of a mixture as a data set for Hugging Face `datasets`: parquet files with the images in them, and a card.

`datasets` takes the columns' types from the schema's metadata `huggingface`: {"info": {"features": {name: type}}}. Its
type Image is a struct of the file's bytes and its name. Types are those of docs/hub/datasets-pyarrow and of
`Features.to_dict()`.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from domix.data.export.records import Progress, Reader, Sample, export_folder, extension, records
from domix.data.mixtures.mixture import Mixture

CARD = "README.md"
PART = 500_000_000  # bytes of images a file, at most: what the Hub's own tools write
GROUP = 100_000_000  # bytes of images a row group, at most: what readers hold in memory

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SCHEMA = {
    "image": _IMAGE,
    "caption": pa.string(),
    "source": pa.string(),
    "key": pa.string(),
    "domain": pa.string(),
    "class": pa.string(),
    "label": pa.int64(),
    "split": pa.string(),
    "weight": pa.float64(),
}
_REPEATED = ["source", "domain", "class", "split"]  # columns of few values
_ROW = 1000  # bytes a sample takes beside its image, at most but for very long captions
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SIZES += ((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"))


def export_parquet(
    mixture: Mixture,
    table: pd.DataFrame,
    readers: Mapping[str, Reader],
    out: Path,
    *,
    licences: Mapping[str, str] | None = None,
    part_bytes: int = PART,
    group_bytes: int = GROUP,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write `data/train-NNNNN-of-NNNNN.parquet` and the card into the new folder `out`; equal input, equal bytes.

    Args:
        table: the mixture's samples, from `arrange`.
        readers: source -> its packed images.
        licences: source -> its licence, for the card.
        part_bytes, group_bytes: images a file and a row group, at most; a greater one stands alone.
        force: replace an earlier export.

    Returns:
        What DESCRIPTION says.

    Raises:
        DataError: as `export_folder`.
    """
    sizes = table["size"].to_numpy()
    parts = runs(sizes, part_bytes)
    needs = int(sizes.sum()) + _ROW * len(table)
    with export_folder(out, mixture, {"format": "parquet", "files": len(parts)}, needs=needs, force=force) as (
        folder,
        description,
    ):
        (folder / "data").mkdir()
        for number, part in enumerate(parts):
            path = folder / "data" / f"train-{number:05d}-of-{len(parts):05d}.parquet"
            _write_part(path, table.iloc[part], readers, group_bytes, progress)
        (folder / CARD).write_text(card(mixture, table, licences or {}), encoding="utf-8")
    return description


def features() -> dict[str, dict[str, str]]:
    """Return the columns' types in the words of Hugging Face `datasets`."""
    names = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64"}
    return {
        name: {"_type": "Image"} if kind == _IMAGE else {"dtype": names[kind], "_type": "Value"}
        for name, kind in _SCHEMA.items()
    }


def runs(sizes: Sequence[int] | np.ndarray, limit: int) -> list[slice]:
    """Divide consecutive items into runs whose sizes sum to at most `limit`, or of a single item."""
    ends = np.cumsum(sizes)
    bounds = [0]
    while bounds[-1] < len(ends):
        start = bounds[-1]
        before = int(ends[start - 1]) if start else 0
        bounds.append(max(start + 1, int(np.searchsorted(ends, before + limit, side="right"))))
    return [slice(start, end) for start, end in itertools.pairwise(bounds)]


def _write_part(
    path: Path, part: pd.DataFrame, readers: Mapping[str, Reader], group_bytes: int, progress: Progress | None
) -> None:
    metadata = {"huggingface": json.dumps({"info": {"features": features()}})}
    schema = pa.schema(list(_SCHEMA.items()), metadata=metadata)
    columns = [name for name in _SCHEMA if name != "image"]
    # Images are compressed already, and the least and greatest of them are of no use to anybody.
    compression = {"image.bytes": "none", "image.path": "zstd"} | dict.fromkeys(columns, "zstd")
    samples = records(part)
    with pq.ParquetWriter(
        path, schema, compression=compression, use_dictionary=_REPEATED, write_statistics=columns, write_page_index=True
    ) as writer:
        for group in runs(part["size"].to_numpy(), group_bytes):
            count = group.stop - group.start
            writer.write_table(_group(itertools.islice(samples, count), readers, schema), row_group_size=count)
            if progress is not None:
                progress(count)


def _group(samples: Iterator[Sample], readers: Mapping[str, Reader], schema: pa.Schema) -> pa.Table:
    """Read the images of a row group."""
    rows = list(samples)
    images = [readers[sample.source].read(sample.row) for sample in rows]
    paths = [f"{sample.name}.{extension(data, sample)}" for sample, data in zip(rows, images, strict=True)]
    source, _, key, text, domain, class_, label, split, weight, _ = zip(*rows, strict=True)
    image = pa.StructArray.from_arrays([pa.array(images, pa.binary()), pa.array(paths, pa.string())], fields=_IMAGE)
    columns = (text, source, key, domain, class_, label, split, weight)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, list(_SCHEMA.values())[1:], strict=True)]
    return pa.Table.from_arrays([image, *arrays], schema=schema)


def card(mixture: Mixture, table: pd.DataFrame, licences: Mapping[str, str]) -> str:
    """Return the data set's card: the header that the Hub and `datasets` read, and what the mixture holds."""
    head = {
        "pretty_name": f"Domix mixture {mixture.name}",
        "license": "other",
        "license_name": "licences-of-the-sources",
        "task_categories": ["zero-shot-image-classification"],
        "tags": ["domain-generalization", "clip"],
        "size_categories": [next((name for most, name in _SIZES if len(table) < most), "100M<n<1B")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}],
    }
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False
    yaml.dump(head, text)
    parts = [f"---\n{text.getvalue()}---", f"# {mixture.name}", _summary(mixture, table)]
    parts += ["## Sources", _sources(table, licences), "## Samples", _domains(table), "## Columns", _COLUMNS]
    return "\n\n".join(parts) + "\n"


_COLUMNS = """`image` the packed image, `caption`, `source` and `key` (unique together), `domain` the drawing style,
`class` its name or null, `label` its number within the source or -1, `split`, `weight` of the sample in the mixture.

```python
from datasets import load_dataset
data = load_dataset("<this folder>", split="train")
data[0]["image"], data[0]["caption"]
```"""


def _summary(mixture: Mixture, table: pd.DataFrame) -> str:
    text = (
        f"A training mixture of images and captions: {len(table):,} samples, exported by Domix. Digest of the"
        f" mixture: `{mixture.digest}`. Name in the reference study: `{mixture.alias}`."
    )
    if mixture.held_out is None:
        return text
    domain, classes = mixture.held_out
    return f"{text}\n\nWithheld: no sample of domain `{domain}` shows one of these classes: {', '.join(classes)}."


def _sources(table: pd.DataFrame, licences: Mapping[str, str]) -> str:
    lines = ["| source | samples | licence |", "|---|---:|---|"]
    for source, count in table["source"].value_counts(sort=False).items():
        licence = licences.get(str(source), "not recorded: see the source's own page")
        lines.append(f"| {source} | {count:,} | {licence} |")
    return "\n".join(lines)


def _domains(table: pd.DataFrame) -> str:
    counts = table.groupby(["source", "domain"], sort=False, dropna=False)
    lines = ["| source | domain | samples | classes |", "|---|---|---:|---:|"]
    for name, group in counts["class"]:
        source, domain = name if isinstance(name, tuple) else (name, "")
        lines.append(f"| {source} | {domain} | {len(group):,} | {group.nunique():,} |")
    return "\n".join(lines)
