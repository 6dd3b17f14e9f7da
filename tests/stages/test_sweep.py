"""A sweep as a real process, over stages that take no time: what runs, what is tried again, what a failure leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from domix.settings.load import load
from tests.processes import wait_for
from tests.tiny import REPOSITORY

PIPELINE = """
stages:
  captions:
    matrix: {source: "${sources}"}
    cmd: python make.py captions ${item.source}
    deps: [make.py]
    outs: ["artifacts/captions/${item.source}.parquet"]
  mixtures:
    cmd: python make.py mixtures
    deps: [make.py]
    params: [mixtures, test_domain]
    outs: [artifacts/mixtures]
  train:
    matrix: {mixture: "${mixtures}", seed: "${seeds}"}
    cmd: python train.py ${item.mixture} ${item.seed}
    deps: ["artifacts/mixtures/${item.mixture}.parquet", artifacts/captions]
    outs: ["artifacts/models/clip/${item.mixture}-s${item.seed}"]
  embed:
    matrix: {mixture: "${mixtures}", seed: "${seeds}"}
    cmd: python make.py embeddings ${item.mixture} ${item.seed}
    deps: ["artifacts/models/clip/${item.mixture}-s${item.seed}"]
    outs: ["artifacts/embeddings/clip/${item.mixture}-s${item.seed}"]
  evaluate:
    cmd: python make.py eval
    deps: [artifacts/embeddings]
    params: [mixtures, test_domain]
    outs: [artifacts/eval]
  analyse:
    foreach: ${analyses}
    do:
      cmd: python make.py analysis ${key}
      deps: [artifacts/embeddings/clip]
      outs: ["artifacts/analysis/${key}"]
  report:
    cmd: python make.py report
    deps: [artifacts/models/clip, artifacts/eval, artifacts/analysis]
    params: [mixtures, test_domain]
    outs: [artifacts/report]
"""
ANALYSES = load((REPOSITORY / "params.yaml").read_text(encoding="utf-8")).analyses
MAKE = """
import sys
from pathlib import Path
from ruamel.yaml import YAML
params = YAML(typ="safe").load(Path("params.yaml").read_text())
out = Path("artifacts") / sys.argv[1]
out.mkdir(parents=True, exist_ok=True)
if sys.argv[1] == "captions":
    (out / f"{sys.argv[2]}.parquet").write_text("captions")
elif sys.argv[1] in ("embeddings", "analysis"):
    out = out / ("clip/" + "-s".join(sys.argv[2:]) if sys.argv[1] == "embeddings" else sys.argv[2])
    out.mkdir(parents=True)
    (out / "meta.json").write_text(" ".join(sys.argv[1:]))
elif sys.argv[1] == "mixtures":
    if params["test_domain"] == "nowhere":
        sys.exit("mixtures: there is no domain 'nowhere'")
    for name in params["mixtures"]:
        (out / f"{name}.parquet").write_text(name + ("" if name == "natural-only" else params["test_domain"]))
else:
    read = "models/clip" if sys.argv[1] == "report" else "embeddings/clip"
    (out / "made").write_text(" ".join(sorted(path.name for path in (Path("artifacts") / read).iterdir())))
"""
# Keeps a diary in the user's repository; fails, dies or waits as its name and that diary say.
TRAIN = """
import json, os, signal, sys, time
from pathlib import Path
mixture, seed = sys.argv[1:]
root = Path(str(Path.cwd()).partition("/.cache/sweep/")[0])
domain = "here" if root == Path.cwd() else Path.cwd().name
diary = root / "diary"
before = diary.read_text() if diary.exists() else ""
me = f"{domain}/{mixture}-{seed}"
with open(diary, "a") as file:
    file.write(f"{me} OMP={os.environ['OMP_NUM_THREADS']}\\n")
row = {"steps": 100, "batch": 8, "step": 50, "loss": 2.5, "samples_per_s": 80.0, "time": time.time()}
Path(os.environ["DOMIX_PROGRESS"]).parent.mkdir(parents=True, exist_ok=True)
Path(os.environ["DOMIX_PROGRESS"]).write_text(json.dumps(row))
if me in ("painting/cg-high-0", "here/cg-high-0") and not (root / "mended").exists():
    print("train: trainer.accelerator is gpu, but there is none", file=sys.stderr)
    sys.exit(2)
