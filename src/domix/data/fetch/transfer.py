"""One file over HTTP: from one address into `<file>.part`, continued where an earlier attempt stopped.

Beside the part lies `<file>.part.json`, which says which version of the file it is the beginning of. Where no checksum
is known, a continuation is asked for on the condition that the file is still that version (`If-Range`): a server that
has another one sends the whole file, as one does that knows no ranges, and the part starts anew.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import requests
from requests import Response, Session

from domix.runtime.errors import DataError
from domix.runtime.files import explain, read_json, write_json
from domix.runtime.retry import RetryPolicy, Stopped

CHUNK = 1 << 16  # bytes: what a dropped connection may lose
PASSING = (408, 425, 429, 500, 502, 503, 504)  # the server may answer otherwise in a moment
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "domix"}  # the file's own bytes, which Range counts


class Unavailable(Exception):
    """An address does not give the file, and trying again soon would not help; the text ends a sentence about it."""


class Passing(Unavailable):
    """An address does not give the file now; it may after `wait` seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        """Note the reason."""
        super().__init__(reason)
        self.wait = wait


class Unreachable(Passing):
    """The host of an address does not answer at all: other files will not be had from it either."""


class WrongFile(Unavailable):
    """An address gives other bytes than are wanted; `pieces`: they came in several, perhaps of different files."""

    def __init__(self, reason: str, *, pieces: bool = False) -> None:
        """Note the reason."""
        super().__init__(reason)
        self.pieces = pieces


class CancelToken:
    """The connections that are open now, so that another thread can cut them and wake those who wait for bytes."""

    def __init__(self) -> None:
        """Start with none."""
        self.stopped = threading.Event()
        self._open: set[Response] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def hold(self, response: Response):
        """Make a response known while it is read."""
        with self._lock:
            self._open.add(response)
        try:
            self.check()
            yield response
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()

    def check(self) -> None:
        """Raise Stopped if an end was asked for."""
        if self.stopped.is_set():
            raise Stopped

    def cut(self) -> None:
        """Ask for an end."""
        self.stopped.set()
        with self._lock:
            for response in self._open:
                with contextlib.suppress(OSError, ValueError, RuntimeError):  # it has ended by itself
                    response.raw.shutdown()


