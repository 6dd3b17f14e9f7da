"""dvc.lock, which says what has run: a good copy of it is kept, and takes its place when it is damaged.

<repository>/.cache/repro/dvc.lock       the last good copy
<repository>/.cache/repro/damaged.lock   what it has replaced last
<repository>/.cache/repro/running        held by the command that runs DVC there
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from domix.project.common import STATE
from domix.runtime.errors import DataError, DomixError
from domix.runtime.files import atomic_file, explain, write_text
from domix.runtime.locks import only_one

LOCK = "dvc.lock"
HOME = STATE / "repro"
DAMAGED = HOME / "damaged.lock"
CONFLICT = re.compile(rb"^(<{7} .*|>{7} .*)$", re.MULTILINE)

logger = logging.getLogger(__name__)


@contextmanager
def guarded(folder: Path) -> Generator[None]:
    """Be the only command of Domix that runs DVC in a repository within this block, with a dvc.lock that is whole.

    Raises:
        DomixError: another one runs there, or as `mend`.
    """
    with explain(folder / HOME):
        (folder / HOME).mkdir(parents=True, exist_ok=True)
    busy = f"another command of Domix runs the pipeline in {folder.resolve()}: wait for its end, then run this again"
    with only_one(folder / HOME / "running", busy):
        mend(folder)
        yield


def mend(folder: Path) -> None:
    """Put the last good copy of dvc.lock into the place of one that is damaged; keep a copy of one that is not.

    What ran after that copy was taken, DVC finds in its run cache.

    Raises:
        DataError: dvc.lock holds Git's conflict markers, which are the user's to settle.
        DomixError: another process of DVC is writing it.
    """
    if _problem_in(folder) is None:
        keep(folder)
        return
    with _dvc_waiting(folder):  # for it may be in the midst of writing what looks damaged
        problem = _problem_in(folder)
        if problem is not None:
            _restore(folder, problem)


def keep(folder: Path) -> None:
    """Keep a copy of a repository's dvc.lock, if it has one, as the last good one."""
    text = _read(folder / LOCK)
    if text is not None and text != _read(folder / HOME / LOCK):
        write_text(folder / HOME / LOCK, text)


def problem_of(text: str, others: Sequence[str] = ()) -> str | None:
    """Say what is wrong with the text of a dvc.lock; None: nothing.

    Args:
        text: of the file.
        others: texts that it had before: where it is the beginning of one of them, it has been cut short at a place
            where that cannot be seen in itself. One that is equal to another of them is as good as that.
    """
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import ParseError, parse_yaml
    from voluptuous import Invalid

    if not text.strip():
        return "empty"
    if not text.endswith("\n"):  # with which DVC always ends it
        return "cut short"
    if text not in others and any(other.startswith(text) for other in others):
        return "cut short"
    try:
        COMPILED_LOCKFILE_SCHEMA(parse_yaml(text, LOCK))
    except ParseError:
        return "not readable"
    except Invalid:
        return "not in DVC's form"
    return None


def _problem_in(folder: Path) -> str | None:
    """Say what is wrong with a repository's dvc.lock; None: nothing, or there is none.

    Raises:
        DataError: it holds Git's conflict markers.
    """
    path = folder / LOCK
    if not path.exists():
        return None
    if len(CONFLICT.findall(path.read_bytes())) > 1:
        raise DataError(
            f"{path.resolve()} holds the conflict markers of a Git merge: settle them (git checkout --ours {LOCK}, or"
            " --theirs) and run again; what that side lacks, DVC finds in its cache"
        )
    text = _read(path)
    if text is None:
        return "not readable"
    return None if text == _read(folder / HOME / LOCK) else problem_of(text, _former(folder))


def _restore(folder: Path, problem: str) -> None:
    data, former = (folder / LOCK).read_bytes(), [text for text in _former(folder) if problem_of(text) is None]
    with atomic_file(folder / DAMAGED) as temporary:
        temporary.write_bytes(data)
    said = f"{LOCK} was {problem}, as a kill while DVC writes it leaves it (kept as {DAMAGED}):"
    if not former:
        (folder / LOCK).unlink()
        logger.warning("%s there is no good copy; DVC begins a new one, with what its run cache holds", said)
        return
    text = data.decode("utf-8", errors="replace")
    like = max(former, key=lambda other: len(os.path.commonprefix([other, text])))  # noqa: RUF071  (of texts)
    write_text(folder / LOCK, like)
    keep(folder)
    logger.warning("%s the last good copy is back in its place", said)


def _former(folder: Path) -> list[str]:
    """Return the last good copy and the last commit's dvc.lock, where there are such."""
    shown = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], cwd=folder, check=False, capture_output=True)
    committed = shown.stdout.decode("utf-8", errors="replace") if shown.returncode == 0 else None
    return [text for text in (_read(folder / HOME / LOCK), committed) if text is not None]


def _read(path: Path) -> str | None:
    """Return a text as it stands; None where there is none."""
    try:
        return path.read_bytes().decode("utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


@contextmanager
def _dvc_waiting(folder: Path) -> Generator[None]:
    """Hold DVC's own lock, without which none of its processes writes.

    Raises:
        DomixError: one of them holds it.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        lock = Repo(str(folder)).lock
        lock.lock()
    except DvcException as error:
        raise DomixError(
            f"{LOCK} is not whole, and DVC is at work in {folder.resolve()} ({' '.join(str(error).split())}): wait for"
            " its end, then run this again"
        ) from error
    try:
        yield
    finally:
        lock.unlock()
