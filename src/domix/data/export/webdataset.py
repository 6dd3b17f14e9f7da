"""Export of a mixture as webdataset shards, for open_clip's `--dataset-type webdataset` and any other streaming reader.

NNNNN.tar holds three members a sample: `<source>/<key>.<jpg|png|webp>`, `.json` and `.txt`, the caption. `sizes.json`
tells open_clip how many samples each shard has. Streaming readers shuffle shards and a small buffer only, and a
mixture is sorted by source, domain and class: so its samples are dealt out in a seeded random order.
"""

from __future__ import annotations

import itertools
import json
import logging
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from domix.data.export.records import Progress, Reader, Sample, export_folder, extension, records
from domix.data.mixtures.mixture import Mixture
from domix.data.store.shards import BLOCK, END
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from domix.runtime.seeds import numpy_generator

SIZES = "sizes.json"
READ_BY_OPEN_CLIP = ("jpg", "png", "webp")  # it skips samples of other formats without a word

_MEMBERS = 4096  # bytes a sample takes beside its image, about: three headers, two short members

log = logging.getLogger(__name__)


def export_webdataset(
    mixture: Mixture,
    table: pd.DataFrame,
    readers: Mapping[str, Reader],
    out: Path,
    *,
    shard_samples: int = 4096,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write `NNNNN.tar` and `sizes.json` into the new folder `out`; equal input gives equal bytes.

    Args:
        table: the mixture's samples, from `arrange`.
        readers: source -> its packed images.
        shard_samples: samples a shard, at most; all shards are equally large but for one sample.
        seed: of the order of the samples.
        force: replace an earlier export.

    Returns:
        What DESCRIPTION says.

    Raises:
        ParameterError: `shard_samples` is not positive.
        DataError: a sample stands twice in the mixture, or as `export_folder`.
    """
    if shard_samples < 1:
        raise ParameterError(f"a shard must hold at least 1 sample, not {shard_samples}")
    _check_unique(mixture, table)
    order = numpy_generator(seed, "export").permutation(len(table))
    shards = -(-len(table) // shard_samples)
    bounds = [len(table) * number // shards for number in range(shards + 1)]
    needs = int(table["size"].sum()) + _MEMBERS * len(table)
    about = {"format": "webdataset", "seed": seed, "shards": shards}
    with export_folder(out, mixture, about, needs=needs, force=force) as (folder, description):
        odd = 0
        for number, (start, end) in enumerate(itertools.pairwise(bounds)):
            part = table.iloc[order[start:end]]
            odd += _write_shard(folder / f"{number:05d}.tar", part, readers, progress)
        write_json(folder / SIZES, {f"{n:05d}.tar": bounds[n + 1] - bounds[n] for n in range(shards)})
        description |= {"not_read_by_open_clip": odd}
    if odd:
        log.warning("%d images are GIF or BMP files, which open_clip's webdataset reader skips: pack them anew", odd)
    return description


def _check_unique(mixture: Mixture, table: pd.DataFrame) -> None:
    twice = table.duplicated(["source", "key"]).to_numpy()
    if twice.any():
        key = table["key"].iloc[int(twice.argmax())]
        raise DataError(
            f"mixture {mixture.name!r} holds {key!r} more than once, which shards cannot: export it as tsv or parquet"
        )


def _write_shard(path: Path, part: pd.DataFrame, readers: Mapping[str, Reader], progress: Progress | None) -> int:
    """Write a shard, and return how many of its images open_clip would skip."""
    odd = 0
    with open(path, "wb") as file:
        for sample in records(part):
            data = readers[sample.source].read(sample.row)
            kind = extension(data, sample)
            odd += kind not in READ_BY_OPEN_CLIP
            for suffix, body in ((kind, data), ("json", _described(sample)), ("txt", sample.text.encode())):
                file.write(_member(f"{sample.name}.{suffix}", body))
            if progress is not None:
                progress(1)
        file.write(END)
    return odd


def _member(name: str, body: bytes) -> bytes:
    """Lay a tar member out, without time and owner; tarfile's own way of adding one is slower."""
    info = tarfile.TarInfo(name)
    info.size = len(body)
    return info.tobuf(tarfile.PAX_FORMAT) + body + b"\0" * (-len(body) % BLOCK)


def _described(sample: Sample) -> bytes:
    tree = {
        "source": sample.source,
        "key": sample.key,
        "domain": sample.domain,
        "class": sample.class_name,
        "label": sample.label,
        "split": sample.split,
        "weight": sample.weight,
        "caption": sample.text,
    }
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()
