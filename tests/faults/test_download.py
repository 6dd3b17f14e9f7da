"""Downloads from servers that misbehave: one clear sentence, what was good stays, a second run goes on."""

from __future__ import annotations

import os
import socket
import time

import pytest

from domix.data.archives.manifests import Remote
from domix.data.fetch import transfer
from domix.data.fetch.download import download
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.progress import Progress
from domix.runtime.retry import RetryPolicy
from tests.faults.download_server import BIG, QUICK, Fault, bring, fails, names, remote, sha256

NO_RANGE = {"Content-Range": ""}


# As it should be ----------------------------------------------------------------------------------


def test_files_come_whole_and_only_once(server, store):
    files = [remote(server), remote(server, "small.txt", data=b"small")]
    entries = bring(files, store)
    assert [(e.file, e.bytes, e.sha256) for e in entries] == [(f.file, f.bytes, f.sha256) for f in files]
    assert names(store) == {"big.bin", "small.txt"}
    assert (store / "big.bin").read_bytes() == BIG
    assert bring(files, store) == entries
    assert len(server.gets("big.bin")) == len(server.gets("small.txt")) == 1


@pytest.mark.parametrize("jobs", [1, 8])
def test_as_many_files_come_at_a_time_as_asked(server, store, jobs):
    server.files = {f"{i}.bin": bytes(1 << 18) for i in range(8)}
    server.pace = 0.02
    bring([Remote(name, (server.url(name),)) for name in server.files], store, jobs=jobs)
    # The server may learn of the end of one file after it is asked for the next.
    assert server.busiest <= 2 if jobs == 1 else server.busiest >= 4
    assert names(store) == {*server.files, "trusted.json"}


def test_a_file_may_lie_in_a_folder(server, store):
    server.files["lists/a.txt"] = b"a"
    bring([Remote("lists/a.txt", (server.url("lists/a.txt"),))], store)
    assert (store / "lists/a.txt").read_bytes() == b"a"


def test_redirects_are_followed(server, store):
    server.always["old.bin"] = Fault(status=302, headers={"Location": server.url("big.bin")})
    bring([Remote("big.bin", (server.url("old.bin"),), len(BIG), sha256(BIG))], store)
    assert (store / "big.bin").read_bytes() == BIG


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/hostname"])
def test_redirects_to_another_scheme_are_not(server, store, target):
    server.always["old.bin"] = Fault(status=302, headers={"Location": target})
    fails([Remote("big.bin", (server.url("old.bin"),))], store, r"redirects to something that is not http")
    assert names(store) == set()


def test_a_file_of_unknown_length_may_come_in_chunks(server, store):
    server.always["big.bin"] = Fault(chunked=True)
    bring([remote(server, known=False)], store)
    assert (store / "big.bin").read_bytes() == BIG


def test_progress_is_told(server, store):
    seen: list[Progress] = []
    server.pace = 0.05
    bring([remote(server), remote(server, "small.txt", data=b"small")], store, report=seen.append)
    assert [p.bytes_done for p in seen] == sorted(p.bytes_done for p in seen)
    assert (seen[-1].files_done, seen[-1].files) == (2, 2)
    assert seen[-1].bytes_done == seen[-1].bytes_total == len(BIG) + 5
    assert all(p.bytes_total == len(BIG) + 5 for p in seen)
    assert 0 < seen[-1].rate < 1e8


# Servers that misbehave ---------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_a_dropped_connection_is_gone_on_with(server, store, known):
    server.faults["big.bin"].extend([Fault(drop=300_000), Fault(drop=300_000), Fault(drop=300_000)])
    bring([remote(server, known=known)], store)
    assert (store / "big.bin").read_bytes() == BIG
    gets = server.gets("big.bin")
    assert len(gets) == 4
    assert [r.range is None for r in gets] == [True, False, False, False]
    assert [r.condition is None for r in gets] == [True, known, known, known]  # a checksum needs no condition
    assert sum(r.sent for r in gets) < len(BIG) + 3 * transfer.CHUNK


