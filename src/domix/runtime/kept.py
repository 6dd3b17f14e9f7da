"""Results that are kept by what they depend on, and made only once on a machine.

<folder>/<digest>/<files>      one result
<folder>/<digest>/about.json   its key, and the bytes of each file; the SHA-256, too, where files are checked by content
<folder>/<digest>.lock         held by the process that makes it

A result whose files are not those that were written is made again. What processes killed while making one have left is
removed by the next that makes another. Deleting the folder, or anything in it, is always safe while nothing runs.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from domix.runtime.errors import DataError
from domix.runtime.files import atomic_folder, digest_of, explain, link_or_copy, read_json, sha256_file, write_json
from domix.runtime.locks import alone, is_free

ABOUT = "about.json"

logger = logging.getLogger(__name__)


class Kept:
    """The results of one machine, shared by its processes."""

    def __init__(self, folder: Path, *, by_content: bool = True) -> None:
        """Keep them below `folder`, which need not exist.

        Args:
            folder: of all of them.
            by_content: look for damage in every byte at each use; else in the files' sizes alone, which is for results
                that are larger than what is read of them.
        """
        self.folder, self._by_content = folder, by_content

    def has(self, key: Mapping[str, Any]) -> bool:
        """Tell whether there is a result for `key` (JSON values), be it damaged."""
        return self._home(key).is_dir()

    def open(self, key: Mapping[str, Any], make: Callable[[Path], object], *, what: str = "result") -> Path:
        """Return the folder with the files of the result for `key`, to be read and not changed.

        Args:
            key: all that the result depends on, the code that makes it included, as JSON values.
            make: writes the files into an empty folder, where there is no result yet.
            what: the result is, for the log.

        Raises:
            DomixError: there is no room, or the folder cannot be written.
        """
        home = self._home(key)
        if self._is_whole(home):  # needs no lock, nor that the folder may be written: a whole result never changes
            return home
        with explain(home):
            self.folder.mkdir(parents=True, exist_ok=True)
        with alone(home.with_suffix(".lock"), f"making the same {what}"):
            if home.exists() and not self._is_whole(home):
                logger.warning("the %s kept in %s is damaged: it is made again", what, home)
                shutil.rmtree(home)
            if not home.exists():
                self._remove_leftovers()
                self._make(home, key, make)
        return home

    def give(self, key: Mapping[str, Any], out: Path, make: Callable[[Path], object], *, what: str = "result") -> None:
        """Put the files of the result for `key` into the folder `out`, linked where the file system can, else copied.

        Args, errors: as of `open`; `out` exists.
        """
        home = self.open(key, make, what=what)
        with explain(out):
            for name in read_json(home / ABOUT)["files"]:
                link_or_copy(home / name, out / name)

    def _home(self, key: Mapping[str, Any]) -> Path:
        return self.folder / digest_of(**key)

    def _make(self, home: Path, key: Mapping[str, Any], make: Callable[[Path], object]) -> None:
        with atomic_folder(home) as temporary:
            make(temporary)
            files = {path.name: self._state(path) for path in sorted(temporary.iterdir())}
            write_json(temporary / ABOUT, {"files": files, "key": key})

    def _state(self, path: Path) -> list[int | str]:
        """Return what tells a damaged file from a whole one."""
        return [path.stat().st_size, *([sha256_file(path)] if self._by_content else [])]

    def _is_whole(self, home: Path) -> bool:
        """Tell whether the files of a result are those that were written for its key."""
        try:
            about = read_json(home / ABOUT)
            whole = all(self._state(home / name) == state for name, state in about["files"].items())
            return whole and home == self._home(about["key"])
        except (DataError, OSError, KeyError, TypeError, AttributeError):
            return False

    def _remove_leftovers(self) -> None:
        """Remove half-made results of processes that no longer run: those of which nobody holds the lock."""
        for leftover in self.folder.glob(".*.tmp-*"):
            name = leftover.name[1:].split(".tmp-")[0]
            if is_free(self.folder / f"{name}.lock"):
                shutil.rmtree(leftover, ignore_errors=True)
