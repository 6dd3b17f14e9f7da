"""Stage fetch: bring the files of one source, or find them where the user has them, and verify them.

What can be told without decoding an image is told here: files, lists, labels and names that do not fit together.

python -m stages.fetch <source>      writes artifacts/raw/<source>/files.json; the files themselves stay in fetch.paths
                                     .<source>, or are downloaded into .cache/downloads/<source>
"""

from __future__ import annotations

import sys
from pathlib import Path

from domix.data.archives.archive import Entry
from domix.data.archives.manifests import Manifest, load_manifest, write_files
from domix.data.fetch.download import download
from domix.data.fetch.fetching import fetch_files
from domix.data.sources.registry import get_source
from domix.project.common import ARTIFACTS, naming_files, run, source_root
from domix.project.progress import progress_line
from domix.runtime.errors import DataError, passing
from domix.runtime.files import atomic_folder
from domix.runtime.progress import Report
from domix.settings.params import Params


def main(params: Params, source: str) -> None:
    fetch(params, source, ARTIFACTS / "raw" / source)


def fetch(params: Params, name: str, out: Path) -> None:
    """Fetch one source, and write the list of its files into the folder `out`."""
    given = name in params.fetch.paths
    with passing(name=f"fetch.paths.{name}"):
        source = get_source(name, has_folder=given)
    manifest, root = load_manifest(name), source_root(params, name)
    with progress_line(f"fetch {name}") as report:
        verified = {} if given else _download(params, name, manifest, root, report)
        if not root.is_dir():
            raise DataError(f"the folder {root} does not exist: make it, or correct fetch.paths.{name}")
        with naming_files(params, name, out):
            items = fetch_files(source, root, manifest=manifest, verified=verified, report=report)
            source.parts(root, size=params.pack.shard_samples, poses=params.pack.poses)  # refuses what pack would
    with atomic_folder(out) as folder:
        write_files(folder, items)


def _download(params: Params, name: str, manifest: Manifest | None, store: Path, report: Report) -> dict[str, Entry]:
    """Download what the manifest names; without addresses, say what the user must supply."""
    if manifest is None or not manifest.files:
        note = f" {manifest.note}" if manifest else ""
        page = f" Homepage: {manifest.homepage}" if manifest and manifest.homepage else ""
        raise DataError(
            f"{name} cannot be downloaded: name the folder that holds its files in fetch.paths.{name}.{note}{page}"
        )
    print(f"fetch: {manifest.title}. Licence: {manifest.licence}", file=sys.stderr)
    mirrors = [params.fetch.mirrors[name]] if name in params.fetch.mirrors else []
    keys = {"mirrors": f"fetch.mirrors.{name}", "store": f"fetch.paths.{name}"}
    with passing(offline="fetch.offline", **keys):
        entries = download(
            manifest.files, store, jobs=params.fetch.jobs, offline=params.fetch.offline, mirrors=mirrors, report=report
        )
    return {entry.file: entry for entry in entries}


if __name__ == "__main__":
    run(main)
