"""Files from object storage, by their URLs, copied in ranges that are asked for again where they fail.

fsspec and its file systems find credentials and addresses of servers by their own rules (environment, ~/.aws).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec

from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import atomic_file, explain
from domix.runtime.retry import RetryPolicy, Stopped

RANGE = 16 << 20  # bytes that are asked for at a time
THREADS = 4  # ranges at a time
PROTOCOLS = ("file", "s3")  # no other: fsspec also knows ones that run commands or read archives


def check_url(url: str) -> None:
    """Check that a URL can be read here.

    Raises:
        ParameterError: it is of another kind, or s3fs is missing.
    """
    kind = url.partition(":")[0]
    if kind not in PROTOCOLS:
        raise ParameterError(f"{url!r} cannot be read: give an s3:// or a file: URL", argument="url")
    if kind == "s3":
        try:
            import s3fs  # noqa: F401
        except ImportError:
            raise ParameterError(f"{url} needs the extra s3: pip install 'domix[s3]'") from None


def copy(url: str, target: Path, *, least: int, stopped: threading.Event, patience: RetryPolicy) -> None:
    """Copy a file, which must have at least `least` bytes, to `target`, whole or not at all.

    Raises:
        DataError: it is missing, too short, forbidden, or cannot be read for long.
        DomixError: `target` cannot be written.
        Stopped: `stopped` was set.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        store, path = _persist(lambda: _connect(url), url, stopped, patience)
        size = _persist(lambda: store.info(path)["size"], url, stopped, patience)
        if size < least:
            raise DataError(
                f"the shard {url} has {size} bytes, and the index says at least {least}: copy it there anew"
            )
        with atomic_file(target) as temporary, open(temporary, "wb") as file:

            def bring(start: int) -> None:
                end = min(start + RANGE, size)
                data = _persist(lambda: _range(store, path, start, end), url, stopped, patience)
                with explain(target):
                    os.pwrite(file.fileno(), data, start)

            for _ in pool.map(bring, range(0, size, RANGE)):
                pass


def read_range(url: str, start: int, end: int) -> bytes:
    """Return a piece of a file.

    Raises:
        DataError: the file is missing, forbidden, or cannot be read for long.
    """
    store, path = _connect(url)
    return _persist(lambda: _range(store, path, start, end), url, threading.Event(), RetryPolicy())


def _connect(url: str) -> tuple[Any, str]:
    return fsspec.url_to_fs(url, use_listings_cache=False)


def _range(store: Any, path: str, start: int, end: int) -> bytes:
    data = store.cat_file(path, start=start, end=end)
    if len(data) != end - start:
        raise OSError(f"{len(data)} of {end - start} bytes came")
    return data


def _persist(attempt: Callable[[], Any], url: str, stopped: threading.Event, patience: RetryPolicy) -> Any:
    """Return what `attempt` does, tried again after a wait where it fails for a reason that may pass."""
    wait = patience.first_wait
    for number in range(1, patience.attempts + 1):
        if stopped.is_set():
            raise Stopped
        try:
            return attempt()
        except FileNotFoundError:
            raise DataError(
                f"the shard {url} is missing: copy it there, or name another place", argument="url"
            ) from None
        except PermissionError as error:
            raise DataError(f"the shard {url} may not be read ({error}): check the credentials") from error
        except Exception as error:  # what a file system raises when a server is away is its own affair
            if number == patience.attempts:
                raise DataError(
                    f"the shard {url} could not be read in {number} attempts ({type(error).__name__}: {error}): see"
                    " whether its server can be reached, and run again to continue"
                ) from error
        stopped.wait(wait)
        wait = min(2 * wait, patience.longest_wait)
    raise AssertionError
