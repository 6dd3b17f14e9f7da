"""The whole pipeline under DVC itself, on a tiny data set: what runs, what is skipped, what a parameter reruns."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from domix.settings.load import load
from tests.fixtures import make_domainnet_set
from tests.tiny import CONFIG
from tools.smoke import copy_tree

REPOSITORY = Path(__file__).parent.parent.parent
DOMAINS = ("clipart", "real", "sketch")
CLASSES = tuple(f"thing_{letter}" for letter in "abcdefghijkl")
MIXTURES = ("natural-only", "cg-high")
ANALYSES = tuple(load((REPOSITORY / "presets/smoke.yaml").read_text(encoding="utf-8")).analyses)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository of its own with the pipeline's code, a drawn data set of 36 cells, and parameters to fit."""
    root = tmp_path_factory.mktemp("pipeline") / "repository"
    copy_tree(REPOSITORY, root)
    (root / "data.dvc").unlink()
    make_domainnet_set(root / "data", domains=DOMAINS, classes=CLASSES, per_cell=2)
    (root / "tiny.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    git(root, "init", "--quiet")
    set_params(root, YAML().load((root / "presets" / "smoke.yaml").read_text(encoding="utf-8")))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "The project")
    yield root


def set_params(root: Path, tree: dict, **changes: object) -> None:
    """Write params.yaml: the smoke preset, turned to the drawn set and the smallest model."""
    tree |= {"test_domain": "sketch", "test_classes": list(CLASSES[:5]), "mixtures": list(MIXTURES)}
    tree["fetch"]["paths"]["emoji"] = "data"
    tree["pack"] |= {"poses": 4, "workers": 1}
    tree["model"]["name"] = "tiny.json"
    tree["train"] |= {"samples": 160, "batch": 16, "checkpoints": [0, 1]}
    tree["supervised"] |= {"mixtures": ["cg-high"], "samples": 320, "batch": 16, "lr": 0.01, "checkpoints": [1]}
    tree["trainer"]["threads"] = 1
    tree["embed"]["checkpoints"] = True
    tree["analyses"]["separation"] |= {"images": 24, "neighbours": 5}
    tree["analyses"]["finetuned"] |= {"batch": 32}  # of 96 images
    tree |= changes
    with open(root / "params.yaml", "w", encoding="utf-8") as file:
        YAML().dump(tree, file)


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def dvc(root: Path, *arguments: str, code: int = 0) -> str:
    """Run DVC and return what it printed; it must exit with `code` (any but 0 for -1)."""
    return run(root, "dvc", *arguments, code=code)


def domix(root: Path, *arguments: str) -> str:
    return run(root, "domix", *arguments, code=0)


