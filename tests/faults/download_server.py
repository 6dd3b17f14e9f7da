"""A small HTTP server that misbehaves as told: it drops, truncates, lies, stalls, changes its mind; and who asks it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from domix.data.archives.manifests import Remote
from domix.data.fetch.download import download
from domix.runtime.errors import DataError, DomixError
from domix.runtime.retry import RetryPolicy

BIG = bytes(range(251)) * 4000  # 1,004,000 bytes, about sixteen pieces; no two pieces alike
QUICK = RetryPolicy(attempts=3, first_wait=0.001, connect=2.0, read=0.3)


@dataclass(frozen=True)
class Fault:
    """How one request is answered; what is not set is as it should be.

    status, headers: instead of 200 or 206, without a body. drop: bytes of the body after which the connection is
    closed. claim: a false Content-Length. stall: bytes after which nothing more comes. data: another file's bytes.
    chunked: no Content-Length. bare: neither that nor chunks. start: where the range begins that
    is sent, whatever was asked for.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: int | None = None
    claim: int | None = None
    stall: int | None = None
    data: bytes | None = None
    chunked: bool = False
    bare: bool = False
    start: int | None = None


@dataclass
class Request:
    """A request that came, and how many bytes of a body it got."""

    method: str
    path: str
    range: str | None
    condition: str | None
    sent: int = 0


class Server:
    """Serves `files` (path -> bytes); `faults[path]` are used up request by request, `always[path]` stays."""

    def __init__(self) -> None:
        """Start on a free port of this machine."""
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.always: dict[str, Fault] = {}
        self.ranges = True
        self.validators = True
        self.pace = 0.0  # seconds between pieces of 64 KiB
        self.requests: list[Request] = []
        self.busy = self.busiest = 0  # bodies that are sent now; the most at a time
        self.ending = threading.Event()
        self._http = _Quiet(("127.0.0.1", 0), type("Bound", (_Handler,), {"owner": self}))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._http.shutdown()
        self._http.server_close()

    def url(self, path: str) -> str:
        """Return the address of a file, or of a prefix."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/{path}"

    def gets(self, path: str) -> list[Request]:
        """Return the GET requests for a file."""
        return [r for r in self.requests if r.path == path and r.method == "GET"]


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the play."""


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Answer with what was asked for, or as the next fault says."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path, owner = self.path.lstrip("/"), self.owner
        request = Request(self.command, path, self.headers.get("Range"), self.headers.get("If-Range"))
        owner.requests.append(request)
        fault = owner.always.get(path, Fault())
        if body and owner.faults[path]:
            fault = owner.faults[path].popleft()
        if path not in owner.files and fault.status is None:
            fault = Fault(status=404)
        if fault.status is not None:
            self._head(fault.status, fault.headers | {"Content-Length": "0"})
            return
        self._send(request, owner.files[path] if fault.data is None else fault.data, fault, body=body)

    def _send(self, request: Request, data: bytes, fault: Fault, *, body: bool) -> None:
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        headers = {"ETag": etag} if self.owner.validators else {}
        status, start = 200, 0
        if self.owner.ranges and request.range and request.condition in (None, etag):
            start = int(request.range.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self._head(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
                return
            status = 206
        if fault.start is not None:
            status, start = 206, fault.start
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        if fault.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif not fault.bare:
            headers["Content-Length"] = str(len(rest) if fault.claim is None else fault.claim)
        self._head(status, headers | fault.headers)
        if body:
            self.owner.busy += 1
            self.owner.busiest = max(self.owner.busiest, self.owner.busy)
            with suppress(OSError):
                self._pour(request, rest, fault)
            self.owner.busy -= 1
        self.close_connection = fault != Fault()

    def _pour(self, request: Request, rest: bytes, fault: Fault) -> None:
        stop = min(x for x in (fault.drop, fault.stall, len(rest)) if x is not None)
        for offset in range(0, stop, 1 << 16):
            piece = rest[offset : min(offset + (1 << 16), stop)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if fault.chunked else piece)
            self.wfile.flush()
            request.sent += len(piece)
            if self.owner.pace:
                time.sleep(self.owner.pace)
        if fault.stall is not None:
            self.owner.ending.wait(60)
        elif fault.chunked and fault.drop is None:
            self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def remote(server: Server, name: str = "big.bin", *, known: bool = True, data: bytes = BIG) -> Remote:
    urls = (server.url(name),)
    return Remote(name, urls, len(data), sha256(data)) if known else Remote(name, urls)


def bring(files, store: Path, **options):
    return download(files, store, patience=QUICK, **options)


def fails(files, store: Path, pattern: str, error: type[DomixError] = DataError, **options) -> DomixError:
    with pytest.raises(error, match=pattern) as caught:
        bring(files, store, **options)
    assert "\n" not in str(caught.value)
    return caught.value


def names(store: Path) -> set[str]:
    return {path.name for path in store.iterdir()} - {".lock"}
