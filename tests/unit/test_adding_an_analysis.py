"""The example of docs/adding-an-analysis.md does what the page says, in a copy of the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.fake_report import Fake
from tests.fakes import write_embeddings
from tests.packed_report import write_shards

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/adding-an-analysis.md").read_text(encoding="utf-8")
COPIED = ("src", "stages", "dvc.yaml", "params.yaml", "pyproject.toml")


def blocks() -> dict[str, str]:
    """Return the page's code by the file that the line before it names; of no file, by its language."""
    found = {}
    for before, language, code in re.findall(r"([^\n]*)\n\n```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        named = re.search(r"`([\w/.]+/[\w.]+)`:$", before)
        found[named[1] if named else language] = code
    return found


def run(folder: Path, *command: str) -> str:
    """Run a program in the copy, and return what it printed."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(folder / "src"), str(folder))),
        "DVC_NO_ANALYTICS": "true",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the page's files and block, and the artifacts of a study."""
    folder = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    run(folder, "-m", "dvc", "init", "--quiet")
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    fake = Fake(folder / "artifacts", copies=0, seeds=[0, 1], classes=12, test_classes=6)
    fake.write()
    write_shards(folder / "artifacts/shards/emoji", fake)
    rows = fake.rows.assign(
        split="test", key=fake.rows["row"].map(str), label=fake.rows["class"].map(fake.classes.index)
    )
    for number, (mixture, seed) in enumerate((m, s) for m in fake.mixtures for s in fake.seeds):
        write_embeddings(folder / f"artifacts/embeddings/clip/{mixture}-s{seed}", rows, width=16, seed=number)
    parts = blocks()
    for path, code in parts.items():
        if "/" in path:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(code, encoding="utf-8")
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?ms)^(analyses:\n.*?)(?=^\w)", lambda found: found[1].rstrip() + "\n" + parts["yaml"] + "\n", text)
    text = text.replace("\nseeds:", "\nseeds: [0, 1]\nignored:", 1).replace("enabled: true", "enabled: false")
    text = re.sub(r"(?ms)^ignored:.*?(?=^\w)", "", text).replace("test_domain: infograph", "test_domain: clipart")
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    run(folder, "-m", "stages.analyse", "alignment")
    run(folder, "-m", "stages.report")
    return folder


def test_the_page_names_one_folder_one_block_and_one_test() -> None:
    named = [path for path in blocks() if "/" in path]
    assert {path for path in named if not path.startswith("src/domix/analyses/alignment/")} == {
        "tests/unit/test_alignment.py"
    }
    assert len(named) == 6 and blocks()["yaml"].startswith("  alignment:\n")


def test_the_tables_hold_every_run(project: Path) -> None:
    table = pd.read_parquet(project / "artifacts/analysis/alignment/alignment.parquet")
    assert list(table) == ["mixture", "seed", "domain", "alignment", "uniformity", "n"]
    assert len(table) == 5 * 2 * 6 and table["alignment"].between(0, 4).all() and (table["uniformity"] < 0).all()


def test_the_section_stands_on_the_page(project: Path) -> None:
    text = (project / "artifacts/report/index.html").read_text(encoding="utf-8")
    assert "<h3>How well images and texts are aligned</h3>" in text
    assert text.count('aria-label="Alignment and uniformity of ') == 5


def test_the_numbers_are_in_the_metrics(project: Path) -> None:
    numbers = pd.read_csv(project / "metrics/numbers.csv", index_col="name", keep_default_na=False)["value"].to_dict()
    table = pd.read_parquet(project / "artifacts/analysis/alignment/alignment.parquet")
    mine = table[(table["mixture"] == "cg-high") & (table["domain"] == "clipart")]
    assert float(numbers["alignment.cg-high.alignment"]) == round(mine["alignment"].mean(), 4)
    assert float(numbers["alignment.cg-high.uniformity"]) == round(mine["uniformity"].mean(), 4)


def test_dvc_knows_the_stage_and_shows_the_plot(project: Path) -> None:
    assert "analyse@alignment" in run(project, "-m", "dvc", "stage", "list")
    shown = json.loads(run(project, "-m", "dvc", "plots", "show", "--json"))
    assert "errors" not in shown
    (drawn,) = shown["data"]["metrics/plots/alignment.csv"]
    assert len(json.dumps(drawn)) > 1000


def test_its_test_passes(project: Path) -> None:
    run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_alignment.py")


def test_the_block_is_documented_and_checked(project: Path) -> None:
    code = """from domix.analyses.registry import find, read_settings
from domix.runtime.errors import ParameterError
assert find("alignment").Settings().images == 500
try:
    read_settings({"alignment": {"image": 3}})
except ParameterError as error:
    print(error)"""
    assert "unknown parameter analyses.alignment.image: did you mean analyses.alignment.images?" in run(
        project, "-c", code
    )
    tree = YAML(typ="safe").load((project / "params.yaml").read_text(encoding="utf-8"))
    assert list(tree["analyses"])[-1] == "alignment"


def test_what_the_page_names_is_there() -> None:
    for path in re.findall(r"`((?:src|tests|docs)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists() or "alignment" in path