if me == "clipart/cg-high-0" and me not in before:
    os.kill(os.getpid(), signal.SIGKILL)
if mixture == "leave-out-domain" and me not in before:
    signal.signal(signal.SIGINT, lambda *_: ((root / "saved").touch(), sys.exit(75)))
    (root / "patient").touch()
    time.sleep(300)
out = Path("artifacts/models/clip") / f"{mixture}-s{seed}"
out.mkdir(parents=True)
(out / "model").write_text(f"{mixture} {seed}")
"""
# Stages of the page of an unfinished study: what they were asked for.
STAGE = """
import sys
from pathlib import Path
from ruamel.yaml import YAML
params = YAML(typ="safe").load(Path("params.yaml").read_text())
folder = Path(sys.argv[1]) if "{name}" == "report" else Path("artifacts/{name}")
folder.mkdir(parents=True)
read = Path("artifacts/evaluate/index.html").read_text() if "{name}" == "report" else ""
(folder / "index.html").write_text(f"{name} of {{params['mixtures']}}; {{read}}")
"""
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | {
    "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "src"))),
    "DVC_NO_ANALYTICS": "true",
}
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a repository with a pipeline of Domix's shape."""
    root = tmp_path / "repository"
    root.mkdir()
    tree = YAML(typ="safe", pure=True).load(REPOSITORY / "params.yaml")
    tree |= {"mixtures": ["natural-only"], "seeds": [0], "test_domain": "sketch"}
    YAML(typ="safe", pure=True).dump(tree, root / "params.yaml")
    for name, text in (("dvc.yaml", PIPELINE), ("make.py", MAKE), ("train.py", TRAIN)):
        (root / name).write_text(text)
    (root / "stages").mkdir()
    (root / "stages/__init__.py").touch()  # so that these come before the real ones
    for name in ("evaluate", "report"):
        (root / f"stages/{name}.py").write_text(STAGE.format(name=name))
    (root / ".gitignore").write_text("/artifacts\n.cache/\ndiary\nmended\nsaved\npatient\n")
    for command in (("git", "init", "-q"), (sys.executable, "-m", "dvc", "init", "-q")):
        subprocess.run(command, cwd=root, env=ENVIRONMENT, check=True)
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    subprocess.run([*GIT, "commit", "-q", "-m", "x"], cwd=root, check=True)
    return root


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    words = (sys.executable, "-m", "domix", "sweep", *arguments)
    return subprocess.Popen(words, cwd=root, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE)