def test_chunks_that_break_off_are_noticed(server, store):
    server.faults["big.bin"].append(Fault(chunked=True, drop=200_000))
    bring([remote(server, known=False)], store)
    assert (store / "big.bin").read_bytes() == BIG


def test_a_server_that_always_drops_at_once_is_given_up(server, store):
    server.always["big.bin"] = Fault(drop=0)
    fails([remote(server)], store, r"big\.bin cannot be downloaded \(http.*broke off.*, 3 times in a row\): run again")
    assert len(server.gets("big.bin")) == 3


def test_a_server_without_ranges_that_always_drops_is_given_up(server, store):
    server.ranges = False
    server.faults["big.bin"].extend(Fault(drop=200_000 if n % 2 else 400_000) for n in range(20))
    fails([remote(server)], store, r"broke off.*, 3 times in a row")
    assert len(server.gets("big.bin")) == 4


def test_wrong_bytes_in_pieces_end_after_a_second_chance(server, store):
    server.always["big.bin"] = Fault(data=bytes(len(BIG)), drop=600_000)
    fails([remote(server)], store, r"gave a file with SHA-256")
    assert len(server.gets("big.bin")) == 4


def test_a_whole_part_with_wrong_bytes_is_brought_again(server, store):
    store.mkdir()
    (store / "big.bin.part").write_bytes(bytes(len(BIG)))
    bring([remote(server)], store)
    assert (store / "big.bin").read_bytes() == BIG


def test_a_server_without_ranges_starts_anew(server, store):
    server.ranges = False
    server.faults["big.bin"].append(Fault(drop=500_000))
    bring([remote(server)], store)
    assert (store / "big.bin").read_bytes() == BIG
    assert [r.sent for r in server.gets("big.bin")] == [500_000, len(BIG)]


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_changes_between_attempts_is_not_mixed(server, store, known):
    other = bytes(reversed(BIG))
    server.faults["big.bin"].append(Fault(drop=500_000, data=other))
    bring([remote(server, known=known)], store)
    assert (store / "big.bin").read_bytes() == BIG
    assert len(server.gets("big.bin")) == (3 if known else 2)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "answer",
    [
        Fault(start=0),
        Fault(start=600_000),
        Fault(headers={"Content-Range": "bytes */1004000"}),
        Fault(headers=NO_RANGE),
    ],
    ids=["whole", "later", "of unknown place", "of no place"],
)
def test_the_answer_to_another_range_is_not_appended(server, store, known, answer):
    """A proxy may give the bytes that it has; where nobody knows a checksum, nothing else would notice."""
    server.faults["big.bin"].extend([Fault(drop=8 * transfer.CHUNK), answer])
    bring([remote(server, known=known)], store)
    assert (store / "big.bin").read_bytes() == BIG
    assert [r.range for r in server.gets("big.bin")] == [None, f"bytes={8 * transfer.CHUNK}-", None]


def test_a_range_that_was_not_asked_for_is_not_the_file(server, store):
    server.faults["big.bin"].append(Fault(start=5000))
    bring([remote(server, known=False)], store)
    assert (store / "big.bin").read_bytes() == BIG
    assert [r.range for r in server.gets("big.bin")] == [None, None]


def test_a_file_is_on_the_disk_before_it_gets_its_name(server, store, monkeypatch):
    synced, fsync = [], os.fsync

    def noting(descriptor):
        fsync(descriptor)
        synced.append((os.fstat(descriptor).st_ino, (store / "big.bin").exists()))

    monkeypatch.setattr(os, "fsync", noting)
    bring([remote(server)], store)
    assert synced[-2:] == [((store / "big.bin").stat().st_ino, False), (store.stat().st_ino, True)]


def test_without_validators_and_checksum_nothing_is_gone_on_with(server, store):
    server.validators = False
    server.faults["big.bin"].append(Fault(drop=500_000))
    bring([remote(server, known=False)], store)
    assert (store / "big.bin").read_bytes() == BIG
    assert server.gets("big.bin")[1].range is None


