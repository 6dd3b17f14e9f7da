"""Write the captions of one source's samples: `python -m stages.captions <source>`."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from domix.data.captions.captions import own_captions, template_captions, write_captions
from domix.data.sources.registry import get_source
from domix.data.store.index import ROWS
from domix.project.common import ARTIFACTS, naming_files, run, source_root
from domix.runtime.errors import DataError, passing
from domix.settings.params import Params


def main(params: Params, source: str) -> None:
    folder = ARTIFACTS / "shards" / source
    try:
        with passing(keys=folder):
            write_captions(ARTIFACTS / "captions" / f"{source}.parquet", make(params, source, folder))
    except DataError as error:
        error.prefixed(f"captions of {source}")
        raise


def make(params: Params, source: str, folder: Path) -> Iterator[pa.Table]:
    """Make the captions: the samples' own if pack found any, else of their classes and domains."""
    index, texts, chosen = folder / "index.parquet", folder / "texts.parquet", params.captions
    if texts.is_file():
        return own_captions(ROWS.read(index, ["key"])["key"], texts)
    samples, keys = ROWS.read(index, ["key", "domain", "class"]), None
    if chosen.stream == "reference":
        samples, keys = list_samples(params, source), samples["key"]
    return template_captions(samples, seed=chosen.seed, stream=chosen.stream, articles=chosen.articles, keys=keys)


def list_samples(params: Params, source: str) -> pd.DataFrame:
    """List all lines of a source: the reference stream runs over those too whose images were rejected."""
    found = get_source(source, has_folder=source in params.fetch.paths)
    with naming_files(params, source, ARTIFACTS / "raw" / source):
        listing = found.listing(source_root(params, source), poses=params.pack.poses)
    if listing is None:
        raise DataError("its samples bring captions, but pack wrote no texts.parquet", argument="keys")
    return listing


if __name__ == "__main__":
    run(main)
