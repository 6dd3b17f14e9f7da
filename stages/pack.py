"""Stage pack: decode every picture of one source once, reject the bad, and write shards and the index.

python -m stages.pack <source>       reads artifacts/raw/<source>, writes artifacts/shards/<source>
"""

from __future__ import annotations

import sys

from domix.config import Params
from domix.data.pack import pack
from domix.data.sources import get_source
from domix.runtime.files import atomic_folder
from stages.common import ARTIFACTS, run

POSE_SEED = 0  # part of the set's definition: every study sees the same poses


def main(params: Params, name: str) -> None:
    """Pack one source."""
    settings = params.pack
    samples = get_source(name).samples(ARTIFACTS / "raw" / name, poses=settings.poses)
    with atomic_folder(ARTIFACTS / "shards" / name) as out:
        stats = pack(
            name,
            samples,
            out,
            size=settings.size,
            shard_mb=settings.shard_mb,
            max_bad_share=settings.max_bad_share,
            workers=settings.workers,
            seed=POSE_SEED,
        )
    print(f"pack: {stats.packed:,} of {stats.read:,} pictures of {name}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
