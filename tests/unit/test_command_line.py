"""`domix`: its commands, help without delay, one sentence for a mistake, exit codes; and how stages are started."""

from __future__ import annotations

import inspect
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML
from typer.testing import CliRunner

from domix.cli import app as command_line
from domix.cli.app import app
from domix.cli.bench import WHAT
from domix.cli.options import mixtures_here
from domix.project.common import read_arguments, usage
from domix.runtime.errors import ParameterError
from stages import captions, embed, embed_supervised, fetch, fetch_set, pack, pack_set, report, train, train_supervised
from tests.commands import domix

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
HEAVY = ("torch", "pandas", "numpy", "mlflow", "lightning", "matplotlib", "scipy")


def start(*arguments: str, folder: Path = ROOT, module: str = "domix") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = (sys.executable, "-m", module, *arguments)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_names_may_hold_commas_in_quotes() -> None:
    assert command_line.names('cg-low, "a, b",cg-low,,c') == ("cg-low", "a, b", "c")


def test_help_names_every_command_with_a_whole_sentence() -> None:
    shown = CliRunner().invoke(app, ["--help"], prog_name="domix").output
    for name in COMMANDS:
        (line,) = [line for line in shown.splitlines() if line.startswith(f"  {name} ")]
        assert line.endswith(".") and not line.endswith("..."), line
    assert {"export", "sweep", "study", "compare", "evaluate-model", "plan", "bench", "effective"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_documents_its_options(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], prog_name="domix")
    assert shown.exit_code == 0 and f"Usage: domix {name}" in shown.output


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys, domix.cli.app; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_without_arguments_it_shows_its_help() -> None:
    done = start()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: domix ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("exprot",), "exprot: No such command 'exprot'"),
        (("export", "cg-high"), "export: Missing argument"),
        (("export", "cg-high", "csv", "out"), "'csv' is not one of 'tsv', 'webdataset', 'parquet'"),
        (("compare", "main", "mine", "--outt", "x"), "--outt"),
        (("sweep", "--seeds", "1,b"), "--seeds"),
        (
            ("bench", "everything"),
            "bench 'everything', but circuits, data, embed, evaluate, mechanisms, ood, probe, signature, study, train",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_ends_with_2(arguments: tuple[str, ...], says: str) -> None:
    done = start(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_outside_a_project_commands_say_where_to_go(tmp_path: Path) -> None:
    done = start("mixtures", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"mixtures: params.yaml is missing here ({tmp_path}): run this from the repository root\n"


def test_a_bench_needs_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=r"has no tools/bench_data\.py: run this in the root of a clone"):
        domix(None, "bench", "data")
    assert all((ROOT / f"tools/bench_{name}.py").exists() for name in WHAT)


def test_it_is_installed_under_its_name() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert declared["project"]["scripts"] == {"domix": "domix.cli.app:main"}


def test_a_stage_says_in_one_line_how_it_is_started() -> None:
    assert usage("train", train.main) == "usage: python -m stages.train <mixture> <seed>"
    assert usage("report", report.main) == "usage: python -m stages.report [<folder>]"


@pytest.mark.parametrize("arguments", [(), ("cg-high",), ("cg-high", "0", "more")])
def test_a_stage_with_other_arguments_is_not_started(arguments: tuple[str, ...]) -> None:
    done = start(*arguments, module="stages.train")
    assert done.returncode == 2
    assert done.stderr == "train: usage: python -m stages.train <mixture> <seed>\n"


@pytest.mark.parametrize(
    "mixture",
    [
        "cg-low+Real World",
        "cg-low+R&B",
        "cg-low+L'Art",
        'a "b"',
        "$HOME",
        "`id`",
        "a;b|c",
        "(x)",
        "-x",
        " x ",
        "{é}",
    ],
)
def test_dvc_gives_a_stage_the_names_of_its_item_whole(tmp_path: Path, mixture: str) -> None:
    tree = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    tree |= {"mixtures": ["natural-only", mixture], "sources": ["emoji", mixture], "seeds": [7]}
    tree["supervised"]["mixtures"], tree["embed"]["sets"] = [mixture], [mixture]
    YAML(typ="safe", pure=True).dump(tree, tmp_path / "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    stages = {stage.name: stage.cmd for stage in Repo.init(str(tmp_path), no_scm=True).index.stages}
    run, source = [mixture, "7"], [mixture]
    mains = {"train": train.main, "train_supervised": train_supervised.main, "embed": embed.main}
    mains |= {"embed_supervised": embed_supervised.main, "fetch": fetch.main, "pack": pack.main}
    mains |= {"fetch_set": fetch_set.main, "pack_set": pack_set.main, "captions": captions.main}
    for name, main in mains.items():
        own = run if "mixture" in inspect.signature(main).parameters else source
        words = shlex.split(stages[f"{name}@{'-'.join(own)}"])
        assert words[:3] == ["python", "-m", f"stages.{name}"]
        assert read_arguments(name, main, words[3:]) == own


def test_a_stage_tells_its_usage_when_asked() -> None:
    done = start("--help", module="stages.mixtures")
    assert (done.returncode, done.stdout) == (0, "usage: python -m stages.mixtures\n")


def test_the_shell_completes_mixtures_where_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert mixtures_here("cg-") == ["cg-low", "cg-high", "cg-high-all"]
    monkeypatch.chdir(tmp_path)
    assert mixtures_here("cg-") == []


def test_the_shell_is_told_the_commands() -> None:
    asked = {"_DOMIX_COMPLETE": "complete_bash", "COMP_WORDS": "domix ex", "COMP_CWORD": "1"}
    environment = os.environ | asked | {"PYTHONPATH": str(ROOT / "src")}
    code = "from domix.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["export", "export-results"]


def test_an_interrupted_command_ends_as_one_that_can_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("domix.cli.bench.main", interrupted)
    monkeypatch.setattr(sys, "argv", ["domix", "bench", "data"])
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    assert caught.value.code == 75
    assert capsys.readouterr().err == "bench: interrupted; run it again to continue\n"
