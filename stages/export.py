"""Export a mixture for another trainer: `python -m stages.export <mixture> <tsv|webdataset|parquet> <folder>`.

A command, no stage of the pipeline: it reads what `dvc repro mixtures` has made, and writes where it is told. How other
trainers read the result: docs/export.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from domix.config import Params
from domix.data.export import arrange
from domix.data.export_parquet import export_parquet
from domix.data.export_tsv import export_tsv
from domix.data.export_webdataset import export_webdataset
from domix.data.manifests import load_manifest
from domix.data.samples import open_mixture
from domix.runtime.errors import ParameterError
from stages.common import ARTIFACTS, run


def main(params: Params, *arguments: str) -> None:
    """Export as the command line says."""
    asked = _parse(list(arguments))
    originals = _originals(asked.pictures) if asked.format == "tsv" else {}
    out = asked.out.resolve()
    opened = open_mixture(
        ARTIFACTS / "mixtures" / f"{asked.mixture}.parquet",
        shards=ARTIFACTS / "shards",
        captions=ARTIFACTS / "captions",
        columns=["label", "split"],
    )
    mixture, table = opened.mixture, arrange(opened.mixture, opened.samples, opened.indices)
    with tqdm(total=len(table), unit=" samples", unit_scale=True, file=sys.stderr, disable=None) as bar:
        given = (mixture, table, opened.readers, out)
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


if __name__ == "__main__":
    run(main, timed=False)
