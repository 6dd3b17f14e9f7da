"""Analyses are found by their folders, and one that is declared amiss is named in a sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from domix.analyses import registry, runner
from domix.analyses.contract import AnalysisResults, Section, Shared, StudyInputs, Subsection
from domix.analyses.results import read_findings
from domix.runtime.errors import DataError, DomixError, ParameterError
from domix.runtime.kept import Kept
from domix.study import Run, Study

PACKAGE = "made_up_analyses"
DECLARATION = """from domix.analyses.contract import Analysis
from domix.runtime.settings import Settings
from domix.runtime.tables import Column, TableSchema

TABLE = TableSchema("sizes", (Column("domain", "str", "domain"), Column("n", "int64", "images")), "sizes")
ANALYSIS = Analysis(
    name={name!r}, package=__name__, Settings={settings}, needs="embeddings",
    tables={{"sizes": TABLE}}, plots={{"sizes": TABLE}},
)
"""
COMPUTATION = """import pandas as pd

def run(inputs, settings):
    return {"sizes": pd.DataFrame({"domain": ["real"], "n": [3]})}
"""
SECTION = """from domix.analyses.contract import Section

def section(results, study):
    return Section("Sizes", (), plots={"sizes": results.tables["sizes"]})
"""
STUDY = Study("sketch", "real", ("cat",), ("real", "sketch"), ("cat", "dog"), (Run("clip", "cg-high", 0),))
SHARED = Shared(confidence=0.95, near_bits=6, drop="none", batch=8)
Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes an analysis into a package of its own."""
    home = tmp_path / PACKAGE
    home.mkdir()
    (home / "__init__.py").write_text('"""Made up."""\n', encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [module for module in sys.modules if module.split(".")[0] == PACKAGE]:
        monkeypatch.delitem(sys.modules, name)
    registry.analyses.cache_clear()

    def write(folder: str, *, name: str | None = None, given: str = "Settings", **files: str) -> None:
        (home / folder).mkdir()
        texts = {"__init__": DECLARATION.format(name=name or folder, settings=given)}
        texts |= {"computation": COMPUTATION, "section": SECTION} | files
        for file, text in texts.items():
            (home / folder / f"{file}.py").write_text(text, encoding="utf-8")

    yield write
    registry.analyses.cache_clear()


def results(**tables: pd.DataFrame) -> AnalysisResults:
    return AnalysisResults(tables, {}, None, SHARED, None)  # ty: ignore[invalid-argument-type]


def test_the_shipped_analyses_are_found() -> None:
    found = registry.analyses()
    assert set(found) >= {"cka", "leakage", "separation"}
    assert all(name == analysis.name for name, analysis in found.items())


def test_listing_the_analyses_imports_neither_torch_nor_what_they_compute_with() -> None:
    code = """import sys
from domix.analyses.registry import analyses
assert len(analyses()) >= 3
heavy = {"torch", "open_clip", "umap", "sklearn", "scipy", "matplotlib"}
loaded = {m for m in sys.modules if m.startswith("domix.") and m.endswith((".computation", ".section"))}
sys.exit(", ".join(heavy & set(sys.modules) | loaded) or 0)"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_analyses_that_need_embeddings_alone_import_no_torch() -> None:
    code = """import importlib, sys
from domix.analyses.registry import analyses
light = [analysis for analysis in analyses().values() if analysis.needs == "embeddings"]
assert len(light) >= 2
for analysis in light:
    importlib.import_module(analysis.computation)
sys.exit(", ".join({"torch", "open_clip", "torchvision"} & set(sys.modules)) or 0)"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_table_of_a_shipped_analysis_says_where_it_lies_and_who_writes_it() -> None:
    for name, analysis in registry.analyses().items():
        for schema in analysis.written():
            assert schema.path == f"artifacts/analysis/{name}/{schema.name}.parquet" and schema.meaning
            assert schema.written_by == f"analyse@{name}" and all(column.meaning for column in schema.columns)


def test_an_analysis_of_ones_own_runs(write: Write) -> None:
    write("sizes")
    analysis = registry.find("sizes", PACKAGE)
    tables = analysis.run(None, None)  # ty: ignore[invalid-argument-type]
    assert tables["sizes"]["n"].tolist() == [3]
    assert analysis.section(results(**tables), STUDY).title == "Sizes"


def test_a_folder_that_is_no_analysis_is_named(write: Write) -> None:
    write("odds", __init__='"""Odds and ends."""\n')
    with pytest.raises(DomixError, match=r"\.odds is no analysis: its __init__\.py must declare ANALYSIS"):
        registry.analyses(PACKAGE)


def test_a_folder_that_git_left_behind_is_none(write: Write, tmp_path: Path) -> None:
    write("sizes")
    (tmp_path / PACKAGE / "gone" / "__pycache__").mkdir(parents=True)
    assert list(registry.analyses(PACKAGE)) == ["sizes"]


@pytest.mark.parametrize("part", ["computation", "section"])
def test_a_missing_part_is_named(write: Write, tmp_path: Path, part: str) -> None:
    write("sizes")
    (tmp_path / PACKAGE / "sizes" / f"{part}.py").unlink()
    with pytest.raises(DomixError, match=rf"the analysis sizes has no {part}\.py: add it to made_up_analyses\.sizes"):
        registry.analyses(PACKAGE)


def test_two_analyses_of_one_name_are_named(write: Write) -> None:
    write("first", name="first")
    write("second", name="first")
    with pytest.raises(DomixError, match=r"two analyses are called 'first', in first and second: rename one"):
        registry.analyses(PACKAGE)


def test_an_analysis_is_called_as_its_folder(write: Write) -> None:
    write("sizes", name="size")
    with pytest.raises(DomixError, match=r"in the folder sizes calls itself 'size': name it as its folder"):
        registry.analyses(PACKAGE)


def test_an_analysis_without_settings_is_named(write: Write) -> None:
    write("sizes", given="None")
    with pytest.raises(DomixError, match=r"the analysis sizes has no settings: declare Settings"):
        registry.analyses(PACKAGE)


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("least: int", "the setting least of the analysis sizes has no default: give it one"),
        ("least: int = 3", "the setting least of the analysis sizes has no description: say what it means"),
    ],
)
def test_a_setting_has_a_default_and_a_meaning(write: Write, field: str, says: str) -> None:
    own = f"class Own(Settings):\n    {field}\n\nANALYSIS"
    declaration = DECLARATION.format(name="sizes", settings="Own").replace("ANALYSIS", own)
    write("sizes", __init__=declaration)
    with pytest.raises(DomixError, match=says):
        registry.analyses(PACKAGE)


