"""Downloads: many files at a time into one folder, each verified, and published whole or not at all.

The folder (the store) holds the files, `<file>.part` of unfinished ones (data/fetch/transfer.py) and `trusted.json`:
file -> bytes, sha256 of those whose checksum nobody has published. The first download of such a file is trusted; every
later one, and the file itself at every later call, must equal it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from domix.data.archives.archive import Entry
from domix.data.archives.manifests import SHA256, Remote, is_web_address
from domix.data.fetch.transfer import (
    CancelToken,
    Part,
    Passing,
    Unavailable,
    Unreachable,
    Wanted,
    WrongFile,
    receive,
    size_of,
)
from domix.runtime.errors import DataError, DomixError, ParameterError
from domix.runtime.files import CHUNK, explain, read_json, write_json
from domix.runtime.locks import alone
from domix.runtime.progress import Meter, Report
from domix.runtime.retry import RetryPolicy

TRUSTED = "trusted.json"
LOCK = ".lock"
PATIENCE = RetryPolicy()

log = logging.getLogger(__name__)


def download(
    files: Sequence[Remote],
    store: Path,
    *,
    jobs: int = 4,
    offline: bool = False,
    mirrors: Sequence[str] = (),
    report: Report | None = None,
    patience: RetryPolicy = PATIENCE,
    sleep: Callable[[float], object] | None = None,
) -> list[Entry]:
    """Make sure that all files lie in `store` and are what they should be, and return their sizes and checksums.

    A file that is there and right is not downloaded again. One that fails does not stop the others.

    Args:
        files: what to download.
        store: folder for the files; made if it is missing.
        jobs: files at a time.
        offline: never use the network.
        mirrors: address prefixes that are tried before the files' own: `<prefix>/<file>`.
        report: told of the progress a few times a second, from any thread.
        patience: timeouts and attempts.
        sleep: waits for some seconds between attempts; None: a wait that an end of the download interrupts.

    Raises:
        ParameterError: a mirror is not an http(s) address.
        DataError: a file is to be had nowhere, or has another size or checksum; with `offline`, is missing.
        DomixError: the disk is full or too small, or the store cannot be written.
    """
    for mirror in mirrors:
        if not is_web_address(mirror):
            raise ParameterError(f"the mirror {mirror!r} is not an http(s) address", argument="mirrors")
    meter = Meter({remote.file: remote.bytes for remote in files}, report)
    if offline:
        return _verify_present(files, store, meter)
    with explain(store / TRUSTED):
        store.mkdir(parents=True, exist_ok=True)
    with alone(store / LOCK, f"downloading into {store}"):
        job = _Job(store, Trusted(store), mirrors, patience, meter, CancelToken(), sleep)
        _check_space(files, job)
        return _run(files, job, jobs)


class Trusted:
    """The checksums of a store's files at their first download."""

    def __init__(self, store: Path) -> None:
        """Read them.

        Raises:
            DataError: the list is malformed.
        """
        self.path = store / TRUSTED
        self._lock = threading.Lock()
        self._rows: dict[str, dict[str, int | str]] = read_json(self.path) if self.path.is_file() else {}
        try:
            good = all(int(row["bytes"]) >= 0 and SHA256.fullmatch(str(row["sha256"])) for row in self._rows.values())
        except (AttributeError, KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise DataError(f"{self.path} is not a list of checksums (file: bytes, sha256)", remake=self.path)

    def complete(self, remote: Remote) -> Remote:
        """Fill in the size and checksum that nobody has published, if the file was downloaded before."""
        row = self._rows.get(remote.file)
        if row is None or remote.sha256 is not None:
            return remote
        return replace(remote, bytes=int(row["bytes"]), sha256=str(row["sha256"]))

    def record(self, entry: Entry) -> None:
        """Trust a file from now on."""
        with self._lock:
            self._rows[entry.file] = {"bytes": entry.bytes, "sha256": entry.sha256}
            write_json(self.path, dict(sorted(self._rows.items())))


@dataclass(frozen=True)
class _Job:
    """What the downloads of one call share."""

    store: Path
    trusted: Trusted
    mirrors: Sequence[str]
    patience: RetryPolicy
    meter: Meter
    cable: CancelToken
    sleep: Callable[[float], object] | None
    dead: dict[str, str] = field(default_factory=dict)
    """host -> why it was given up, with all its other files"""
    warned: set[tuple[str, str]] = field(default_factory=set)
    """(host, reason) of what the log has said: once, not for each file"""

    def addresses(self, remote: Remote) -> list[str]:
        """Return where a file is to be had, in the order in which to try."""
        return [f"{mirror.rstrip('/')}/{remote.file}" for mirror in self.mirrors] + list(remote.urls)

    def wait(self, seconds: float) -> None:
        """Wait before another attempt."""
        (self.sleep or self.cable.stopped.wait)(seconds)
        self.cable.check()


def _run(files: Sequence[Remote], job: _Job, jobs: int) -> list[Entry]:
    """Obtain all files, `jobs` at a time; at an interruption or a full disk stop all, else go on with the others."""
    pool = ThreadPoolExecutor(max(1, jobs), thread_name_prefix="download")
    futures = [pool.submit(_obtain, remote, job) for remote in files]
    failures, left = [], set(futures)
    try:
        while left:
            done, left = wait(left, timeout=1, return_when=FIRST_COMPLETED)
            job.meter.tick()
            for future in done:
                try:
                    future.result()
                except DataError as error:
                    failures.append(error)
    finally:
        job.cable.cut()  # nothing is left to cut unless an error is on its way out
        pool.shutdown(cancel_futures=True)
    if failures:
        more = f" (and {len(failures) - 1} more of {len(files)} files failed)" if failures[1:] else ""
        raise DataError(f"{failures[0]}{more}", argument=failures[0].argument) from failures[0]
    return [future.result() for future in futures]


def _obtain(remote: Remote, job: _Job) -> Entry:
    """Return a file that is there and right, or download it."""
    wanted, target = job.trusted.complete(remote), job.store / remote.file
    if target.is_file():
        entry, problem = check_file(target, wanted, job.meter, job.cable)
        if problem is None:
            return _trust(remote, entry, job)
        log.warning("%s %s: it is downloaded again", target, problem)
        target.unlink()
    part = Part(target)
    with explain(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    _receive_from_any(wanted, part, job, known_before=wanted is not remote)
    entry = Entry(remote.file, part.size, _sha256(part.path, lambda _: job.cable.check()))
    _trust(remote, entry, job)
    with explain(target):
        _sync(part.path)
        part.publish(target)
        _sync(target.parent)
    job.meter.finish(remote.file, entry.bytes)
    return entry


def _trust(remote: Remote, entry: Entry, job: _Job) -> Entry:
    if remote.sha256 is None and job.trusted.complete(remote).sha256 is None:
        job.trusted.record(entry)
    job.meter.finish(remote.file, entry.bytes)
    return entry


def _receive_from_any(remote: Remote, part: Part, job: _Job, *, known_before: bool) -> None:
    """Bring a whole part with the right bytes, from the first address that gives it.

    `known_before`: what is right was learnt from the first download.
    """
    addresses, failures, hint, again = deque(job.addresses(remote)), [], "", set()
    while addresses:
        url = addresses[0]
        try:
            _receive_from(url, remote, part, job)
            return
        except WrongFile as error:
            part.discard()
            if error.pieces and url not in again:  # the pieces may have been of different files: once more from nothing
                again.add(url)
                continue
            failures.append(f"{url} {error}")
            hint = f"; if the file has changed for good, delete its entry in {job.trusted.path}" if known_before else ""
        except Unavailable as error:
            failures.append(f"{url} {error}")
        addresses.popleft()
    reasons = "; ".join(failures) or "no address is known"
    raise DataError(
        f"{remote.file} cannot be downloaded ({reasons}): run again later, name a mirror, or put the file into"
        f" {job.store}{hint}",
        argument="mirrors",
    )


def _receive_from(url: str, remote: Remote, part: Part, job: _Job) -> None:
    """Bring a whole part from one address, in as many attempts as it takes, and check its bytes."""
    wanted = Wanted(remote.bytes, remote.sha256 is not None)
    restart, advance = partial(job.meter.restart, remote.file), partial(job.meter.advance, remote.file)
    idle, most, pieces, host = 0, part.size, part.size > 0, _host(url)
    while remote.bytes is None or part.size != remote.bytes:
        if host in job.dead:
            raise Unavailable(job.dead[host])
        pieces = pieces or part.size > 0
        try:
            receive(url, part, wanted, cable=job.cable, patience=job.patience, restart=restart, advance=advance)
            break
        except Passing as error:
            idle, most = (0, part.size) if part.size > most else (idle + 1, most)
            if idle >= job.patience.attempts:
                reason = f"{error}, {idle} times in a row"
                if isinstance(error, Unreachable):
                    job.dead[host] = reason
                raise Unavailable(reason) from error
            # Not a seeded choice: several clients must not come back at the same moment.
            pause = job.patience.first_wait * 2 ** max(0, idle - 1) * random.uniform(0.5, 1.0)
            pause = max(error.wait, min(pause, job.patience.longest_wait))
            if idle and (host, str(error)) not in job.warned:
                job.warned.add((host, str(error)))
                log.warning("%s %s: trying again", url, error)
            job.wait(pause)
    if remote.sha256 is not None and (digest := _sha256(part.path, lambda _: job.cable.check())) != remote.sha256:
        raise WrongFile(f"gave a file with SHA-256 {digest}, not {remote.sha256}", pieces=pieces)


def _host(url: str) -> str:
    """Return the beginning of an address: scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def check_file(path: Path, wanted: Remote, meter: Meter, cable: CancelToken | None = None) -> tuple[Entry, str | None]:
    """Read a file; return its size and checksum, and what is wrong with it (None: nothing).

    The checksum is empty where the size is wrong already.
    """
    size = path.stat().st_size
    if wanted.bytes is not None and size != wanted.bytes:
        return Entry(wanted.file, size, ""), f"has {size:,} bytes, not {wanted.bytes:,}"
    meter.size(wanted.file, size)

    def advance(count: int) -> None:
        if cable is not None:
            cable.check()
        meter.advance(wanted.file, count)

    meter.restart(wanted.file, 0)
    entry = Entry(wanted.file, size, _sha256(path, advance))
    if wanted.sha256 is not None and entry.sha256 != wanted.sha256:
        return entry, f"has SHA-256 {entry.sha256}, not {wanted.sha256}"
    return entry, None


def _verify_present(files: Sequence[Remote], store: Path, meter: Meter) -> list[Entry]:
    """Check files without touching network or store."""
    trusted = Trusted(store)
    if missing := [remote for remote in files if not (store / remote.file).is_file()]:
        shown = ", ".join(f"{remote.file} ({remote.urls[0]})" if remote.urls else remote.file for remote in missing[:3])
        more = f" and {len(missing) - 3} more" if missing[3:] else ""
        raise DataError(
            f"{len(missing)} of {len(files)} files are missing in {store}, and offline is true: bring"
            f" {shown}{more} there, or set offline to false",
            argument="offline",
        )
    entries = []
    for remote in files:
        entry, problem = check_file(store / remote.file, trusted.complete(remote), meter)
        if problem is not None:
            raise DataError(
                f"{store / remote.file} {problem}, and offline is true: put the right file there, or set"
                " offline to false",
                argument="offline",
            )
        meter.finish(entry.file, entry.bytes)
        entries.append(entry)
    return entries


def _check_space(files: Sequence[Remote], job: _Job) -> None:
    """Refuse to begin what the disk cannot hold, as far as sizes are known."""
    needed = 0
    for remote in files:
        size, target = job.trusted.complete(remote).bytes, job.store / remote.file
        if target.is_file() and size in (None, target.stat().st_size):
            continue
        if size is None:
            size = next(filter(None, (size_of(url, job.patience) for url in job.addresses(remote))), None)
            job.meter.size(remote.file, size)
        needed += max(0, (size or 0) - Part(target).size)
    free = shutil.disk_usage(job.store).free
    if needed > free:
        raise DomixError(
            f"{needed / 1e9:,.1f} GB are still to be downloaded, and the disk of {job.store} has {free / 1e9:,.1f} GB"
            " free: free some space, or keep the files elsewhere and name their folder",
            argument="store",
        )


def _sha256(path: Path, advance: Callable[[int], object]) -> str:
    """Return a file's SHA-256, telling `advance` of each count of bytes read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Bring a file, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