def sweep(root: Path, *arguments: str) -> tuple[int, str]:
    process = start(root, *arguments)
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def told(root: Path, name: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    record = json.loads((root / ".cache/sweep" / name / "sweep.json").read_text())
    return record, {run["name"]: run for run in record["runs"]}


@pytest.mark.slow
def test_a_sweep_over_two_domains(project: Path) -> None:
    command = ("--mixtures", "natural-only,cg-high", "--slots", "2", "--retries", "1")
    code, said = sweep(project, "--test-domains", "nowhere,clipart,painting", *command)
    record, runs = told(project, "default")
    assert code == 2, said
    assert f"{8 + 2 * len(ANALYSES)} of {15 + 3 * len(ANALYSES)} parts are not done" in said
    assert record["state"] == "failed"
    assert record["asked"]["test_domains"] == ["nowhere", "clipart", "painting"]
    found = {name: (run["state"], run["attempts"], run["exit_code"]) for name, run in runs.items()}
    parts = ("evaluate", *(f"analyse@{name}" for name in ANALYSES), "report")
    assert found == {f"{d}/{p}": ("skipped", 0, None) for d in ("nowhere", "painting") for p in parts} | {
        f"clipart/{part}": ("done", 1, 0) for part in parts
    } | {
        "nowhere/prepare": ("failed", 2, 1),
        "nowhere/train@natural-only-0": ("skipped", 0, None),
        "nowhere/train@cg-high-0": ("skipped", 0, None),
        "clipart/prepare": ("done", 1, 0),
        "clipart/train@natural-only-0": ("done", 1, 0),
        "clipart/train@cg-high-0": ("done", 2, 0),
        "painting/prepare": ("done", 1, 0),
        "painting/train@natural-only-0": ("done", 1, 0),
        "painting/train@cg-high-0": ("failed", 1, 2),
    }
    failed = runs["painting/train@cg-high-0"]
    assert failed["note"] == "train: trainer.accelerator is gpu, but there is none"
    assert failed["note"] in said
    assert failed["log"] in said
    assert failed["note"] in (project / failed["log"]).read_text()
    assert runs["nowhere/prepare"]["note"] == "mixtures: there is no domain 'nowhere'"
    assert (project / runs["clipart/train@cg-high-0"]["model"] / "model").read_text() == "cg-high 0"

    diary = (project / "diary").read_text()
    lines = [line.split()[0] for line in diary.splitlines()]
    assert sum("natural-only" in line for line in lines) == 1  # the same in both: from DVC's run cache for the second
    assert sorted(line for line in lines if "cg-high" in line) == ["clipart/cg-high-0"] * 2 + ["painting/cg-high-0"]
    assert "OMP=1" in diary
    assert subprocess.run(["git", "status", "--porcelain"], cwd=project, capture_output=True).stdout == b""

    (project / "mended").touch()
    code, said = sweep(project, "--test-domains", "clipart,painting", *command)
    assert code == 0, said
    record, runs = told(project, "default")
    assert record["state"] == "done"
    assert {run["state"] for run in runs.values()} == {"done"}
    assert runs["clipart/train@cg-high-0"]["note"] == "up to date"
    assert (project / "diary").read_text()[len(diary) :].split()[0::2] == ["painting/cg-high-0"]
    for domain in record["workspaces"].values():
        copy = project / domain
        for made in ("report", "eval"):
            assert (copy / "artifacts" / made / "made").read_text() == "cg-high-s0 natural-only-s0"
        lock = YAML(typ="safe").load((copy / "dvc.lock").read_text())["stages"]
        assert {"train@natural-only-0", "train@cg-high-0"} <= set(lock)


@pytest.mark.slow
def test_a_stopped_sweep_saves_and_goes_on(project: Path) -> None:
    """The parameters' own study runs in the repository; a signal reaches the training, not the DVC that watches it."""
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("natural-only", "leave-out-domain"))
    process = start(project, "--until", "train")
    wait_for(lambda: (project / "patient").exists(), process, seconds=120)
    second = sweep(project, "--until", "train")
    assert second[0] == 2
    assert "'repro' is running already" in second[1]
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert "the same command goes on" in said
    assert (project / "saved").exists()
    record, runs = told(project, "repro")
    assert record["state"] == "stopped"
    assert runs["sketch/train@leave-out-domain-0"]["state"] == "stopped"
    assert runs["sketch/train@leave-out-domain-0"]["exit_code"] == 75
    assert not (project / "artifacts/models").exists()

    code, said = sweep(project, "--until", "train")
    assert code == 0, said
    assert (project / "artifacts/models/clip/leave-out-domain-s0/model").exists()
    assert record["workspaces"] == {"sketch": "."}


@pytest.mark.slow
def test_one_run_that_fails_leaves_the_others_and_a_page_of_them(project: Path) -> None:
    """The study of the parameters, in the repository itself: what there is gets a page, the pipeline's outputs wait."""
    yaml = YAML(typ="safe", pure=True)
    yaml.dump(yaml.load(project / "params.yaml") | {"mixtures": ["natural-only", "cg-high"]}, project / "params.yaml")
    code, said = sweep(project, "--retries", "0")
    assert code == 2, said
    _, runs = told(project, "repro")
    states = {name.partition("/")[2]: run["state"] for name, run in runs.items()}
    assert states["train@natural-only-0"] == "done" and states["train@cg-high-0"] == "failed"
    assert states["evaluate"] == states["report"] == "skipped"
    page = project / ".cache/sweep/repro/page/index.html"
    assert f"the page of what is there: {page}" in said
    assert page.read_text() == "report of ['natural-only', 'cg-high']; evaluate of ['natural-only']; "
    assert not (project / "artifacts/eval").exists() and not (project / "artifacts/report").exists()
    (project / "mended").touch()
    assert sweep(project)[0] == 0
    assert (project / "artifacts/report/made").read_text() == "cg-high-s0 natural-only-s0"
