"""The analyses that read embeddings, separation and cka, as the pipeline runs them."""

from __future__ import annotations

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from domix.analyses import runner
from domix.analyses.cka import computation
from domix.analyses.contract import RunInputs
from domix.analyses.registry import analyses, find
from domix.analyses.separation.settings import Settings
from domix.project.analysing import analyse_run
from domix.project.common import load_params
from domix.runs import Run
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json, write_json
from domix.runtime.settings import replace
from domix.settings.params import Params
from stages import analyse, code
from tests.commands import PIPELINE
from tests.fakes import DOMAINS, make_index, write_embeddings
from tests.tiny import REPOSITORY

INDEX = make_index({name: [1] * 10 for name in DOMAINS}, 3)
CLASSES = [f"class_{k}" for k in range(10)]
RUNS = [("natural-only", 0), ("natural-only", 1), ("cg-low", 0), ("cg-low", 1)]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "src"))),
    "OMP_NUM_THREADS": "1",
}
ANALYSES = "src/domix/analyses/"
TABLES = ("umap", "umap_without", "distances", "separability", "differences", "scatter")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project of two mixtures and two seeds, in which the working directory is."""
    text = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    write_summary(CLASSES)
    for number, (mixture, seed) in enumerate(RUNS):
        folder = Path(f"artifacts/embeddings/clip/{mixture}-s{seed}")
        write_embeddings(folder, INDEX, width=12, seed=number)
    known = load_params()
    few = known.analyses | {"separation": Settings(images=15, neighbours=8)}
    return replace(known, mixtures=["natural-only", "cg-low"], seeds=[0, 1], analyses=few)


def write_summary(classes: list[str]) -> None:
    tree = {"test_domain": "clipart", "natural_domain": "real", "domains": list(DOMAINS), "classes": classes}
    mixtures = [{"name": name, "standard_name": name} for name in dict.fromkeys(name for name, _ in RUNS)]
    write_json(Path("artifacts/mixtures/summary.json"), tree | {"test_classes": classes[:4], "mixtures": mixtures})


def runs_in(table: pd.DataFrame) -> list[tuple[str, int]]:
    assert list(table)[:2] == ["mixture", "seed"]
    return list(table[["mixture", "seed"]].drop_duplicates().itertuples(index=False, name=None))


def test_cka_compares_all_domains_of_all_runs(params: Params) -> None:
    analyse.main(params, "cka")
    table = pd.read_parquet("artifacts/analysis/cka/cka.parquet")
    assert runs_in(table) == RUNS
    assert list(table)[2:] == ["layer", "depth", "kernel", "classes", "domain_a", "domain_b", "n", "value"]
    assert len(table) == 4 * 2 * 2 * 3 * 15
    assert table.groupby("classes")["n"].unique().map(list).to_dict() == {"all": [10], "test": [4], "seen": [6]}
    assert table["value"].between(-1, 1).all()


@pytest.mark.slow
def test_separation_maps_and_measures_all_runs(params: Params) -> None:
    analyse.main(params, "separation")
    tables = {name: pd.read_parquet(f"artifacts/analysis/separation/{name}.parquet") for name in TABLES}
    assert tables.pop("umap_without").empty
    assert all(runs_in(table) == RUNS for table in tables.values())
    umap = tables["umap"]
    assert list(umap) == ["mixture", "seed", "row", "domain", "class", "held_out", "x", "y"]
    assert len(umap) == 4 * 6 * 15
    expected = (umap["domain"] == "clipart") & umap["class"].isin(CLASSES[:4])
    assert umap["held_out"].equals(expected.rename("held_out"))
    assert umap["held_out"].any()
    assert list(tables["distances"])[2:] == ["kind", "domain_a", "domain_b", "distance"]
    assert len(tables["distances"]) == 4 * 2 * 6 * 6
    assert list(tables["separability"])[2:] == ["domain", "value", "n"]
    assert len(tables["separability"]) == 4 * 6
    assert list(tables["differences"])[2:] == ["domain", "rank", "dimension", "difference"]
    assert len(tables["differences"]) == 4 * 6 * 12
    assert list(tables["scatter"])[2:] == ["separated", "row", "domain", "x", "y"]
    assert len(tables["scatter"]) == 6 * len(umap)


@pytest.mark.slow
def test_separation_maps_without_a_domain_that_is_named(params: Params) -> None:
    few = Settings(images=15, neighbours=8, without="real")
    one = replace(params, mixtures=["cg-low"], seeds=[0], analyses={"separation": few})
    analyse.main(one, "separation")
    second = pd.read_parquet("artifacts/analysis/separation/umap_without.parquet")
    assert sorted(second["domain"].unique()) == sorted(set(DOMAINS) - {"real"}) and len(second) == 5 * 15
    assert second["held_out"].any()


def test_a_domain_to_leave_out_that_does_not_exist_is_named_with_its_parameter(params: Params) -> None:
    one = replace(params, mixtures=["cg-low"], seeds=[0], analyses={"separation": Settings(without="reel")})
    with pytest.raises(
        ParameterError, match=r"^analyses\.separation\.without: there is no domain 'reel': did you mean"
    ):
        analyse.main(one, "separation")


def digests(folder: str) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def write_params(params: Params) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    mixtures, rest = text.split("mixtures:", 1)[1].split("seeds:", 1)
    text = text.replace(mixtures, "\n  - natural-only\n  - cg-low\n").replace("  - 0\n", "  - 0\n  - 1\n", 1)
    text = text.replace("images: 250 ", "images: 15 ", 1).replace("neighbours: 15", "neighbours: 8")
    Path("params.yaml").write_text(text, encoding="utf-8")
    assert rest
    assert load_params() == params


@pytest.mark.parametrize("stage", ["cka", pytest.param("separation", marks=pytest.mark.slow)])
def test_another_process_gives_the_same_bytes_without_torch(params: Params, stage: str) -> None:
    analyse.main(params, stage)
    first = digests(f"artifacts/analysis/{stage}")
    shutil.rmtree("artifacts/analysis")
    shutil.rmtree(".cache/analyses")
    write_params(params)
    code = f"""import runpy, sys