def test_a_wrong_beginning_is_found_out_by_the_checksum_and_started_anew(server, store):
    server.validators = False
    store.mkdir()
    (store / "big.bin.part").write_bytes(bytes(500_000))
    bring([remote(server)], store)
    assert (store / "big.bin").read_bytes() == BIG
    assert [r.range for r in server.gets("big.bin")] == ["bytes=500000-", None]


def test_a_whole_part_needs_no_network(server, store):
    store.mkdir()
    (store / "big.bin.part").write_bytes(BIG)
    bring([remote(server)], store)
    assert server.gets("big.bin") == []
    assert names(store) == {"big.bin"}


def test_a_part_longer_than_the_file_starts_anew(server, store):
    store.mkdir()
    for known in (True, False):
        (store / "big.bin.part").write_bytes(BIG + b"more")
        bring([remote(server, known=known)], store)
        assert (store / "big.bin").read_bytes() == BIG
        (store / "big.bin").unlink()


@pytest.mark.parametrize("claim", [len(BIG) - 1000, len(BIG) + 1000])
def test_a_false_length_is_seen_before_the_file_comes(server, store, claim):
    server.always["big.bin"] = Fault(claim=claim)
    fails([remote(server)], store, rf"has {claim:,} bytes, not {len(BIG):,}")
    assert names(store) == set()


def test_a_length_that_is_never_reached_is_no_file(server, store):
    server.ranges = False
    server.always["big.bin"] = Fault(claim=len(BIG) + 1000)
    with pytest.raises(DataError, match=r"broke off"):
        download([remote(server, known=False)], store, patience=RetryPolicy(attempts=2, first_wait=0.001, read=0.3))
    assert "big.bin" not in names(store)


def test_more_than_the_file_should_have_is_refused(server, store):
    server.always["big.bin"] = Fault(chunked=True, data=BIG + b"x" * 100_000)
    fails([remote(server)], store, r"sends more than the 1,004,000 bytes")


def test_a_length_that_nobody_says_is_refused(server, store):
    server.always["big.bin"] = Fault(bare=True)
    fails([remote(server, known=False)], store, r"does not say how long the file is")


def test_wrong_bytes_are_removed_and_the_good_files_stay(server, store):
    wrong = bytes(len(BIG))
    server.always["big.bin"] = Fault(data=wrong)
    files = [remote(server), remote(server, "small.txt", data=b"small")]
    fails(files, store, rf"big\.bin cannot be downloaded .*SHA-256 {sha256(wrong)}, not {sha256(BIG)}")
    assert names(store) == {"small.txt"}
    server.always.clear()
    bring(files, store)
    assert len(server.gets("small.txt")) == 1


def test_a_stalled_server_does_not_hold_for_ever(server, store):
    server.faults["big.bin"].append(Fault(stall=400_000))
    started = time.monotonic()
    bring([remote(server)], store)
    assert time.monotonic() - started < 10
    server.always["small.txt"] = Fault(stall=0)
    fails([remote(server, "small.txt", known=False)], store, r"sent nothing for 0\.3 seconds, 3 times in a row")


