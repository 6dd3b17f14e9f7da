"""A project of photograph-like images for measurements at 224 pixels: shards, captions, a mixture, params.yaml.

The images are the bundled set's, enlarged to the short side that real sets are packed at, with grain, so that their
JPEG files are as large as photographs' and take as long to decode. Sides vary, as they do.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from ruamel.yaml import YAML

from domix.data.loading.samples import Opened
from domix.data.mixtures.mixture import Mixture, write_mixture
from domix.data.store.index import make_index, shard_name, write_index
from domix.data.store.shards import ShardWriter, make_block
from domix.runtime.files import atomic_folder
from domix.runtime.tables import write_table
from domix.settings.params import Params

NAME = "photos"  # of the source and of the mixture
SIZES = ((256, 256), (341, 256), (256, 341))  # width and height, in turn
A_SHARD = 256  # samples
GRAIN = 12  # grey levels


def make(folder: Path, opened: Opened, params: Params, *, count: int) -> Path:
    """Make the project of `count` images in `folder`, if it is not there yet; return the folder.

    Args:
        opened: the mixture whose images and captions it takes, over and over if they are too few.
        params: what its params.yaml says besides source and mixture.
    """
    about = {"count": count, "mixture": opened.mixture.digest, "sizes": SIZES, "grain": GRAIN}
    mark = folder / "about.json"
    if not mark.exists() or json.loads(mark.read_text(encoding="utf-8")) != json.loads(json.dumps(about)):
        with atomic_folder(folder) as temporary:
            _write(temporary / "artifacts", opened, count)
            (temporary / "about.json").write_text(json.dumps(about), encoding="utf-8")
    tree: dict[str, Any] = params.model_dump() | {"sources": [NAME], "base": [], "mixtures": [NAME], "recipes": {}}
    tree["supervised"]["mixtures"] = []
    with open(folder / "params.yaml", "w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
    return folder


def _write(artifacts: Path, opened: Opened, count: int) -> None:
    shards = artifacts / "shards" / NAME
    shards.mkdir(parents=True)
    described: list[dict[str, object]] = []
    for number, first in enumerate(range(0, count, A_SHARD)):
        with ShardWriter(shards / shard_name(number)) as writer:
            described += [_add(writer, opened, row) for row in range(first, min(first + A_SHARD, count))]
    index = make_index(described)
    write_index(shards, index)
    texts = list(itertools.islice(itertools.cycle(opened.samples["text"]), count))
    captions = pd.DataFrame({"key": index["key"], "standard": texts, "aligned": texts})
    write_table(artifacts / "captions" / f"{NAME}.parquet", captions)
    mixture = Mixture(
        name=NAME,
        alias=NAME,
        standard_name=NAME,
        caption="standard",
        domains=("real",),
        held_out=None,
        parameters={"source": NAME},
        samples={NAME: count},
        rows=pd.DataFrame({"source": NAME, "row": range(count), "caption": "standard"}),
    )
    (artifacts / "mixtures").mkdir()
    write_mixture(artifacts / "mixtures" / f"{NAME}.parquet", mixture, {NAME: index})


def _add(writer: ShardWriter, opened: Opened, row: int) -> dict[str, object]:
    sample = opened.samples.iloc[row % len(opened.samples)]
    width, height = SIZES[row % len(SIZES)]
    with Image.open(io.BytesIO(opened.readers[sample["source"]].read(int(sample["row"])))) as image:
        large = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(row).integers(-GRAIN, GRAIN + 1, (height, width, 1), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray((np.asarray(large, dtype=np.int16) + grain).clip(0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=95
    )
    place = writer.add(make_block(f"{row:08d}", "jpg", file.getvalue(), {}))
    return (
        {"key": f"{row:08d}", "source": NAME, "domain": "real", "class": "image", "label": 0, "split": "train"}
        | place._asdict()
        | {"width": width, "height": height, "phash": "0" * 16}
        | {"sha256": hashlib.sha256(file.getvalue()).hexdigest()}
    )
