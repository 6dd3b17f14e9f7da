"""Results that are kept by what they depend on, and made only once.

<folder>/<digest>/<files>      one result
<folder>/<digest>/about.json   its key, and the bytes and SHA-256 of each file

A result whose files are not those that were written is made again.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from domix.runtime.errors import DataError
from domix.runtime.files import atomic_folder, digest_of, explain, read_json, sha256_file, write_json
from domix.runtime.locks import alone

ABOUT = "about.json"

logger = logging.getLogger(__name__)


class Kept:
    """The results of one machine, shared by its processes."""

    def __init__(self, folder: Path) -> None:
        """Keep them below `folder`, which need not exist."""
        self.folder = folder

    def has(self, key: Mapping[str, Any]) -> bool:
        """Tell whether there is a result for `key` (JSON values), be it damaged."""
        return self._home(key).is_dir()

    def give(self, key: Mapping[str, Any], out: Path, make: Callable[[Path], object]) -> None:
        """Put the files of the result for `key` into the folder `out`, linked where the file system can, else copied.

        Args:
            key: all that the result depends on, as JSON values.
            out: exists.
            make: writes the files into an empty folder, where there is no result yet.

        Raises:
            DomixError: there is no room, or a folder cannot be written.
        """
        home = self._home(key)
        with explain(home):
            self.folder.mkdir(parents=True, exist_ok=True)
        with alone(home.with_suffix(".lock"), "making the same result"):
            if home.exists() and not _is_whole(home):
                logger.warning("the result kept in %s is damaged: it is made again", home)
                shutil.rmtree(home)
            if not home.exists():
                with atomic_folder(home) as temporary:
                    make(temporary)
                    files = {path.name: [path.stat().st_size, sha256_file(path)] for path in temporary.iterdir()}
                    write_json(temporary / ABOUT, {"files": dict(sorted(files.items())), "key": key})
            with explain(out):
                for name in read_json(home / ABOUT)["files"]:
                    _link(home / name, out / name)

    def _home(self, key: Mapping[str, Any]) -> Path:
        return self.folder / digest_of(**key)


def _is_whole(home: Path) -> bool:
    """Tell whether the files of a result are those that were written."""
    try:
        files = read_json(home / ABOUT)["files"]
        return all(
            (home / name).stat().st_size == size and sha256_file(home / name) == sha256
            for name, (size, sha256) in files.items()
        )
    except (DataError, OSError, KeyError, TypeError, ValueError):
        return False


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
