"""DVC's command line, as Domix starts it: what it records is whole or not there, and it ends when its parent does.

    python -m domix.cli.pipeline.atomic_dvc repro ...

DVC writes dvc.lock in place, for a second or so at every stage. A kill meanwhile leaves it cut short, which DVC then
refuses to read.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from dvc.cli import main as dvc
from dvc.utils.serialize import _common, _yaml

from domix.cli.pipeline.lock_file import LOCK, keep
from domix.runtime.files import atomic_file
from domix.runtime.slots import GRACE_S, POLL_S, heads

write_in_place = _common._dump_data


def main() -> None:
    """Do what the command line says, and exit as DVC does."""
    threading.Thread(target=_follow, args=(os.getppid(),), name="follow", daemon=True).start()
    for module in (_common, _yaml):  # one function under two names, which writes every file of DVC's
        module._dump_data = write_whole  # ty: ignore[invalid-assignment]
    sys.exit(dvc(sys.argv[1:]))


def write_whole(path: str, data: Any, dumper: Callable[..., object], fs: Any = None, **arguments: Any) -> None:
    """Write a file as DVC's own function does, but whole or not at all, and keep a copy of dvc.lock."""
    if fs is not None and fs.protocol != "local":
        write_in_place(path, data, dumper, fs, **arguments)
        return
    place = Path(path).resolve()
    with atomic_file(place) as temporary, open(temporary, "w", encoding="utf-8") as file:
        dumper(data, file, **arguments)
    if place.name == LOCK:
        keep(place.parent)


def _follow(parent: int) -> None:
    """Once `parent` is gone, end in good order: what runs saves its state, then DVC ends."""
    while os.getppid() == parent:
        time.sleep(POLL_S)
    me, asked, limit = psutil.Process(), set(), time.monotonic() + GRACE_S
    while time.monotonic() < limit:
        children = me.children(recursive=True)
        for process in [process for process in heads(children) if process not in asked] if children else [me]:
            asked.add(process)
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)
        time.sleep(POLL_S)
    for process in [*me.children(recursive=True), me]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    main()