sys.argv = ["analyse", "{stage}"]
runpy.run_module("stages.analyse", run_name="__main__")
sys.exit(", ".join({{"torch", "open_clip", "torchvision"}} & set(sys.modules)) or 0)"""
    finished = run_python("-c", code)
    assert finished.returncode == 0, finished.stderr
    assert digests(f"artifacts/analysis/{stage}") == first


@pytest.mark.parametrize("stage", ["separation", "cka"])
def test_embeddings_of_another_set_are_refused(params: Params, stage: str) -> None:
    write_summary([*CLASSES[:-1], "renamed"])
    with pytest.raises(DataError, match="natural-only-s0 was made from other classes or domains than the mixtures"):
        analyse.main(params, stage)
    assert not Path("artifacts/analysis").exists()


def test_a_run_without_embeddings_fails_with_one_sentence(params: Params) -> None:
    write_params(params)
    shutil.copy(PIPELINE, "dvc.yaml")
    shutil.rmtree("artifacts/embeddings/clip/cg-low-s1")
    finished = run_python("-m", "stages.analyse", "cka")
    assert finished.returncode == 2
    last = finished.stderr.strip().splitlines()[-1]
    assert last.endswith("cg-low-s1 is missing: run dvc repro embed@cg-low-1")
    assert not Path("artifacts/analysis").exists()


def test_a_summary_without_test_classes_is_named(params: Params) -> None:
    path = Path("artifacts/mixtures/summary.json")
    write_json(path, {key: value for key, value in read_json(path).items() if key != "test_classes"})
    with pytest.raises(DataError, match=r"summary\.json lacks 'test_classes'"):
        analyse.main(params, "cka")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that CKA was computed for, as they are."""
    computed, run = [], computation.run

    def counting(inputs: RunInputs, settings: object) -> dict[str, pd.DataFrame]:
        computed.append(inputs.run.name)
        return run(inputs, settings)

    monkeypatch.setattr(computation, "run", counting)
    return computed


def test_one_more_seed_computes_that_run_alone(params: Params, counted: list[str]) -> None:
    analyse.main(replace(params, seeds=[0]), "cka")
    assert counted == ["natural-only-s0", "cg-low-s0"]
    analyse.main(params, "cka")
    assert counted[2:] == ["natural-only-s1", "cg-low-s1"]
    assert runs_in(pd.read_parquet("artifacts/analysis/cka/cka.parquet")) == RUNS


def test_a_run_that_was_analysed_while_others_trained_is_not_computed_again(params: Params, counted: list[str]) -> None:
    analyse_run(params, "cka", Run("clip", "cg-low", 1))
    assert counted == ["cg-low-s1"]
    assert not Path("artifacts/analysis").exists()
    analyse.main(params, "cka")
    assert counted[1:] == ["natural-only-s0", "natural-only-s1", "cg-low-s0"]
    assert runs_in(pd.read_parquet("artifacts/analysis/cka/cka.parquet")) == RUNS


