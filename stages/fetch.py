"""Stage fetch: bring the raw files of one source and verify them.

python -m stages.fetch <source>      reads fetch.paths.<source>, writes artifacts/raw/<source>
"""

from __future__ import annotations

from pathlib import Path

from domix.config import Params
from domix.data.sources import get_source
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import atomic_folder
from stages.common import ARTIFACTS, run


def main(params: Params, name: str) -> None:
    """Fetch one source."""
    source = get_source(name)
    if name not in params.fetch.paths:
        raise ParameterError(f"fetch.paths has no {name}: say which folder holds its files")
    path = Path(params.fetch.paths[name])
    if not path.is_dir():
        raise DataError(
            f"the folder {path} of source {name} does not exist: run dvc repro data.dvc, or correct fetch.paths"
        )
    with atomic_folder(ARTIFACTS / "raw" / name) as out:
        source.fetch(path, out)


if __name__ == "__main__":
    run(main)
