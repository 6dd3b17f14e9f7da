"""The command export, from a packed source to files, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from domix.data.store.index import read_index
from domix.data.store.shards import ShardReader
from domix.project.common import load_params
from domix.runtime.errors import DataError, ParameterError
from tests.commands import domix, told
from tests.tiny import REPOSITORY, WORDS, write_project


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(project: Path) -> dict[str, bytes]:
    """Return the images of the mixture `tiny`: all but the sketches of the first class."""
    folder = project / "artifacts/shards/emoji"
    index, reader = read_index(folder), ShardReader(folder)
    shown = index[(index["domain"] != "sketch") | (index["class"] != WORDS[0])]
    return {key: reader.read(row) for key, row in zip(shown["key"], shown["row"], strict=True)}


def test_tsv(project):
    domix(load_params(), "export", "tiny", "tsv", "out/tiny")
    table = pd.read_csv("out/tiny/train.tsv", sep="\t")
    images = expected(project)
    assert len(table) == len(images)
    found = {Path(p).relative_to(project / "out/tiny/images/emoji").with_suffix(""): p for p in table["filepath"]}
    assert {str(key): Path(path).read_bytes() for key, path in found.items()} == images
    assert table["title"][0] == "a real of a apple"


def test_tsv_for_another_place(project):
    domix(load_params(), "export", "tiny", "tsv", "out", "--prefix", "/data/tiny", "--dialect", "reference")
    paths = pd.read_csv("out/train.tsv", sep="\t")["filepath"]
    assert paths.str.startswith("/data/tiny/images/emoji/").all()


def test_tsv_of_unpacked_files(project):
    for key, data in expected(project).items():
        path = Path(f"unpacked/{key}.PNG")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    domix(load_params(), "export", "tiny", "tsv", "out", "--images", "emoji=unpacked")
    assert sorted(path.name for path in Path("out").iterdir()) == ["export.json", "train.tsv"]
    assert pd.read_csv("out/train.tsv", sep="\t")["filepath"].map(lambda path: Path(path).is_file()).all()


def test_webdataset(project):
    domix(load_params(), "export", "tiny", "webdataset", "out", "--shard-samples", "8")
    sizes = json.loads(Path("out/sizes.json").read_text())
    assert sum(sizes.values()) == len(expected(project))
    assert max(sizes.values()) <= 8


def test_parquet(project):
    domix(load_params(), "export", "tiny", "parquet", "out")
    rows = pq.read_table("out/data/train-00000-of-00001.parquet").to_pylist()
    assert {row["key"]: row["image"]["bytes"] for row in rows} == expected(project)
    assert "| emoji |" in Path("out/README.md").read_text()
    assert "not recorded" not in Path("out/README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["tinny", "tsv", "out"], ParameterError, "no mixture 'tinny': did you mean 'tiny'"),
        (["tiny", "tsv", "out", "--images", "unpacked"], ParameterError, "not SOURCE=FOLDER"),
        (["tiny", "tsv", "out", "--images", "emoji=nowhere"], DataError, "nowhere has no file for"),
        (["tiny", "webdataset", "out", "--shard-samples", "0"], ParameterError, "at least 1"),
        (["tiny", "parquet", "artifacts"], DataError, "no export of a mixture"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(project, arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        domix(load_params(), "export", *arguments)
    assert "\n" not in str(caught.value)
    assert not Path("out").exists()
    assert not [path for path in project.iterdir() if path.name.startswith(".out")]


def test_options_of_another_format_are_refused(project):
    with pytest.raises(ParameterError, match="--dialect is an option of the format tsv, not of parquet"):
        domix(load_params(), "export", "tiny", "parquet", "out", "--dialect", "csv")


def test_a_mixture_that_breaks_its_promise_is_not_exported(tmp_path, monkeypatch):
    write_project(tmp_path, rows=[0, 1, 2])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="must not show 'apple' in domain 'sketch'"):
        domix(load_params(), "export", "tiny", "tsv", "out")
    assert not Path("out").exists()


def test_no_mixtures_yet(project):
    shutil.rmtree(project / "artifacts/mixtures")
    with pytest.raises(DataError) as caught:
        domix(load_params(), "export", "tiny", "tsv", "out")
    assert told(caught.value) == "artifacts/mixtures/tiny.parquet is missing: run dvc repro mixtures"


def test_the_command_line_ends_as_stages_do(project):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "domix", "export", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
        )

    done = run("tiny", "tsv", "out")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"export: 23 samples of tiny in {project / 'out'}"
    again = run("tiny", "tsv", "out")
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].startswith(f"export: {project / 'out'} holds an export already")
    assert run("tiny", "tsv", "out", "--force").returncode == 0
    assert not (project / ".cache/times").exists()
