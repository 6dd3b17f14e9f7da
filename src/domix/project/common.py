"""What stages and commands share: reading params.yaml, one sentence for a user's mistake, exit codes, provenance.

A stage is a function `main(params, *arguments)`, started from the repository root with `python -m stages.<name>`.
Stages and commands end with:
    exit code 0   done
    exit code 2   something the user can mend; the last line on stderr says what
    exit code 75  cut short; running it again continues
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from domix.project.remedies import sentence
from domix.project.signals import CUT_SHORT, SIGNALS, heeded
from domix.runs import CLIP, Run, list_runs
from domix.runtime.errors import DataError, DomixError, Interrupted, ParameterError
from domix.runtime.files import read_text, write_json
from domix.settings.load import load
from domix.settings.params import Params

ARTIFACTS = Path("artifacts")
SETS = ARTIFACTS / "shards" / "sets"  # packed sources that only evaluation reads (embed.sets)
SUMMARY = ARTIFACTS / "mixtures" / "summary.json"  # what the study asks: domix.study.read_study
STATE = Path(".cache")  # what must survive between runs and is no stage's output: resume state, stage times
RATES = STATE / "rates"  # how fast trainings went: <kind>/<run>.csv
RUN_PAGE = STATE / "report" / "index.html"  # the report's page, with what tells of the run that made it
SWEEPS = STATE / "sweep"  # copies of the repository in which a sweep runs
COPIES = (Path(".dvc/tmp/exps"), SWEEPS)
USER_ERROR = 2


def run(main: Callable[..., None], *, timed: bool = True) -> None:
    """Run a stage's `main` with the parameters and the command line's arguments, and exit as the module says.

    How long it took is kept for the report, unless it made nothing of the pipeline's (`timed`), or raises SystemExit.
    """
    name = Path(sys.argv[0]).stem
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(usage(name, main))
        sys.exit(0)
    started = time.perf_counter()
    with reporting(name):
        arguments = read_arguments(name, main, sys.argv[1:])
        main(load_params(), *arguments)
    if timed:
        _record_time(name, arguments, time.perf_counter() - started)


@contextmanager
def reporting(name: str) -> Generator[None]:
    """Do a stage's or a command's work: what goes wrong is told on stderr after its `name`, and sets the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.captureWarnings(True)
    previous = {number: signal.signal(number, _terminate) for number in SIGNALS}
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        previous[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except Interrupted as error:
        _fail(name, error, CUT_SHORT)
    except DomixError as error:
        _fail(name, error, USER_ERROR)
    except KeyboardInterrupt:
        _fail(name, Interrupted("interrupted; run it again to continue"), CUT_SHORT)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def usage(name: str, main: Callable[..., None]) -> str:
    """Say in one line how a stage is started: what its `main` takes after the parameters."""
    _, *own = inspect.signature(main).parameters.values()
    words = [f"<{each.name}>" if each.default is each.empty else f"[<{each.name}>]" for each in own]
    return " ".join(["usage: python -m", f"stages.{name}", *words])


def read_arguments(name: str, main: Callable[..., None], words: list[str]) -> list[str]:
    """Return what a stage's `main` takes after the parameters: the words, or, as DVC writes an item, `--<name> <word>`.

    Raises:
        ParameterError: they are too few or too many.
    """
    _, *own = inspect.signature(main).parameters
    arguments = words[1::2] if words[::2] == [f"--{each}" for each in own] else words
    try:
        inspect.signature(main).bind(None, *arguments)
    except TypeError:
        raise ParameterError(usage(name, main)) from None
    return arguments


def _terminate(number: int, frame: object) -> None:
    """Unwind, so that temporary files are removed on the way out."""
    raise Interrupted(heeded(number))


def _fail(name: str, error: Exception, code: int) -> None:
    print(f"{name}: {sentence(error)}", file=sys.stderr)
    sys.exit(code)


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read params.yaml from the working directory."""
    if not path.exists():
        raise ParameterError(f"{path} is missing here ({Path.cwd()}): run this from the repository root")
    try:
        return load(read_text(path, mend="save it as UTF-8"))
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error
    except DataError as error:
        raise ParameterError(str(error)) from error


def run_name(mixture: str, seed: int | str) -> str:
    """Return the folder name of one run, as a stage's arguments name it."""
    try:
        return Run(CLIP, mixture, int(seed)).name
    except ValueError:
        raise ParameterError(f"the seed {seed!r} is no whole number: name a mixture and a seed") from None


def runs_of(params: Params) -> tuple[Run, ...]:
    """List every run that the parameters ask for: trained here with either objective, and public models."""
    return list_runs(params.mixtures, params.seeds, supervised=params.supervised.mixtures, public=list(params.models))


def original_root() -> Path:
    """Return the root of the repository that the user works in.

    `dvc exp run --temp` and `--queue` run stages in a copy below `.dvc/tmp/exps`, a sweep in copies below
    `.cache/sweep`; what outlives a copy (resume state, downloads, the tracking database) belongs to the repository that
    it was made from.
    """
    here = str(Path.cwd().resolve())
    for copies in COPIES:
        here = here.partition(f"{os.sep}{copies}{os.sep}")[0]
    return Path(here)


def source_root(params: Params, name: str) -> Path:
    """Return the folder that holds a source's files: fetch.paths.<name>, or the one that they are downloaded into.

    A relative path that the working directory lacks is meant from the user's repository (see `original_root`).
    """
    if name not in params.fetch.paths:
        return original_root() / STATE / "downloads" / name
    path = Path(params.fetch.paths[name]).expanduser()
    return path if path.exists() or not (original_root() / path).exists() else original_root() / path


@contextmanager
def naming_files(params: Params, name: str, raw: Path) -> Generator[None]:
    """Add to what is said of a source's files whose they are, and how they are brought again.

    Args:
        params: of the study.
        name: of the source.
        raw: the folder in which fetch lists its files.

    Raises:
        DataError: the block did.
    """
    try:
        yield
    except DataError as error:
        root = source_root(params, name)
        own = f"these files are yours: fetch.paths.{name} is {root}"
        fetched = f"delete what is damaged in {root} and run dvc repro -f fetch@{name} to download it again"
        if error.argument == "root" and name in params.fetch.paths:
            error.prefixed(f"fetch.paths.{name}")
        elif error.argument == "root":
            error.remake = raw
        elif error.remake is None:  # else it is a file of the pipeline's own
            error.args = (f"{error} ({own if name in params.fetch.paths else fetched})",)
        raise


def _record_time(name: str, arguments: list[str], seconds: float) -> None:
    """Keep how long a stage took, and at which commit: its outputs say neither, lest they differ between equal runs."""
    commit, dirty = git_state()
    record = {"stage": name, "arguments": arguments, "seconds": round(seconds, 1)}
    path = STATE / "times" / f"{'_'.join([name, *arguments])}.json"
    write_json(path, record | {"git_commit": commit, "git_dirty": dirty})


def stage_times() -> dict[str, float]:
    """Return the seconds that each stage instance took when it last ran here, by `stage arguments`."""
    times = {}
    for path in sorted((STATE / "times").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        times[" ".join([record["stage"], *record["arguments"]])] = record["seconds"]
    return times


def git_state() -> tuple[str | None, bool]:
    """Return the commit that is checked out, and whether tracked files differ from it; (None, False) outside Git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit, bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, False


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


PACKAGES = ("domix", "torch", "torchvision", "open_clip_torch", "lightning", "dvc", "mlflow", "numpy", "umap-learn")


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide about results."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def provenance() -> dict[str, Any]:
    """Describe this run: commit, experiment, machine."""
    commit, dirty = git_state()
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "experiment": os.environ.get("DVC_EXP_NAME"),
        "machine": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
