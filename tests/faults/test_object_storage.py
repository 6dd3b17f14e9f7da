"""Shards in S3-compatible object storage: a server on this machine, and what goes wrong with it."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from domix.data.loading import object_store
from domix.data.loading.fetcher import Progress, filled
from domix.data.loading.object_store import copy, read_range
from domix.data.loading.prefetch import prefetched
from domix.data.store.index import read_index
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.retry import RetryPolicy, Stopped
from tests.packed_sources import KINDS, batches_of, equal, images_from, write_sources

HASTY = RetryPolicy(attempts=3, first_wait=0.01, longest_wait=0.01)
NEVER = threading.Event()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve S3 on this machine, and return where."""
    running = ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(autouse=True)
def account(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tell boto who we are and where the server is, as a user does."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    write_sources(folder)
    return folder


@pytest.fixture
def bucket(root: Path, server: str) -> Iterator[Any]:
    """Upload the shards into a bucket."""
    store = boto3.resource("s3", endpoint_url=server)
    bucket = store.create_bucket(Bucket="shards")
    for path in root.glob("shards/*/*.tar"):
        bucket.upload_file(str(path), f"v1/{path.parent.name}/{path.name}")
    yield bucket
    bucket.objects.all().delete()
    bucket.delete()


URLS = {source: f"s3://shards/v1/{source}" for source in KINDS}


def batches_from(root: Path, urls: dict[str, str], *, patience: RetryPolicy = HASTY, workers: int = 0, **named: Any):
    """Yield the batches of a training that streams."""
    batches = batches_of(root, images_from(root, "stream", shards=urls), **named)
    progress = Progress(batches.images.spool, 0, batches.start)
    with (
        prefetched(batches, workers=workers, pin=False, ahead=True, tell=progress) as source,
        filled(batches.images.spool, batches, progress, "run", processes=1, patience=patience),
    ):
        yield from source


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [0, 6])
def test_batches_from_a_bucket_are_those_from_memory(root: Path, workers: int, start: int) -> None:
    reference = batches_of(root, images_from(root, "resident"), start=start)
    found = list(batches_from(root, URLS, workers=workers, start=start))
    assert len(found) == 10 - start
    assert all(equal(one, other) for one, other in zip(found, reference, strict=True))
    assert not (root / "spool/run").exists()


@pytest.mark.usefixtures("bucket")
def test_large_shards_come_in_ranges(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "RANGE", 1000)
    whole = (root / "shards/web/00001.tar").read_bytes()
    copy(f"{URLS['web']}/00001.tar", tmp_path / "a.tar", least=1, stopped=NEVER, patience=HASTY)
    assert (tmp_path / "a.tar").read_bytes() == whole
    assert read_range(f"{URLS['web']}/00001.tar", 600, 700) == whole[600:700]


def test_a_shard_that_vanishes_is_told_by_its_url(root: Path, bucket: Any) -> None:
    bucket.Object("v1/draw/00004.tar").delete()
    with pytest.raises(
        DataError, match=r"^the shard s3://shards/v1/draw/00004\.tar is missing: copy it there, or name another"
    ) as caught:
        list(batches_from(root, URLS))
    assert caught.value.argument == "url"


@pytest.mark.parametrize("workers", [0, 1])
def test_an_absent_bucket_is_told_in_a_sentence(root: Path, workers: int) -> None:
    with pytest.raises(
        DataError, match=r"^the shard s3://nowhere/web/0000\d\.tar is missing: copy it there, or name another"
    ) as caught:
        list(batches_from(root, {source: f"s3://nowhere/{source}" for source in KINDS}, workers=workers))
    assert caught.value.argument == "url"


def test_a_server_that_is_away_is_told_after_some_attempts(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(DataError, match=r"could not be read in 1 attempts .*run again to continue$"):
        copy("s3://shards/x.tar", tmp_path / "x", least=1, stopped=NEVER, patience=RetryPolicy(attempts=1))
    assert not list(tmp_path.glob("*x*"))


class Flaky:
    """A file system that breaks off now and then."""

    def __init__(self, data: bytes, troubles: list[Exception | bytes]) -> None:
        self.data, self.troubles = data, troubles

    def info(self, path: str) -> dict[str, int]:
        return {"size": len(self.data)}

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        trouble = self.troubles.pop() if self.troubles else self.data[start:end]
        if isinstance(trouble, Exception):
            raise trouble
        return trouble


@pytest.mark.parametrize("trouble", [OSError("connection reset"), TimeoutError("slow"), b"short", RuntimeError("503")])
def test_what_may_pass_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Any) -> None:
    data = bytes(range(250)) * 40
    monkeypatch.setattr(object_store, "RANGE", 4000)
    monkeypatch.setattr(object_store, "_connect", lambda url: (Flaky(data, [trouble, trouble]), url))
    copy("s3://a/b.tar", tmp_path / "b.tar", least=10_000, stopped=NEVER, patience=HASTY)
    assert (tmp_path / "b.tar").read_bytes() == data


def test_what_does_not_pass_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    troubles: list[Exception | bytes] = [OSError("connection reset") for _ in range(3)]
    monkeypatch.setattr(object_store, "_connect", lambda url: (Flaky(b"x" * 100, troubles), url))
    with pytest.raises(DataError, match=r"^the shard s3://a/b could not be read in 3 attempts \(OSError: connection"):
        copy("s3://a/b", tmp_path / "b", least=1, stopped=NEVER, patience=HASTY)
    assert not list(tmp_path.iterdir())


def test_forbidden_shards_are_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    troubles: list[Exception | bytes] = [PermissionError("Access Denied")]
    monkeypatch.setattr(object_store, "_connect", lambda url: (Flaky(b"x" * 100, troubles), url))
    with pytest.raises(DataError, match=r"^the shard s3://a/b may not be read \(Access Denied\): check"):
        copy("s3://a/b", tmp_path / "b", least=1, stopped=NEVER, patience=HASTY)


def test_a_stop_ends_the_waiting_between_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    class Away(Flaky):
        def cat_file(self, path: str, start: int, end: int) -> bytes:
            stopped.set()
            raise OSError("away")

    monkeypatch.setattr(object_store, "_connect", lambda url: (Away(b"x" * 100, []), url))
    with pytest.raises(Stopped):
        copy("s3://a/b", tmp_path / "b", least=1, stopped=stopped, patience=RetryPolicy(first_wait=3600))


def test_without_s3fs_the_extra_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ParameterError, match=r"^s3://shards/v1/web needs the extra s3: pip install 'domix\[s3\]'$"):
        images_from(root, "stream", shards=URLS)


def test_webdataset_reads_the_same_shards(root: Path) -> None:
    """Anyone else's streaming reader finds the images, in the order in which they were packed."""
    import webdataset

    index = read_index(root / "shards/web")
    urls = [f"file:{root}/shards/web/{name}" for name in index["shard"].unique()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # webdataset's own affairs
        found = [(s["__key__"], len(s["jpg"])) for s in webdataset.WebDataset(urls, shardshuffle=False)]
    assert found == list(zip(index["key"], index["size"], strict=True))