def run(root: Path, module: str, *arguments: str, code: int) -> str:
    environment = os.environ | {"DVC_NO_ANALYTICS": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    assert done.returncode == code or (code == -1 and done.returncode), printed
    return printed


def ran(printed: str) -> set[str]:
    """Return the stages that a `dvc repro` ran."""
    return {line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage '")}


def results(root: Path) -> dict:
    return json.loads((root / "metrics" / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def first(project: Path) -> set[str]:
    """The first run of everything, committed; the stages that ran."""
    stages = ran(dvc(project, "repro"))
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "The first run")
    return stages


def test_one_command_runs_every_stage_and_leaves_results(project: Path, first: set[str]) -> None:
    assert first == {
        "code",
        "fetch@emoji",
        "pack@emoji",
        *(f"{stage}@emoji-ood" for stage in ("fetch_set", "pack_set")),
        "captions@emoji",
        "mixtures",
        *(f"{stage}@{mixture}-0" for stage in ("train", "embed") for mixture in MIXTURES),
        *(f"{stage}@cg-high-0" for stage in ("train_supervised", "embed_supervised")),
        "evaluate",
        *(f"analyse@{name}" for name in ANALYSES),
        "report",
    }
    assert results(project)["test_domain"] == "sketch"
    assert 0 <= results(project)["cg-high.held_out.balanced_top1"] <= 1
    page = (project / "artifacts" / "report" / "index.html").read_text(encoding="utf-8")
    assert "sketch" in page and "cg-high" in page
    assert (project / "artifacts/models/clip/cg-high-s0/checkpoints/epoch_000.safetensors").is_file()
    assert (project / "artifacts/models/supervised/cg-high-s0/model.safetensors").is_file()
    assert (project / "artifacts/embeddings/clip/cg-high-s0/checkpoints/000/image.npy").is_file()
    assert (project / "artifacts/embeddings/supervised/cg-high-s0/scores.npy").is_file()
    foreign = project / "artifacts/embeddings/clip/cg-high-s0/sets/emoji-ood"
    assert np.load(foreign / "image.npy").shape == (521, CONFIG["embed_dim"])
    assert (project / "mlflow.db").is_file()


def test_classifiers_are_a_group_of_their_own_over_training_too(project: Path, first: set[str]) -> None:
    sites = pd.read_parquet(project / "artifacts/analysis/outliers/sites.parquet")
    clip, classifiers = (sites[sites["kind"] == kind] for kind in ("clip", "supervised"))
    assert set(clip["mixture"]) == set(MIXTURES) and set(classifiers["mixture"]) == {"cg-high"}
    natural = clip[clip["mixture"] == "natural-only"]  # the CLIP model of cg-high sees no second epoch
    for rows in (natural, classifiers):
        assert rows["weights"].unique().tolist() == ["initial", "kept", "last"]
        initial, kept, last = rows["checkpoint"].unique()
        assert (initial, kept) == (0, 1) and last > 1
    page = (project / "artifacts" / "report" / "index.html").read_text(encoding="utf-8")
    for title in ("Kurtosis layer by layer, over training", "Do supervised classifiers differ from zero-shot models?"):
        assert f">{title}</h" in page
    assert ">Supervised classifiers: Kurtosis layer by layer, over training</h" in page
    assert "do not read the images alike" not in page


def test_a_second_run_has_nothing_to_do(project: Path, first: set[str]) -> None:
    assert ran(dvc(project, "repro")) == set()
    assert git(project, "status", "--porcelain", "--untracked-files=no") == ""


def test_another_clone_makes_what_the_lock_says(project: Path, first: set[str], tmp_path: Path) -> None:
    """Nothing of the hour, the load, the commit or the path goes into an output, nor of what ran side by side."""
    clone = tmp_path / "elsewhere" / "clone"
    git(project, "clone", "--quiet", str(project), str(clone))
    shutil.copytree(project / "data", clone / "data")
    said = domix(clone, "repro")
    assert "held out" in said and "The report: " in said
    assert git(clone, "diff", "HEAD", "--", "dvc.lock", "metrics") == ""
    assert list((clone / ".cache/rates").rglob("cg-high-s0.csv"))


def test_a_clone_without_a_cache_keeps_experiments_and_shows_results(
    project: Path, first: set[str], tmp_path: Path
) -> None:
    """The lock names outputs that no cache has; an experiment up to a stage asks for none of them."""
    clone = tmp_path / "clone"
    git(project, "clone", "--quiet", str(project), str(clone))
    for key in ("name", "email"):
        git(clone, "config", f"user.{key}", "test@localhost")
    shutil.copytree(project / "data", clone / "data")
    assert "balanced_top1" in dvc(clone, "metrics", "show")
    assert (clone / "metrics/plots/accuracy.csv").is_file()
    dvc(clone, "exp", "run", "-n", "kept", "-S", "evaluate.seed=7", "fetch@emoji")
    assert "kept" in dvc(clone, "exp", "list")
    assert "evaluate.seed" in dvc(clone, "exp", "diff", "HEAD", "kept")
    dvc(clone, "checkout", "--allow-missing")


def test_a_report_made_again_at_another_commit_is_the_same(project: Path, first: set[str]) -> None:
    git(project, "commit", "--quiet", "--allow-empty", "--message", "Nothing")
    assert ran(dvc(project, "repro", "-f", "-s", "evaluate", "report")) == {"evaluate", "report"}
    assert git(project, "status", "--porcelain", "--untracked-files=no") == ""
    commit = git(project, "rev-parse", "HEAD")[:12]
    pages = [project / folder / "report/index.html" for folder in ("artifacts", ".cache")]
    assert [commit in page.read_text(encoding="utf-8") for page in pages] == [False, True]


def test_an_edit_reruns_the_stages_that_use_it(project: Path, first: set[str]) -> None:
    edits = {"src/domix/report/tables/words.py": "\n_NEW = 1\n", "src/domix/train/fit.py": "\n# A comment.\n"}
    before = {name: (project / name).read_text(encoding="utf-8") for name in edits}
    try:
        for name, text in edits.items():
            (project / name).write_text(before[name] + text, encoding="utf-8")
        assert ran(dvc(project, "repro")) == {"code", "report"}
    finally:
        for name, text in before.items():
            (project / name).write_text(text, encoding="utf-8")
        git(project, "checkout", "--", "dvc.lock")
        dvc(project, "checkout", "--force")
    assert ran(dvc(project, "repro")) == set()


def test_another_test_domain_reruns_only_what_depends_on_it(project: Path, first: set[str]) -> None:
    before = results(project)
    again = ran(dvc(project, "exp", "run", "-n", "clipart", "-S", "test_domain=clipart"))
    try:
        analyses = {"evaluate", "report", *(f"analyse@{name}" for name in ANALYSES)}
        stages = ("train", "embed", "train_supervised", "embed_supervised")
        trained = {f"{stage}@cg-high-0" for stage in stages}
        assert again == {"mixtures"} | trained | analyses
        after = results(project)
        assert after["test_domain"] == "clipart"
        changed = dvc(project, "metrics", "diff", "HEAD", "--md")
        assert all((f"| {name} " in changed) == (before[name] != value) for name, value in after.items())
        assert "clipart" in dvc(project, "exp", "show", "--csv")
    finally:
        git(project, "checkout", "--", ".")
        dvc(project, "checkout")
    assert ran(dvc(project, "repro")) == set()


def test_a_mistake_in_params_is_one_sentence_and_changes_nothing(project: Path, first: set[str]) -> None:
    before = (project / "params.yaml").read_text(encoding="utf-8")
    made = results(project)
    (project / "params.yaml").write_text(before.replace("test_domain: sketch", "test_domain: sketsh"), encoding="utf-8")
    try:
        printed = dvc(project, "repro", code=-1)
        assert "did you mean 'sketch'?" in printed
        assert "Traceback" not in printed
        assert results(project) == made
    finally:
        (project / "params.yaml").write_text(before, encoding="utf-8")
        dvc(project, "checkout", "--force")
    assert ran(dvc(project, "repro")) == set()


def test_a_damaged_archive_is_named_and_nothing_of_it_is_kept(project: Path, first: set[str]) -> None:
    archive = project / "data" / "sketch.zip"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-20] + bytes(20))
    try:
        printed = dvc(project, "repro", code=-1)
        assert "sketch.zip" in printed and "Traceback" not in printed
        assert not (project / "artifacts" / "raw" / "emoji").exists()
        assert not list((project / "artifacts" / "raw").glob(".*"))
    finally:
        archive.write_bytes(whole)
    dvc(project, "checkout", "--force")
    assert ran(dvc(project, "repro")) == set()


def test_a_busy_lock_is_explained(project: Path, first: set[str]) -> None:
    """DVC refuses a second writer by itself; the exit code must say so."""
    holder = (
        "import time; from dvc.repo import Repo; repo = Repo('.');\n"
        "with repo.lock: print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder], cwd=project, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert "lock" in dvc(project, "repro", code=-1)
    finally:
        process.kill()
        process.communicate()
