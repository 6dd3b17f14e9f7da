"""What a user is told to run, from what the library says must be made anew: checked against DVC's own reading."""

from __future__ import annotations

import ast
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from dvc.repo import Repo

from domix.project.remedies import sentence, stage_of
from domix.runtime.errors import DataError, DomixError, ParameterError, passing
from domix.runtime.files import read_json
from tests.commands import PIPELINE, told

ROOT = PIPELINE.parent
PARAMS = """
sources: [emoji, imagenet-sketch, cc3m]
mixtures: [natural-only, cg-low, cg-high-all, natural-only+sketches]
seeds: [0, 12]
supervised: {mixtures: [cg-low]}
embed: {sets: [imagenet-v2, imagenet-sketch]}
models: {openai: {weights: openai, architecture: RN50}, a-s1: {weights: b.pt, architecture: RN50}}
analyses: {separation: {}, cka: {}, leakage: {}}
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def made(path: str) -> Path:
    """Return a path that is there."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch()
    return Path(path)


def test_every_output_of_every_stage_is_known_by_the_name_that_dvc_takes(tmp_path: Path) -> None:
    Repo.init(str(tmp_path), no_scm=True).close()
    shutil.copy(PIPELINE, tmp_path)
    Path("params.yaml").write_text(PARAMS)
    with Repo(str(tmp_path)) as repo:
        stages = [stage for stage in repo.index.stages if stage.cmd]
        found = {out.def_path: stage.addressing for stage in stages for out in stage.outs if not out.is_metric}
    assert {name.partition("@")[0] for name in found.values()} == {path.stem for path in stage_files()}
    assert {path: stage_of(path, PIPELINE) for path in found} == found
    assert {path: stage_of(f"{path}/some/file", PIPELINE) for path in found} == found


def stage_files() -> list[Path]:
    return [path for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__"]


@pytest.mark.parametrize(
    ("place", "stage"),
    [
        ("artifacts/shards/sets", "pack_set"),
        ("artifacts/embeddings/clip", "embed"),
        ("artifacts/captions", "captions"),
        ("artifacts/shards", ""),
        ("artifacts/embeddings", ""),
        ("artifacts", ""),
        ("artifacts/study", None),
        ("metrics", "report"),
        ("../artifacts/eval", None),
        ("data", None),
    ],
)
def test_a_folder_of_outputs_is_its_stages(place: str, stage: str | None) -> None:
    assert stage_of(place, PIPELINE) == stage


def test_without_a_pipeline_there_is_nothing_to_run() -> None:
    error = DataError("artifacts/eval is missing", remake=Path("artifacts/eval"))
    assert sentence(error) == "artifacts/eval is missing"
    shutil.copy(PIPELINE, "dvc.yaml")
    assert sentence(error) == "artifacts/eval is missing: run dvc repro evaluate"


def test_what_is_missing_is_made_and_what_is_there_is_deleted_first() -> None:
    path = Path("artifacts/models/clip/cg-low-s0/config.json")
    error = DataError(f"{path} is missing", remake=path)
    assert told(error) == f"{path} is missing: run dvc repro train@cg-low-0"
    error = DataError(f"{made(str(path))} is damaged", remake=path)
    assert told(error) == f"{path} is damaged: delete it and run dvc repro train@cg-low-0"
    error = DataError(f"the weights {path} are damaged", remake=path)
    assert told(error) == f"the weights {path} are damaged: delete {path} and run dvc repro train@cg-low-0"
    error = DataError(f"{path}: it is damaged", remake=path.parent)
    assert told(error) == f"{path}: it is damaged; delete {path.parent} and run dvc repro train@cg-low-0"


def test_an_absolute_path_is_known_too(tmp_path: Path) -> None:
    error = DataError("the index holds no samples", remake=tmp_path / made("artifacts/shards/emoji/index.parquet"))
    assert told(error).endswith(": delete artifacts/shards/emoji/index.parquet and run dvc repro pack@emoji")


def test_of_another_repository_it_is_told_which(tmp_path: Path) -> None:
    other = tmp_path / ".cache" / "sweep" / "made"
    other.mkdir(parents=True)
    shutil.copy(PIPELINE, other)
    error = DataError("sweep made: a table is missing", remake=other / "artifacts/eval/curves.parquet")
    assert sentence(error) == "sweep made: a table is missing; run dvc repro evaluate in .cache/sweep/made"


@pytest.mark.parametrize("stage", ["fetch@emoji", "fetch_set@imagenet"])
def test_a_fetch_is_forced_for_dvc_does_not_see_its_files(stage: str) -> None:
    folder = Path("artifacts/raw") / stage.replace("fetch@", "").replace("fetch_set@", "sets/")
    error = DataError("x.zip is no longer there", remake=folder)
    assert told(error) == f"x.zip is no longer there: run dvc repro {stage}"
    made(str(folder / "files.json"))
    assert told(error) == f"x.zip is no longer there: run dvc repro -f -s {stage}"


def test_what_dvc_only_tracks_is_checked_out() -> None:
    made("data.dvc")
    error = DataError("data/manifest.json is missing", remake=Path("data/manifest.json"))
    assert told(error) == "data/manifest.json is missing: run dvc checkout data"


def test_what_may_be_deleted_at_any_time_is_deleted() -> None:
    error = DataError("the states do not fit", remake=made(".cache/resume/0f/state.json"))
    assert told(error) == "the states do not fit: delete .cache/resume/0f/state.json and run again"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        ParameterError("no"),
        DataError("no"),
        DataError("no", remake=Path("/elsewhere/artifacts/eval")),
    ],
)
def test_other_errors_are_told_as_they_are(error: Exception) -> None:
    assert told(error) == "no"


