"""`domix export`: what `dvc repro mixtures` has made, for another trainer. How these read it: docs/export.md."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from domix.data.archives.manifests import load_manifest
from domix.data.export.parquet import export_parquet
from domix.data.export.records import arrange
from domix.data.export.tsv import export_tsv
from domix.data.export.webdataset import export_webdataset
from domix.data.loading.samples import Opened, open_mixture
from domix.project.common import ARTIFACTS
from domix.runtime.errors import ParameterError, passing

Format = Literal["tsv", "webdataset", "parquet"]
Dialect = Literal["csv", "reference"]
OPTIONS: dict[str, tuple[str, ...]] = {  # format -> the options that it has of its own
    "tsv": ("dialect", "images", "prefix"),
    "webdataset": ("shard_samples", "seed"),
    "parquet": (),
}
SHARD_SAMPLES, SEED = 4096, 0  # where none are given


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says; what it leaves open is None or empty."""

    mixture: str
    format: Format
    out: Path
    force: bool = False
    dialect: Dialect | None = None
    images: Sequence[str] = ()
    prefix: str | None = None
    shard_samples: int | None = None
    seed: int | None = None


def main(asked: Asked) -> None:
    """Export as asked.

    Raises:
        ParameterError: an option belongs to another format.
    """
    check_options(asked)
    originals = _originals(asked.images)
    out = asked.out.resolve()
    path, shards = ARTIFACTS / "mixtures" / f"{asked.mixture}.parquet", ARTIFACTS / "shards"
    opened = open_mixture(
        path,
        shards=shards,
        captions=ARTIFACTS / "captions",
        columns=["label", "split"],
    )
    with passing(mixture=path, samples=shards, data=shards):
        write(asked, opened, out, originals)


def write(asked: Asked, opened: Opened, out: Path, originals: Mapping[str, Path]) -> None:
    """Write the samples of an opened mixture."""
    mixture, table = opened.mixture, arrange(opened.mixture, opened.samples, opened.indices)
    with tqdm(total=len(table), unit=" samples", unit_scale=True, file=sys.stderr, disable=None) as bar:
        given = (mixture, table, opened.readers, out)
        if asked.format == "tsv":
            prefix = asked.prefix or str(out)
            export_tsv(
                *given,
                prefix=prefix,
                originals=originals,
                dialect=asked.dialect or "csv",
                force=asked.force,
                progress=bar.update,
            )
        elif asked.format == "webdataset":
            samples = SHARD_SAMPLES if asked.shard_samples is None else asked.shard_samples
            seed = SEED if asked.seed is None else asked.seed
            export_webdataset(*given, shard_samples=samples, seed=seed, force=asked.force, progress=bar.update)
        else:
            manifests = {source: load_manifest(source) for source in mixture.samples}
            licences = {source: manifest.licence for source, manifest in manifests.items() if manifest}
            export_parquet(*given, licences=licences, force=asked.force, progress=bar.update)
    print(f"export: {len(table):,} samples of {mixture.name} in {out}", file=sys.stderr)


def check_options(asked: Asked) -> None:
    """Refuse options of another format than the one asked for.

    Raises:
        ParameterError: there is one.
    """
    for owner, names in OPTIONS.items():
        given = [name for name in names if getattr(asked, name) not in (None, [], ())]
        if given and owner != asked.format:
            option = f"--{given[0].replace('_', '-')}"
            raise ParameterError(f"{option} is an option of the format {owner}, not of {asked.format}: leave it out")


def _originals(pairs: Sequence[str]) -> dict[str, Path]:
    for pair in pairs:
        if not all(pair.partition("=")):
            raise ParameterError(f"--images {pair!r} is not SOURCE=FOLDER, as in domainnet=/data/domainnet")
    return {source: Path(folder) for source, _, folder in (pair.partition("=") for pair in pairs)}
