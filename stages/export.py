"""Export a mixture for another trainer: `python -m stages.export <mixture> <tsv|webdataset|parquet> <folder>`.

A command, no stage of the pipeline: it reads what `dvc repro mixtures` has made, and writes where it is told. How other
trainers read the result: docs/export.md.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from domix.data.cells import suggest
from domix.data.export import arrange
from domix.data.export_parquet import export_parquet
from domix.data.export_tsv import export_tsv
from domix.data.export_webdataset import export_webdataset
from domix.data.index import read_index
from domix.data.manifests import load_manifest
from domix.data.mixtures import Mixture, read_mixture
from domix.data.samples import COLUMNS, gather
from domix.data.shards import ShardReader
from domix.runtime.errors import DomixError, ParameterError
from domix.runtime.tables import read_table
from stages.common import ARTIFACTS, CUT_SHORT, USER_ERROR


def main(*arguments: str) -> None:
    """Export as the command line says."""
    asked = _parse(list(arguments))
    originals = _originals(asked.pictures) if asked.format == "tsv" else {}
    out = asked.out.resolve()
    mixture, table, readers = _open(asked.mixture)
    with tqdm(total=len(table), unit=" samples", unit_scale=True, file=sys.stderr, disable=None) as bar:
        given = (mixture, table, readers, out)
        if asked.format == "tsv":
            prefix = asked.prefix or str(out)
            export_tsv(
                *given,
                prefix=prefix,
                originals=originals,
                dialect=asked.dialect,
                force=asked.force,
                progress=bar.update,
            )
        elif asked.format == "webdataset":
            shards = {"shard_samples": asked.shard_samples, "seed": asked.seed}
            export_webdataset(*given, **shards, force=asked.force, progress=bar.update)
        else:
            manifests = {source: load_manifest(source) for source in mixture.samples}
            licences = {source: manifest.licence for source, manifest in manifests.items() if manifest}
            export_parquet(*given, licences=licences, force=asked.force, progress=bar.update)
    print(f"export: {len(table):,} samples of {mixture.name} in {out}", file=sys.stderr)


def _parse(arguments: list[str]) -> argparse.Namespace:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("out", type=Path, help="new folder")
    shared.add_argument("--force", action="store_true", help="replace an earlier export in this folder")
    parser = argparse.ArgumentParser(prog="python -m stages.export", description="Export a mixture's samples.")
    parser.add_argument("mixture", help="name of a mixture, as in params.yaml")
    formats = parser.add_subparsers(dest="format", required=True)
    tsv = formats.add_parser("tsv", parents=[shared], help="table of paths and captions, and the picture files")
    tsv.add_argument(
        "--dialect",
        choices=["csv", "reference"],
        default="csv",
        help="csv: quoted so that pandas and open_clip read back every caption; reference: unquoted",
    )
    tsv.add_argument(
        "--pictures",
        action="append",
        default=[],
        metavar="SOURCE=FOLDER",
        help="name the source's unpacked files below this folder, and write none of its packed pictures",
    )
    tsv.add_argument("--prefix", help="what the paths of written pictures begin with (default: the new folder's path)")
    shards = formats.add_parser("webdataset", parents=[shared], help="tar shards")
    shards.add_argument("--shard-samples", type=int, default=4096, help="samples a shard, at most (default: 4096)")
    shards.add_argument("--seed", type=int, default=0, help="of the samples' order (default: 0)")
    formats.add_parser("parquet", parents=[shared], help="data set for Hugging Face datasets")
    return parser.parse_args(arguments)


def _originals(pairs: list[str]) -> dict[str, Path]:
    for pair in pairs:
        if not all(pair.partition("=")):
            raise ParameterError(f"--pictures {pair!r} is not SOURCE=FOLDER, as in domainnet=/data/domainnet")
    return {source: Path(folder) for source, _, folder in (pair.partition("=") for pair in pairs)}


def _open(name: str) -> tuple[Mixture, pd.DataFrame, dict[str, ShardReader]]:
    """Return a mixture, its samples, and what reads their pictures."""
    path = ARTIFACTS / "mixtures" / f"{name}.parquet"
    known = sorted(file.stem for file in path.parent.glob("*.parquet") if file.stem != "cells")
    if known and name not in known:
        raise ParameterError(f"there is no mixture {name!r}: {suggest(name, known)}")
    mixture = read_mixture(path)
    shards = {source: ARTIFACTS / "shards" / source for source in mixture.samples}
    indices = {source: read_index(folder, [*COLUMNS, "label", "split"]) for source, folder in shards.items()}
    captions = {source: read_table(ARTIFACTS / "captions" / f"{source}.parquet") for source in shards}
    table = arrange(mixture, gather(mixture, indices, captions), indices)
    return mixture, table, {source: ShardReader(folder) for source, folder in shards.items()}


def run() -> None:
    """Run `main` with the command line's arguments, and exit as a stage does (stages/common.py)."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwinds, so that temporary files are removed
    try:
        main(*sys.argv[1:])
    except DomixError as error:
        print(f"export: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:
        print("export: stopped; nothing was written", file=sys.stderr)
        sys.exit(CUT_SHORT)


if __name__ == "__main__":
    run()
