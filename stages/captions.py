"""Write the captions of one source's samples: `python -m stages.captions <source>`."""

from domix.config import Params
from domix.data.captions import make_captions
from domix.runtime.errors import DataError
from domix.runtime.tables import read_table, write_table
from stages.common import ARTIFACTS, run


def main(params: Params, source: str) -> None:
    path = ARTIFACTS / "shards" / source / "index.parquet"
    index = read_table(path, ["key", "domain", "class"])
    try:
        captions = make_captions(index, seed=params.captions.seed)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    write_table(ARTIFACTS / "captions" / f"{source}.parquet", captions)


if __name__ == "__main__":
    run(main)