def test_nobody_listens(server, store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{taken.getsockname()[1]}"
        fails([Remote("big.bin", (f"{base}/big.bin",))], store, r"refuses connections, 3 times in a row")


def test_a_host_that_is_away_is_given_up_for_all_files_at_once(server, store, caplog):
    """Else each of many files would wait its turn for nothing; another host still gives them."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{taken.getsockname()[1]}"
        server.files = {f"{n}.txt": b"text" for n in range(8)}
        files = [Remote(name, (f"{base}/{name}", server.url(name)), 4) for name in server.files]
        pauses: list[float] = []
        download(files, store, jobs=1, patience=QUICK, sleep=pauses.append)
    assert len(pauses) == 2
    assert [record.getMessage() for record in caplog.records] == [f"{base}/0.txt refuses connections: trying again"]
    assert names(store) == {*server.files, "trusted.json"}


def test_a_host_that_nobody_knows(store, monkeypatch):
    def fail(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    fails([Remote("a", ("http://unknown.invalid/a",))], store, r"has a host that is not known here \(is there a net")


def test_a_busy_server_is_asked_again_with_growing_pauses(server, store):
    server.faults["big.bin"].extend([Fault(status=503), Fault(status=500), Fault(status=503)])
    pauses: list[float] = []
    patience = RetryPolicy(attempts=4, first_wait=1.0)
    download([remote(server)], store, patience=patience, sleep=pauses.append)
    assert (store / "big.bin").read_bytes() == BIG
    assert all(2**n / 2 <= pause <= 2**n for n, pause in enumerate(pauses))
    assert len(pauses) == 3


def test_a_server_says_when_to_come_back(server, store):
    server.faults["big.bin"].extend([Fault(status=429, headers={"Retry-After": "7"})])
    pauses: list[float] = []
    download([remote(server)], store, patience=RetryPolicy(first_wait=1.0), sleep=pauses.append)
    assert pauses == [7]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_final(server, store, status):
    bring([remote(server, known=False)], store)
    (store / "big.bin").unlink()
    server.requests.clear()
    server.always["big.bin"] = Fault(status=status)
    fails([remote(server)], store, rf"http://127\.0\.0\.1:\d+/big\.bin answered {status} .*put the file into {store}$")
    assert len(server.gets("big.bin")) == 1


def test_all_failures_are_counted(server, store):
    files = [remote(server, name, known=False) for name in ("a", "b", "small.txt", "c")]
    fails(files, store, r"answered 404 .* \(and 2 more of 4 files failed\)")
    assert names(store) == {"small.txt", "trusted.json"}


def test_a_web_page_in_place_of_a_file(server, store):
    server.always["big.bin"] = Fault(headers={"Content-Type": "text/html; charset=utf-8"})
    fails([remote(server, known=False)], store, r"sends a web page in place of the file")


def test_a_compressed_answer_is_refused(server, store):
    server.always["big.bin"] = Fault(headers={"Content-Encoding": "gzip"})
    fails([remote(server)], store, r"sends the file compressed")


# Several addresses --------------------------------------------------------------------------------


def test_addresses_are_tried_in_turn(server, store):
    server.files["copy/big.bin"] = BIG
    server.always["big.bin"] = Fault(status=404)
    bring([Remote("big.bin", (server.url("big.bin"), server.url("copy/big.bin")), len(BIG), sha256(BIG))], store)
    assert [r.path for r in server.requests] == ["big.bin", "copy/big.bin"]


def test_mirrors_come_first(server, store):
    server.files["mirror/big.bin"] = BIG
    bring([remote(server)], store, mirrors=[server.url("mirror/")])
    assert [r.path for r in server.requests] == ["mirror/big.bin"]


def test_a_mirror_of_a_stale_file_is_left_for_the_next_address(server, store):
    server.files["mirror/big.bin"] = bytes(len(BIG))
    bring([remote(server)], store, mirrors=[server.url("mirror")])
    assert (store / "big.bin").read_bytes() == BIG


def test_what_one_address_began_another_may_end(server, store):
    server.faults["mirror/big.bin"].append(Fault(drop=500_000))
    server.files["mirror/big.bin"] = BIG
    server.faults["mirror/big.bin"].extend([Fault(status=404)])
    bring([remote(server)], store, mirrors=[server.url("mirror")])
    assert (store / "big.bin").read_bytes() == BIG
    assert server.gets("big.bin")[0].range is not None


@pytest.mark.parametrize("mirror", ["ftp://example.org", "example.org/x", ""])
def test_a_mirror_must_be_a_web_address(server, store, mirror):
    error = fails(
        [remote(server)], store, r"^the mirror .* is not an http\(s\) address$", ParameterError, mirrors=[mirror]
    )
    assert error.argument == "mirrors"


def test_a_file_without_addresses(store):
    fails([Remote("a.zip", ())], store, r"a\.zip cannot be downloaded \(no address is known\)")
