"""What tests of downloads share: a server and a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.download_server import BIG, Server


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve a large and a small file."""
    with Server() as running:
        running.files = {"big.bin": BIG, "small.txt": b"small"}
        yield running


@pytest.fixture
def store(tmp_path) -> Path:
    """Return a folder that is not there yet."""
    return tmp_path / "store"