@dataclass(frozen=True)
class Version:
    """Which version of a file a part is the beginning of: where it came from, and what the server called it."""

    url: str
    etag: str | None
    modified: str | None

    @property
    def condition(self) -> str | None:
        """Return what If-Range may name: a strong ETag or a date (RFC 9110, section 13.1.5)."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.modified


class Part:
    """An unfinished file, and the note beside it."""

    def __init__(self, target: Path) -> None:
        """Name the part of `target`."""
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        """Return how many bytes have come."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def version(self) -> Version | None:
        """Return what the note says; None if there is none, or not a whole one."""
        try:
            return Version(**read_json(self._note))
        except (DataError, TypeError):
            return None

    def begin(self, version: Version) -> None:
        """Start anew, as the beginning of `version`."""
        self.discard()
        write_json(self._note, asdict(version))

    def discard(self) -> None:
        """Remove both files."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def publish(self, target: Path) -> None:
        """Give the finished file its name."""
        self.path.replace(target)
        self._note.unlink(missing_ok=True)


@dataclass(frozen=True)
class Wanted:
    """What is known about a file before it comes: its size in bytes, and whether its bytes can be checked."""

    size: int | None
    checkable: bool


def receive(
    url: str,
    part: Part,
    wanted: Wanted,
    *,
    cable: CancelToken,
    patience: RetryPolicy,
    restart: Callable[[int], None],
    advance: Callable[[int], None],
) -> None:
    """Bring `part` to its full length from one address, in one attempt.

    Args:
        url: an http(s) address.
        part: what has come before, if anything.
        wanted: what is known about the file.
        cable: where an end can be asked for.
        patience: timeouts.
        restart: told how many bytes of the part are kept.
        advance: told of each count of bytes that have come.

    Raises:
        Unavailable, Passing, WrongFile: there is no file here, none now, or another one.
        Stopped: an end was asked for.
        DomixError: the part cannot be written.
    """
    offset, condition = _continuation(part, url, wanted)
    headers = (
        HEADERS | ({"Range": f"bytes={offset}-"} if offset else {}) | ({"If-Range": condition} if condition else {})
    )
    try:
        with Session() as session:
            answer = session.get(url, headers=headers, stream=True, timeout=(patience.connect, patience.read))
            with cable.hold(answer) as response:
                kept = _accepted(response, offset, part, patience)
                total = _length(response, kept, wanted)
                if kept == 0:
                    part.begin(Version(url, response.headers.get("ETag"), response.headers.get("Last-Modified")))
                restart(kept)
                _write(response, part, kept, total, cable, advance)
    except requests.RequestException as error:
        cable.check()
        raise _translated(error, patience) from error
    if total is not None and part.size < total:
        cable.check()
        raise Passing(f"broke off after {part.size:,} of {total:,} bytes")


def size_of(url: str, patience: RetryPolicy) -> int | None:
    """Ask a server how long a file is; None if it does not say."""
    try:
        timeout = (patience.connect, patience.read)
        with requests.head(url, headers=HEADERS, allow_redirects=True, timeout=timeout) as response:
            return _number(response, "Content-Length") if response.ok else None
    except requests.RequestException:
        return None


def _continuation(part: Part, url: str, wanted: Wanted) -> tuple[int, str | None]:
    """Return where to go on, and on which condition; (0, None) to start anew."""
    offset, version = part.size, part.version()
    if offset == 0 or (wanted.size is not None and offset > wanted.size):
        return 0, None
    if wanted.checkable:  # a mixture would be found out; and mirrors, or machines of one host, may differ in ETags
        return offset, None
    if version is not None and version.url == url and version.condition:
        return offset, version.condition
    return 0, None


def _accepted(response: Response, offset: int, part: Part, patience: RetryPolicy) -> int:
    """Return how many bytes of the part the answer continues."""
    status = response.status_code
    if status == 416:
        part.discard()
        raise Passing("has fewer bytes than have come before")
    if status in PASSING:
        wait = _number(response, "Retry-After") or 0
        raise Passing(f"answered {status} {response.reason}", min(wait, patience.longest_wait))
    if status not in (200, 206):
        raise Unavailable(f"answered {status} {response.reason}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Unavailable("sends the file compressed, though asked not to")
    if "text/html" in response.headers.get("Content-Type", "") and part.path.suffixes[-2:-1] != [".html"]:
        raise Unavailable("sends a web page in place of the file")
    if status == 200:
        return 0
    found = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", response.headers.get("Content-Range", ""))
    if offset == 0 or found is None or int(found[1]) != offset:
        part.discard()
        raise Passing("sent another range than was asked for")
    return offset


def _length(response: Response, kept: int, wanted: Wanted) -> int | None:
    """Return the length of the whole file; None where the end of the answer says it."""
    coming = _number(response, "Content-Length")
    if coming is None:
        chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if wanted.size is None and not chunked:
            raise Unavailable("does not say how long the file is")
        return wanted.size
    if wanted.size is not None and kept + coming != wanted.size:
        raise WrongFile(f"has {kept + coming:,} bytes, not {wanted.size:,}")
    return kept + coming


def _write(
    response: Response, part: Part, kept: int, total: int | None, cable: CancelToken, advance: Callable[[int], None]
) -> None:
    """Append the answer's body to the part, unbuffered: what has come survives even a kill."""
    with explain(part.path):
        part.path.touch()
    size = kept
    with open(part.path, "ab", buffering=0) as file:
        for chunk in response.iter_content(CHUNK):
            cable.check()
            size += len(chunk)
            if total is not None and size > total:
                raise WrongFile(f"sends more than the {total:,} bytes that the file should have")
            with explain(part.path):
                _write_all(file, chunk)
            advance(len(chunk))


def _write_all(file, chunk: bytes) -> None:
    """Write all of a chunk: an unbuffered file may take less at a time."""
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) or 0 :]


def _number(response: Response, header: str) -> int | None:
    text = response.headers.get(header, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _translated(error: requests.RequestException, patience: RetryPolicy) -> Unavailable:
    """Say in a few words what went wrong."""
    text = str(error)
    if isinstance(error, requests.ConnectTimeout):
        return Unreachable(f"did not answer for {patience.connect:g} seconds")
    if isinstance(error, requests.Timeout) or "Read timed out" in text:
        return Passing(f"sent nothing for {patience.read:g} seconds")
    if isinstance(error, requests.exceptions.SSLError):
        return Unavailable("has no valid certificate")
    if isinstance(error, requests.TooManyRedirects):
        return Unavailable("redirects without end")
    if isinstance(error, requests.exceptions.InvalidSchema | requests.exceptions.InvalidURL):
        return Unavailable("redirects to something that is not http(s)")
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or "Connection aborted" in text:
        return Passing("broke off")
    if "Failed to resolve" in text:
        return Unreachable("has a host that is not known here (is there a network?)")
    return Unreachable("refuses connections" if "refused" in text else "could not be reached")
