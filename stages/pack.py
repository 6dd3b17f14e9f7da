"""Stage pack: decode every image of one source once, reject the bad, and write shards and the index.

python -m stages.pack <source>       reads what fetch.paths or the store holds, writes artifacts/shards/<source>

A packing cut short keeps its finished shards in .cache/pack; started again, it goes on where it was.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from domix.data.archives.manifests import check_unchanged, read_files
from domix.data.classes.imagenet_subsets import ANSWERS
from domix.data.classes.ood_groups import GROUPS
from domix.data.pack.drivers import get_driver
from domix.data.pack.packing import PackStats, Settings, pack
from domix.data.sources.contract import Answering, Grouped
from domix.data.sources.registry import get_source
from domix.project.common import ARTIFACTS, STATE, naming_files, original_root, run, source_root
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import passing
from domix.runtime.files import atomic_folder, digest_of, write_json
from domix.settings.params import Params

POSE_SEED = 0  # part of the set's definition: every study sees the same poses


def main(params: Params, source: str) -> None:
    pack_source(params, source, ARTIFACTS / "raw" / source, ARTIFACTS / "shards" / source)


def pack_source(params: Params, name: str, raw: Path, out: Path) -> None:
    """Pack the files of one source that the folder `raw` lists into the folder `out`.

    Raises:
        DataError: its files are not as fetch found them, are damaged, or hold too many bad images.
    """
    with naming_files(params, name, raw):
        _pack(params, name, raw, out)


def _pack(params: Params, name: str, raw: Path, out: Path) -> None:
    wanted, root = params.pack, source_root(params, name)
    files = read_files(raw)
    with passing(items=raw):
        check_unchanged(root, files)
    settings = Settings(name, size=wanted.size, format=wanted.format, seed=POSE_SEED)
    source = get_source(name, has_folder=name in params.fetch.paths)
    parts = source.parts(root, size=wanted.shard_samples, poses=wanted.poses)
    digest = digest_of(
        code=code_digest(pack.__module__),
        files=[asdict(file) for file in files],
        settings=asdict(settings),
        samples=wanted.shard_samples,
        poses=wanted.poses,
    )
    staging = original_root() / STATE / "pack" / name / digest
    with (
        passing(max_bad_share="pack.max_bad_share"),
        atomic_folder(out) as folder,
        tqdm(total=len(parts), desc=f"pack {name}", unit="shard", leave=False, disable=None) as bar,
    ):
        total = PackStats(name)

        def show(part: PackStats) -> None:
            total.add(part)
            bar.set_postfix_str(f"{total.read:,} images, {total.read - total.packed:,} bad", refresh=False)
            bar.update()

        driver = get_driver(wanted.driver, wanted.workers)
        stats = pack(
            settings, parts, folder, staging=staging, driver=driver, max_bad_share=wanted.max_bad_share, progress=show
        )
        if isinstance(source, Answering):
            write_json(folder / ANSWERS, source.answers(root))
        if isinstance(source, Grouped):
            write_json(folder / GROUPS, source.groups(root))
    shutil.rmtree(staging.parent)  # what other settings have left half-done goes, too
    print(f"pack: {stats.packed:,} of {stats.read:,} pictures of {name}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
