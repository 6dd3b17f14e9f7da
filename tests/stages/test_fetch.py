"""The stage fetch: files of the user's, files downloaded, and what it says when there are neither."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from domix.data.archives.manifests import Manifest, Remote, load_manifest, read_files, write_files
from domix.data.fetch.settings import Fetch
from domix.project.common import source_root
from domix.project.progress import describe
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.progress import Progress
from domix.runtime.settings import replace
from domix.settings.load import load
from domix.settings.params import Params
from stages import fetch, pack
from tests.commands import told
from tests.faults.download_server import Fault, Server
from tests.fixtures import make_domainnet_set
from tests.source_trees import make_tree

ROOT = Path(__file__).resolve().parents[2]
OUT = Path("artifacts/raw")


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    loaded = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    return replace(loaded, fetch=Fetch(paths={}, mirrors={}, offline=False, jobs=3))


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    """Serve a small set, and publish it as DomainNet."""
    made = make_domainnet_set(tmp_path / "origin", domains=["clipart", "real"], apart=True)
    with Server() as running:
        running.files = {path.name: path.read_bytes() for path in made.iterdir() if path.name != "manifest.json"}
        remotes = tuple(Remote(name, (running.url(name),)) for name in sorted(running.files))
        published = Manifest("domainnet", "DomainNet", "none", None, remotes, "note")
        monkeypatch.setattr(fetch, "load_manifest", lambda name: published if name == "domainnet" else None)
        yield running


def with_fetch(params: Params, **changes: object) -> Params:
    return replace(params, fetch=replace(params.fetch, **changes))


def test_the_files_of_a_folder_are_verified_and_stay_there(params, tmp_path):
    made = make_domainnet_set(tmp_path / "set", domains=["real"])
    fetch.main(with_fetch(params, paths={"emoji": str(made)}), "emoji")
    assert [path.name for path in (OUT / "emoji").iterdir()] == ["files.json"]
    items = read_files(OUT / "emoji")
    assert [item.path for item in items] == ["manifest.json", "real.zip", "real_test.txt", "real_train.txt"]
    text = (OUT / "emoji/files.json").read_text()
    assert str(tmp_path) not in text
    (made / "real.zip").write_bytes((made / "real.zip").read_bytes()[:-1])
    with pytest.raises(DataError, match=r"real\.zip has [\d,]+ bytes, not [\d,]+ as its manifest says"):
        fetch.main(with_fetch(params, paths={"emoji": str(made)}), "emoji")
    assert (OUT / "emoji/files.json").read_text() == text


def test_a_folder_that_is_not_there(params):
    with pytest.raises(DataError, match=r"the folder nowhere does not exist: make it, or correct fetch\.paths\.emoji"):
        fetch.main(with_fetch(params, paths={"emoji": "nowhere"}), "emoji")


def test_what_packing_would_refuse_is_told_of_ones_own_files(params, tmp_path):
    own = with_fetch(params, paths={"lists": str(tmp_path / "lists"), "deep": str(tmp_path / "deep")})
    make_tree(tmp_path / "lists", "art/dog/1.png", "art/dog/2.png")
    for number, split in enumerate(("train", "test"), start=1):
        (tmp_path / f"lists/art_{split}.txt").write_text(f"art/dog/{number}.png {number}\n")
    make_tree(tmp_path / "deep", "kfold/art/dog/1.png", "kfold/photo/dog/1.png")
    for name, says in (("lists", "gives 'dog' the label 2, "), ("deep", r"kfold/art/dog/1\.png, deeper than ")):
        with pytest.raises(DataError, match=rf"{says}.* \(these files are yours: fetch\.paths\.{name} is /") as told:
            fetch.main(own, name)
        assert "\n" not in str(told.value)
    assert not OUT.exists()


def test_damaged_downloads_are_told_how_to_be_downloaded_again(params, server):
    fetch.main(params, "domainnet")
    (source_root(params, "domainnet") / "real.zip").unlink()
    with pytest.raises(DataError, match=r"domainnet/real\.zip is no longer there$") as caught:
        pack.main(params, "domainnet")
    assert told(caught.value).endswith("is no longer there: run dvc repro -f -s fetch@domainnet")


def test_files_are_downloaded_once_and_verified(params, server, capsys):
    fetch.main(params, "domainnet")
    assert capsys.readouterr().err.startswith("fetch: DomainNet. Licence: none\n")
    store = Path(".cache/downloads/domainnet").resolve()
    assert source_root(params, "domainnet") == store
    assert {item.path for item in read_files(OUT / "domainnet")} == set(server.files)
    assert all(re.fullmatch(r"[0-9a-f]{64}", item.sha256) for item in read_files(OUT / "domainnet"))
    before = (OUT / "domainnet/files.json").read_bytes()
    asked = len(server.requests)
    fetch.main(params, "domainnet")
    assert len(server.requests) == asked
    assert (OUT / "domainnet/files.json").read_bytes() == before


def test_downloaded_files_and_ones_own_give_the_same_list(params, server, tmp_path):
    fetch.main(params, "domainnet")
    before = (OUT / "domainnet/files.json").read_bytes()
    fetch.main(with_fetch(params, paths={"domainnet": str(tmp_path / "origin")}), "domainnet")
    assert (OUT / "domainnet/files.json").read_bytes() == before


def test_a_mirror_is_asked_first(params, server):
    server.files = {f"mirror/{name}": data for name, data in server.files.items()}
    fetch.main(with_fetch(params, mirrors={"domainnet": server.url("mirror")}), "domainnet")
    assert all(request.path.startswith("mirror/") for request in server.requests if request.method == "GET")


def test_offline(params, server):
    with pytest.raises(
        DataError, match=r"^fetch\.offline: 6 of 6 files are missing in .*domainnet, and offline is true"
    ):
        fetch.main(with_fetch(params, offline=True), "domainnet")
    assert server.requests == []
    fetch.main(params, "domainnet")
    fetch.main(with_fetch(params, offline=True), "domainnet")


def test_a_folder_without_the_files_is_told_with_the_key_that_names_it(params, tmp_path):
    (tmp_path / "set").mkdir()
    asked = with_fetch(params, paths={name: str(tmp_path / "set") for name in ("imagenet-sketch", "emoji")})
    with pytest.raises(DataError) as caught:
        fetch.main(asked, "imagenet-sketch")
    said = f"{tmp_path / 'set'} holds neither ImageNet-Sketch.zip nor sketch/<wnid>/"
    assert told(caught.value) == f"fetch.paths.imagenet-sketch: {said}"
    with pytest.raises(ParameterError, match=r"^fetch\.paths\.imagenet_v2: unknown source .* did you mean imagenet-v2"):
        fetch.main(asked, "imagenet_v2")
    with pytest.raises(ParameterError, match=r"^fetch\.mirrors\.imagenet-r: the mirror 'x' is not"):
        fetch.main(with_fetch(params, mirrors={"imagenet-r": "x"}), "imagenet-r")


def test_a_store_that_lost_its_files_is_fetched_anew(params, server):
    fetch.main(params, "domainnet")
    for path in Path(".cache/downloads/domainnet").glob("*_train.txt"):
        path.unlink()
    write_files(OUT / "domainnet", [item for item in read_files(OUT / "domainnet") if "_train" not in item.path])
    with pytest.raises(DataError, match=r"downloads/domainnet holds no <domain>_train\.txt$") as caught:
        pack.main(params, "domainnet")
    assert told(caught.value).endswith("_train.txt: run dvc repro -f -s fetch@domainnet")


def test_a_failed_fetch_keeps_the_good_files_and_ends_at_the_second_run(params, server):
    server.faults["real.zip"].append(Fault(status=404))
    with pytest.raises(
        DataError, match=r"^fetch\.mirrors\.domainnet: real\.zip cannot be downloaded \(.* answered 404"
    ):
        fetch.main(params, "domainnet")
    assert not (OUT / "domainnet").exists()
    fetch.main(params, "domainnet")
    assert [len(server.gets(name)) for name in ("real.zip", "clipart.zip")] == [2, 1]


@pytest.mark.parametrize("name", ["imagenet", "cc3m", "cc12m"])
def test_what_cannot_be_downloaded_is_asked_for(params, name, monkeypatch):
    monkeypatch.setattr(fetch, "get_source", lambda *_args, **_options: None)
    with pytest.raises(DataError) as caught:
        fetch.main(params, name)
    manifest = load_manifest(name)
    beginning = f"{name} cannot be downloaded: name the folder that holds its files in fetch.paths.{name}."
    assert str(caught.value) == f"{beginning} {manifest.note} Homepage: {manifest.homepage}"


def test_a_relative_path_is_also_looked_for_in_the_users_repository(params, tmp_path, monkeypatch):
    """`dvc exp run --temp` works in a copy, which lacks what Git and DVC do not track."""
    given = with_fetch(params, paths={"a": "sets/a", "b": "sets/b", "c": "/abs/c"})
    copy = tmp_path / "repository/.dvc/tmp/exps/temp1"
    copy.mkdir(parents=True)
    (tmp_path / "repository/sets/a").mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert source_root(given, "a") == tmp_path / "repository/sets/a"
    assert source_root(given, "b") == Path("sets/b")
    assert source_root(given, "c") == Path("/abs/c")
    assert source_root(given, "d") == tmp_path / "repository/.cache/downloads/d"
    (copy / "sets/a").mkdir(parents=True)
    assert source_root(given, "a") == Path("sets/a")


# The terminal -------------------------------------------------------------------------------------


def test_the_line_says_how_far_and_how_long_yet():
    line = describe("fetch domainnet", Progress(3, 18, 7_250_000_000, 18_469_127_000, 24_300_000.0))
    assert line == "fetch domainnet: 3/18 files, 7.25 of 18.47 GB, 24.3 MB/s, 07:41 left"
    assert describe("fetch x", Progress(0, 1, 0, 0, 0.0)) == "fetch x: 0/1 files, 0.00 of 0.00 MB, 0.0 MB/s"


PROGRAM = """
import sys, time
from domix.runtime.progress import Progress
from tests.commands import told
from domix.project.progress import progress_line
with progress_line("fetch x") as report:
    for done in range(3):
        report(Progress(done, 2, done * 10**9, 2 * 10**9, 1e6))
"""


def test_on_a_terminal_it_is_one_line_that_changes():
    main, other = pty.openpty()
    termios.tcsetwinsize(other, (24, 100))
    collected: list[bytes] = []

    def collect() -> None:
        try:
            while data := os.read(main, 4096):
                collected.append(data)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=collect)
    reader.start()
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, stderr=other, check=True)
    os.close(other)
    reader.join()
    os.close(main)
    text = b"".join(collected).decode()
    assert text.count("\n") == 1
    assert list(dict.fromkeys(line.strip() for line in text.split("\r") if line.strip())) == [
        "fetch x: 0/2 files, 0.00 of 2.00 GB, 1.0 MB/s, 33:20 left",
        "fetch x: 1/2 files, 1.00 of 2.00 GB, 1.0 MB/s, 16:40 left",
        "fetch x: 2/2 files, 2.00 of 2.00 GB, 1.0 MB/s",
    ]


def test_in_a_file_a_short_fetch_says_nothing():
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