def test_the_path_and_the_argument_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(DataError("no", remake=Path("a"), argument="b").prefixed("here")))  # noqa: S301
    assert (str(error), error.remake, error.argument) == ("here: no", Path("a"), "b")
    with ProcessPoolExecutor(1) as pool, pytest.raises(DataError, match="is missing") as caught:
        pool.submit(read_json, Path("artifacts/mixtures/summary.json")).result()
    assert told(caught.value) == "artifacts/mixtures/summary.json is missing: run dvc repro mixtures"


def test_who_passes_an_argument_says_what_it_is() -> None:
    with pytest.raises(ParameterError, match=r"^model\.name: no such model$"), passing(name="model.name", other="x"):
        raise ParameterError("no such model", argument="name")
    with pytest.raises(DataError, match=r"^empty$") as caught, passing(index=Path("a")):
        raise DataError("empty", argument="index")
    assert caught.value.remake == Path("a")
    for error in (DataError("no", argument="other"), DataError("no", remake=Path("b")), DomixError("no")):
        with pytest.raises(DomixError, match=r"^no$") as kept, passing(index=Path("a"), name="key"):
            raise error
        assert vars(kept.value) == vars(error)


def test_an_argument_is_named_once_by_the_nearest_who_passes_it() -> None:
    with pytest.raises(ParameterError, match=r"^inner: no$"), passing(name="outer"), passing(name="inner"):
        raise ParameterError("no", argument="name")


def strings(path: Path) -> list[str]:
    """Return the string literals of a module but docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, owners)]
    docs = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


def library() -> list[Path]:
    """Return the modules that know nothing of the pipeline: all but commands and project."""
    home = ROOT / "src" / "domix"
    return [path for path in home.rglob("*.py") if path.relative_to(home).parts[0] not in ("cli", "project")]


def test_the_library_does_not_speak_of_dvc() -> None:
    assert [(path.name, text) for path in library() for text in strings(path) if "dvc " in text] == []


def test_strings_are_found_and_docstrings_are_not(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text('"""dvc a"""\ndef f(y):\n    """dvc b"""\n    raise E(f"{y}: run dvc c")\n')
    assert strings(path) == [": run dvc c"]
