"""The packed images of a made-up study (tests.fake_report)."""

from __future__ import annotations

from pathlib import Path

from domix.data.store.index import make_index, shard_name, write_index
from domix.data.store.shards import ShardWriter, make_block
from domix.runtime.files import write_json
from tests.fake_report import Fake, image


def write_shards(folder: Path, fake: Fake) -> None:
    """Pack an image for every row of the fake's index."""
    folder.mkdir(parents=True)
    common = {"source": "emoji", "split": "test", "width": 64, "height": 64, "sha256": "0" * 64, "phash": "0" * 16}
    rows = []
    with ShardWriter(folder / shard_name(0)) as writer:
        for row, domain, name in zip(fake.rows["row"], fake.rows["domain"], fake.rows["class"], strict=True):
            key = f"{domain}/{name}/{row:06d}"
            place = writer.add(make_block(key, "png", image(row), {}))
            label = fake.classes.index(name)
            rows.append(common | place._asdict() | {"key": key, "domain": domain, "class": name, "label": label})
    write_index(folder, make_index(rows))
    write_json(folder / "stats.json", {"source": "emoji", "read": len(rows), "packed": len(rows), "rejected": {}})