@pytest.mark.parametrize("kind", ["clip", "supervised"])
def test_the_command_that_analyses_ahead_takes_analysis_kind_mixture_and_seed(
    params: Params, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    kept = []
    monkeypatch.setattr(
        "domix.analyses.runner.keep_run",
        lambda analysis, settings, inputs, run, kept_in: kept.append((analysis.name, settings, run)),
    )
    monkeypatch.setattr("domix.project.common.load_params", lambda: params)
    monkeypatch.setattr(sys, "argv", ["analysing", "outliers", kind, "cg-low", "1"])
    monkeypatch.setenv("GOMP_SPINCOUNT", "1")
    runpy.run_path(str(REPOSITORY / "src/domix/project/analysing.py"), run_name="__main__")
    assert kept == [("outliers", params.analyses["outliers"], Run(kind, "cg-low", 1))]


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (0, 2)])
def test_analyses_compute_with_as_many_threads_as_trainings(
    params: Params, monkeypatch: pytest.MonkeyPatch, asked: int, given: int
) -> None:
    """In their stage as ahead of it, else last digits would hang on which comes first."""
    seen = []
    compute = computation.run

    def watched(inputs: RunInputs, settings: Any) -> Any:
        seen.append((torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")))
        return compute(inputs, settings)

    monkeypatch.setattr(computation, "run", watched)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    params = replace(params, mixtures=["cg-low"], trainer=replace(params.trainer, threads=asked))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        analyse_run(params, "cka", Run("clip", "cg-low", 1))
        analyse.main(params, "cka")
        assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (2, "7")
    finally:
        torch.set_num_threads(before)
    assert seen == [(given, "1" if asked else "7")] * 2


@pytest.mark.parametrize("name", ["circuits", "leakage"])
def test_nothing_is_made_ahead_of_runs_that_are_not_chosen_or_looked_at_together(params: Params, name: str) -> None:
    analyse_run(params, name, Run("clip", "cg-low", 1))
    assert not Path(".cache/analyses").exists()


def test_other_embeddings_settings_or_code_are_computed_again(
    params: Params, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(params, mixtures=["cg-low"], seeds=[0])
    for _ in range(2):
        analyse.main(one, "cka")
    assert len(counted) == 1
    analyse.main(replace(one, analyses={"cka": find("cka").Settings(kernels=["rbf"])}), "cka")
    assert len(counted) == 2
    write_embeddings(Path("artifacts/embeddings/clip/cg-low-s0"), INDEX, width=12, seed=9)
    analyse.main(one, "cka")
    assert len(counted) == 3
    monkeypatch.setattr(runner, "code_digest", lambda *entry_points: "other code")
    analyse.main(one, "cka")
    assert len(counted) == 4
    write_summary_of("sketch")
    analyse.main(one, "cka")
    assert len(counted) == 5


def test_a_study_of_three_classes_has_no_cka(params: Params) -> None:
    index = make_index({name: [1] * 3 for name in DOMAINS}, 3)
    write_summary([f"class_{k}" for k in range(3)])
    write_embeddings(Path("artifacts/embeddings/clip/cg-low-s0"), index, width=12)
    says = (
        "^no two domains have 4 classes in common that cg-low-s0 tells apart, which CKA needs: leave this analysis out$"
    )
    with pytest.raises(DataError, match=says):
        analyse.main(replace(params, mixtures=["cg-low"], seeds=[0]), "cka")


def write_summary_of(test_domain: str) -> None:
    path = Path("artifacts/mixtures/summary.json")
    write_json(path, read_json(path) | {"test_domain": test_domain})


BUILDS_ON = {"sharing": ("sae",), "finetuned": ("pruning", "run_cka")}  # an analysis of what others train or compute


@pytest.mark.parametrize("name", analyses())
def test_an_edit_of_a_section_or_of_another_analysis_computes_nothing(name: str) -> None:
    scripts = dict(code.programs(REPOSITORY))[f"analyse/{name}"]
    used = [path for path in code.digests(code.code_of(REPOSITORY), scripts, REPOSITORY) if path.startswith(ANALYSES)]
    own = [path for path in used if path.count("/") > ANALYSES.count("/")]
    assert {f"{ANALYSES}{name}/computation.py", f"{ANALYSES}{name}/settings.py"} <= set(own)  # defaults count
    assert not any(path.endswith("/section.py") for path in own)
    assert {path.removeprefix(ANALYSES).split("/")[0] for path in own} == {name, *BUILDS_ON.get(name, ())}


def test_an_analysis_without_a_block_says_how_to_ask_for_it(params: Params) -> None:
    with pytest.raises(ParameterError, match=r"the analysis cka has no block in analyses: add `cka: \{\}`"):
        analyse.main(replace(params, analyses={}), "cka")
    with pytest.raises(ParameterError, match=r"there is no analysis ckaa: did you mean cka\?"):
        analyse.main(params, "ckaa")
