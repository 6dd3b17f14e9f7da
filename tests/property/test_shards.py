"""Whatever is written into shards is read back."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from domix.data.store.index import make_index, read_index, write_index
from domix.data.store.shards import ShardReader, ShardWriter, make_block

NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="./\\"), min_size=1, max_size=60)
BLANK = {"source": "s", "domain": "d", "class": "c", "label": 0, "split": "train", "width": 1, "height": 1}


@settings(max_examples=60, deadline=None)
@given(
    images=st.dictionaries(st.tuples(NAMES, NAMES).map("/".join), st.binary(max_size=3000), min_size=1, max_size=12),
    data=st.data(),
)
def test_round_trip(images, data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ShardWriter(folder / "00000.tar") as writer:
            rows = [
                BLANK | {"key": key, "sha256": "", "phash": ""} | writer.add(make_block(key, "png", p, BLANK))._asdict()
                for key, p in images.items()
            ]
        write_index(folder, make_index(rows))
        index = read_index(folder)
        order = data.draw(st.permutations(range(len(index))))
        with ShardReader(folder) as reader:
            assert {index.loc[row, "key"]: reader.read(row) for row in order} == images