def test_an_analysis_that_does_not_exist_is_answered_with_the_nearest(write: Write) -> None:
    write("sizes")
    with pytest.raises(ParameterError, match=r"analyses\.size: there is no analysis size: did you mean sizes\?"):
        registry.read_settings({"size": {}}, PACKAGE)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('{"other": frame, "sizes": frame}', "the analysis sizes gives the table 'other', which it does not declare"),
        ("{}", "the analysis sizes declares the table 'sizes', but does not give it"),
        ('{"sizes": frame.drop(columns="n")}', "the table sizes of the analysis sizes has .* 'n'"),
        ('{"sizes": frame.assign(n="many")}', "the table sizes of the analysis sizes has .* 'n'"),
        (
            '{"sizes": frame.assign(more=1)}',
            "the table sizes of the analysis sizes has a column 'more' that the table sizes does not declare",
        ),
    ],
)
def test_a_table_that_is_not_as_declared_is_named(write: Write, table: str, says: str) -> None:
    text = COMPUTATION.replace('{"sizes": pd.DataFrame({"domain": ["real"], "n": [3]})}', table)
    frame = 'def run(inputs, settings):\n    frame = pd.DataFrame({"domain": ["real"], "n": [3]})'
    write("sizes", computation=text.replace("def run(inputs, settings):", frame))
    with pytest.raises(DataError, match=says) as caught:
        registry.find("sizes", PACKAGE).run(None, None)  # ty: ignore[invalid-argument-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("None", "the section of the analysis sizes is NoneType, no Section: mend made_up_analyses.sizes"),
        ('Section("Sizes", ())', "the section of the analysis sizes declares the table 'sizes', but does not give it"),
        (
            'Section("Sizes", (), plots={"n": results.tables["sizes"]})',
            "gives the table 'n', which it does not declare",
        ),
    ],
)
def test_a_section_that_is_not_as_declared_is_named(write: Write, section: str, says: str) -> None:
    write("sizes", section=SECTION.replace('Section("Sizes", (), plots={"sizes": results.tables["sizes"]})', section))
    frame = pd.DataFrame({"domain": ["real"], "n": [3]})
    with pytest.raises(DataError, match=says):
        registry.find("sizes", PACKAGE).section(results(sizes=frame), STUDY)


def test_a_part_without_figures_is_a_part() -> None:
    assert Section("Title", (Subsection("Head", "Text."),)).parts[0].figures == {}


CHOOSING = """from pydantic import Field
from domix.runtime.settings import Settings as Base

class Settings(Base):
    mixtures: list[str] | None = Field(None, description="which")
"""


@pytest.mark.parametrize(
    ("wanted", "found"),
    [(None, ["cg-high", "cg-low"]), (["cg-low", "another"], ["cg-low"]), (["another"], [])],
)
def test_settings_may_choose_mixtures(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: list[str] | None, found: list[str]
) -> None:
    monkeypatch.setattr(runner, "code_digest", lambda name: name)  # which knows domix' own modules alone
    declaration = DECLARATION.replace("from domix.runtime.settings", f"from {PACKAGE}.some.settings")
    write("some", __init__=declaration.format(name="some", settings="Settings"), settings=CHOOSING)
    analysis = registry.analyses(PACKAGE)["some"]
    runs = (Run("clip", "cg-high", 0), Run("clip", "cg-low", 0))
    study = replace(STUDY, runs=runs, standard_names={run.mixture: run.mixture for run in runs})
    inputs = StudyInputs(study, ("toy",), tmp_path / "artifacts", tmp_path / "cache", SHARED)
    runner.analyse(analysis, analysis.Settings(mixtures=wanted), inputs, tmp_path / "out", Kept(tmp_path / "cache"))
    assert read_findings(analysis, tmp_path / "out", runs).tables["sizes"]["mixture"].tolist() == found
