"""The folder that downloads go into: trust, no network, a full disk, interruptions, two processes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from domix.data.fetch import transfer
from domix.data.fetch.download import download
from domix.runtime.errors import DataError, DomixError, Interrupted
from domix.runtime.retry import RetryPolicy
from tests.faults.download_server import BIG, Fault, Server, bring, fails, names, remote, sha256

ROOT = Path(__file__).resolve().parents[2]

# Trust on first use -------------------------------------------------------------------------------


def test_the_first_download_is_trusted_and_enforced_afterwards(server, store):
    files = [remote(server, "small.txt", known=False)]
    bring(files, store)
    assert json.loads((store / "trusted.json").read_text()) == {"small.txt": {"bytes": 5, "sha256": sha256(b"small")}}
    (store / "small.txt").unlink()
    server.files["small.txt"] = b"smell"
    fails(files, store, rf"SHA-256 {sha256(b'smell')}, not {sha256(b'small')}.*delete its entry in .*trusted\.json")
    assert names(store) == {"trusted.json"}
    server.files["small.txt"] = b"small"
    bring(files, store)


def test_a_file_laid_there_by_hand_is_trusted_from_then_on(server, store):
    store.mkdir()
    (store / "small.txt").write_bytes(b"mine")
    files = [remote(server, "small.txt", known=False)]
    assert bring(files, store)[0].sha256 == sha256(b"mine")
    assert server.gets("small.txt") == []
    assert "small.txt" in json.loads((store / "trusted.json").read_text())


def test_a_published_checksum_needs_no_trust(server, store):
    bring([remote(server)], store)
    assert "trusted.json" not in names(store)


def test_a_file_that_went_bad_in_the_store_is_brought_again(server, store):
    for known in (True, False):
        bring([remote(server, known=known)], store)
        for bad in (BIG[:-1], BIG[:-1] + b"!"):
            (store / "big.bin").write_bytes(bad)
            bring([remote(server, known=known)], store)
            assert (store / "big.bin").read_bytes() == BIG


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"bytes": 1}}', '{"a": {"bytes": 1, "sha256": "x"}}'])
def test_a_damaged_list_of_checksums(server, store, text):
    store.mkdir()
    (store / "trusted.json").write_text(text)
    error = fails([remote(server)], store, r"trusted\.json is not ")
    assert isinstance(error, DataError)
    assert error.remake == store / "trusted.json"


# Offline ------------------------------------------------------------------------------------------


@pytest.fixture
def no_sockets(monkeypatch):
    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)


def test_offline_opens_no_socket_and_checks_what_is_there(server, store, no_sockets):
    store.mkdir()
    (store / "big.bin").write_bytes(BIG)
    assert bring([remote(server)], store, offline=True)[0].sha256 == sha256(BIG)
    assert names(store) == {"big.bin"}


def test_offline_says_what_is_missing_and_where_it_could_be_had(server, store, no_sockets):
    files = [remote(server, name, known=False) for name in ("a", "b", "c", "d")]
    fails(
        files,
        store,
        rf"4 of 4 files are missing in {store}, .* bring a \(http://127.*\), b .* and 1 more there",
        offline=True,
    )
    assert not store.exists()


def test_offline_keeps_a_wrong_file_and_says_so(server, store, no_sockets):
    store.mkdir()
    (store / "big.bin").write_bytes(BIG[:-1])
    error = fails([remote(server)], store, r"has 1,003,999 bytes, not 1,004,000, and offline is true", offline=True)
    assert error.argument == "offline"
    (store / "big.bin").write_bytes(bytes(len(BIG)))
    fails([remote(server)], store, rf"SHA-256 [0-9a-f]+, not {sha256(BIG)}, and offline is true", offline=True)
    assert (store / "big.bin").stat().st_size == len(BIG)


# The disk -----------------------------------------------------------------------------------------


def test_a_small_disk_is_noticed_before_the_start(server, store, monkeypatch):
    usage = shutil.disk_usage(ROOT)._replace(free=500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    for known in (True, False):
        fails([remote(server, known=known)], store, r"0\.0 GB are still to be downloaded, and the disk", DomixError)
    assert server.gets("big.bin") == []
    store.joinpath("big.bin.part").write_bytes(BIG[:900_000])
    bring([remote(server)], store)


def test_a_full_disk_stops_all_and_keeps_what_has_come(server, store, monkeypatch):
    original = transfer._write_all

    def write(file, chunk: bytes) -> None:
        if file.tell() > 300_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(file, chunk)

    monkeypatch.setattr(transfer, "_write_all", write)
    fails([remote(server)], store, r"no space left to write .*big\.bin\.part: free some disk space", DomixError)
    assert (store / "big.bin.part").stat().st_size > 300_000
    monkeypatch.setattr(transfer, "_write_all", original)
    bring([remote(server)], store)
    assert server.gets("big.bin")[-1].range is not None
    assert (store / "big.bin").read_bytes() == BIG


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_may_not_be_written(server, store):
    store.mkdir(mode=0o500)
    fails([remote(server)], store, r"may not write", DomixError)


def test_a_file_where_the_store_should_be(server, store):
    store.write_text("")
    fails([remote(server)], store, r"a file stands where a folder is needed", DomixError)


# Interruptions ------------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from domix.data.fetch.download import download
from domix.data.archives.manifests import Remote
download([Remote("big.bin", (sys.argv[1],), int(sys.argv[3]), sys.argv[4])], Path(sys.argv[2]))
"""


def start(server: Server, store: Path, data: bytes) -> subprocess.Popen:
    arguments = [server.url("big.bin"), str(store), str(len(data)), sha256(data)]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, stderr=subprocess.PIPE)


def wait_for(path: Path, size: int) -> None:
    deadline = time.monotonic() + 20
    while not path.is_file() or path.stat().st_size < size:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_half_way(server, store):
    server.pace = 0.02
    process = start(server, store, BIG)
    wait_for(store / "big.bin.part", 400_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = (store / "big.bin.part").stat().st_size
    assert 400_000 <= kept < len(BIG)
    assert "big.bin" not in names(store)
    server.pace = 0
    bring([remote(server)], store)
    assert (store / "big.bin").read_bytes() == BIG
    assert names(store) == {"big.bin"}
    last = server.gets("big.bin")[-1]
    assert (last.range, last.sent) == (f"bytes={kept}-", len(BIG) - kept)


def test_two_processes_at_once(server, store):
    server.pace = 0.01
    processes = [start(server, store, BIG) for _ in range(2)]
    assert [process.communicate()[1] for process in processes] == [b"", b""]
    assert [process.returncode for process in processes] == [0, 0]
    assert (store / "big.bin").read_bytes() == BIG
    assert len(server.gets("big.bin")) == 1


def test_an_interruption_ends_soon_and_keeps_the_part(server, store):
    """As the stages turn SIGTERM into an exception in the main thread."""
    server.faults["big.bin"].append(Fault(stall=400_000))
    before = signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(Interrupted("stopped")))

    def strike() -> None:
        wait_for(store / "big.bin.part", 300_000)
        os.kill(os.getpid(), signal.SIGTERM)

    striker = threading.Thread(target=strike)
    striker.start()
    started = time.monotonic()
    try:
        with pytest.raises(Interrupted):
            download([remote(server)], store, patience=RetryPolicy(read=60))
    finally:
        signal.signal(signal.SIGTERM, before)
        striker.join()
    assert time.monotonic() - started < 20  # the server would stall for longer
    bring([remote(server)], store)
    assert server.gets("big.bin")[-1].range is not None
