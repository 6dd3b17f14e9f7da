"""Measure training: against the most that the machine could do, against open_clip, lever by lever, and its memory.

    python -m tools.bench_train                                            everything (`make bench` does this, too)
    python -m tools.bench_train --only bare,open_clip --model RN50 --batch 16 --steps 5 --turns 1

bare       our training (through `fit`, as the stage does) and a plain loop on one batch in memory, same model
open_clip  our training and open_clip's own trainer on the same images and captions, which it reads from the mixture's
           export: in float32 and, where it is native, in bf16, with several numbers of workers; its best counts
together   a training a core, of one thread each, against one after the other on all cores
levers     what each parameter that makes training faster brings, alone and among all the others
memory     of decoded images, over epochs, and on the GPU

The model `mini` stands for params.yaml as it is, on its largest mixture; any other is one of open_clip's, on images
of the size and the weight of photographs (tools/bench_project.py). By default: on CPUs mini and RN50 with small
batches, on a GPU also ViT-B-32, with large ones. Measurements are repeated in turns, each in a process of its own,
because machines are seldom quiet; told is the median. Everything also goes to build/bench/train.json. Needs the packed
data: `dvc repro mixtures captions`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from domix.data.mixtures.mixture import read_mixture
from domix.project.common import ARTIFACTS, load_params
from domix.project.training import open_run
from domix.runtime.errors import DataError, DomixError, ParameterError
from domix.runtime.files import write_json
from domix.train.cost import throughput
from domix.train.machine import bf16_on_cpu, bf16_on_gpu
from tools import bench_project
from tools.bench_worker import Spec

PARTS = ("bare", "open_clip", "together", "levers", "memory")
OUT = Path("build") / "bench"
OWN = "mini"  # the model name that stands for params.yaml as it is
OURS, BARE = "Domix", "bare loop"
SHARE, RATIO, TOGETHER, OVERHEAD, WAIT = 0.95, 1.5, 1.35, 0.05, 0.03  # targets
RATES = {"RN50": 2900, "ViT-B-32": 5500}  # samples/s: targets on one H200

# What makes training faster, each with its plain and its fast value, and what it needs.
LEVERS: dict[str, tuple[Any, Any]] = {
    "trainer.precision": ("32", "bf16"),
    "trainer.tf32": (False, True),
    "trainer.channels_last": (False, True),
    "trainer.compile": (False, True),
    "trainer.fused": (False, True),
    "train.context": ("full", "trim"),
    "trainer.pin_memory": (False, True),
    "trainer.deterministic": (True, False),
}
GPU_ALONE = ("trainer.tf32", "trainer.pin_memory", "trainer.deterministic")  # which change nothing on CPUs
# What costs time and saves memory, measured with all levers on.
PRICES: dict[str, dict[str, Any]] = {
    "grad_checkpointing": {"trainer.grad_checkpointing": True},
    "accumulate 2": {"train.accumulate": 2},
    "loader cache": {"trainer.loader": "cache"},
    "loader shards": {"trainer.loader": "shards"},
}
# Parameters with which models other than params.yaml's are measured.
FAST = {"trainer.precision": "auto", "trainer.channels_last": True, "trainer.fused": True, "trainer.compile": False}
FAST |= {"trainer.deterministic": False, "trainer.pin_memory": True, "trainer.loader": "auto", "train.context": "trim"}


@dataclass(frozen=True)
class Bench:
    """A model and its data, for all parts."""

    model: str
    spec: Spec


# -- measuring


def start(spec: Spec) -> dict[str, Any]:
    """Measure in a process of its own; what fails is told by the last line of its error."""
    root = str(Path.cwd())
    environment = os.environ | {"PYTHONPATH": root, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tools.bench_worker", json.dumps(asdict(spec))]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else f"exit code {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def in_turns(specs: dict[str, Spec], turns: int) -> dict[str, dict[str, Any]]:
    """Measure each so many times, one after the other in each turn; return medians, and all `rates`, by name."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in specs}
    for turn in range(turns):
        for name, spec in specs.items():
            if any("error" in result for result in found[name]):
                continue
            print(f"\r\033[K  turn {turn + 1} of {turns}: {name}", end="", file=sys.stderr, flush=True)
            found[name].append(start(spec))
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    return {name: _medians(results) for name, results in found.items()}


def _medians(results: list[dict[str, Any]]) -> dict[str, Any]:
    if failed := [result for result in results if "error" in result]:
        return failed[0]
    rates = {"rates": [result["samples_per_s"] for result in results]} if "samples_per_s" in results[0] else {}
    return {key: median(result[key] for result in results) for key in results[0]} | rates


# -- the parts


def rivals(bench: Bench, parts: Sequence[str], turns: int) -> dict[str, Any]:
    """Compare our training with the bare loop and with open_clip's trainer."""
    spec = bench.spec
    specs = {OURS: spec}
    if bench.model != OWN:
        specs[f"{OURS}, from shards"] = _with(spec, {"trainer.loader": "shards"})
        if torch.cuda.is_available():
            specs[f"{OURS}, compiled"] = _with(spec, {"trainer.compile": True})
    if "bare" in parts:
        specs[BARE] = replace(spec, kind="bare")
    if "open_clip" in parts:
        for precision in ("fp32", "amp_bf16") if native_bf16() else ("fp32",):  # elsewhere bf16 is many times slower
            for workers in worker_counts():
                name = f"open_clip {precision}, {workers} workers"
                specs[name] = replace(spec, kind="open_clip", workers=workers, precision=precision)
    found = in_turns(specs, turns)
    ours = max(_rate(found[name]) for name in found if name.startswith(OURS))
    for name, result in found.items():
        tell(name, result, f"{_rate(result) / ours:6.2f} of {OURS}'s best" if ours and "error" not in result else "")
    if "bare" in parts:
        judge("share of the bare loop", _over(_rate(found[OURS]), _rate(found[BARE])), SHARE)
    theirs = max((_rate(result) for name, result in found.items() if name.startswith("open_clip")), default=0.0)
    if theirs:
        judge("times open_clip's best", _over(ours, theirs), RATIO)
    if torch.cuda.is_available() and bench.model in RATES:
        judge("samples/s (the target is one H200's)", ours, RATES[bench.model])
        judge("data wait from shards", found[f"{OURS}, from shards"].get("data_wait", 1.0), WAIT, most=True)
    found |= use(bench, ours)
    return found


def use(bench: Bench, ours: float) -> dict[str, Any]:
    """Tell how much of the device's peak our best rate uses."""
    work = start(replace(bench.spec, kind="work"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = "bf16-mixed" if native_bf16() else "32-true"
    peak = throughput.peak_flops(throughput.device_name(device), precision, tf32=True)
    peak = peak or throughput.matmul_flops(device, precision, seconds=2.0)
    if "error" in work or not ours:
        return {"use": work}
    share = throughput.utilisation(ours, work["useful"], peak)
    print(f"  {'use of ' + format(peak / 1e12, ',.3g') + ' TFLOP/s (MFU)':<40} {share:>12.1%}")
    return {"use": {"peak": peak, "useful": work["useful"], "share": share}}


def together(bench: Bench, turns: int) -> dict[str, Any]:
    """Compare a training a core, as `domix repro` starts them, with one after the other on all cores."""
    cores = os.cpu_count() or 1
    found: dict[str, list[dict[str, Any]]] = {"all cores": [], f"{cores} at a time": []}
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(turns):
            found["all cores"].append(start(_with(bench.spec, {"trainer.threads": cores})))
            each = list(pool.map(start, [_with(bench.spec, {"trainer.threads": 1})] * cores))
            failed = next((result for result in each if "error" in result), None)
            total = {"samples_per_s": sum(map(_rate, each)), "data_wait": max(r.get("data_wait", 0) for r in each)}
            found[f"{cores} at a time"].append(failed or total)
    serial, all_at_once = (_medians(results) for results in found.values())
    tell("one after the other, all cores", serial)
    tell(f"{cores} at a time, a core each", all_at_once)
    judge("side by side, times one by one", _over(_rate(all_at_once), _rate(serial)), TOGETHER)
    return {"one": serial, "together": all_at_once}


def levers(bench: Bench, turns: int) -> dict[str, Any]:
    """Measure each lever alone and turned off among all; then what saves memory, with all levers on."""
    idle = () if torch.cuda.is_available() else GPU_ALONE
    slow = () if native_bf16() else ("trainer.precision",)  # bf16 would take many times as long
    mine = {key: values for key, values in LEVERS.items() if key not in (*idle, *slow)}
    plain = _with(bench.spec, {key: off for key, (off, _) in LEVERS.items() if key not in idle})
    every = _with(plain, {key: on for key, (_, on) in mine.items()})
    specs = {"plain": plain, "all": every}
    for key, (off, on) in mine.items():
        specs[f"{key} alone"] = _with(plain, {key: on})
        specs[f"{key} flipped"] = _with(every, {key: off})
    specs |= {name: _with(every, changes) for name, changes in PRICES.items()}
    found = in_turns(specs, turns)
    base, top = _rate(found["plain"]), _rate(found["all"])
    tell("plain: none of the levers", found["plain"])
    tell("all that pay here", found["all"], f"{_over(top, base):6.2f} of plain")
    print(f"  {'lever':<40} {'alone':>12} {'of plain':>9} {'without':>12} {'of all':>9}")
    for key, (_, on) in mine.items():
        alone, flipped = found[f"{key} alone"], found[f"{key} flipped"]
        name = f"{key}: {on}"
        print(
            f"  {name:<40} {_cell(alone):>12} {_over(_rate(alone), base):>9.2f}"
            f" {_cell(flipped):>12} {_over(_rate(flipped), top):>9.2f}"
        )
        for result in (alone, flipped):
            _tell_error(result)
    for name in PRICES:
        tell(f"all, and {name}", found[name], f"{_over(_rate(found[name]), top):6.2f} of all")
    return found


def memory(bench: Bench) -> dict[str, Any]:
    """Measure what decoded images take, and whether training takes more with every epoch."""
    resident, growth = start(replace(bench.spec, kind="resident")), start(replace(bench.spec, kind="growth"))
    if "error" in resident:
        tell("images in memory", resident)
    else:
        judge("resident images: overhead", resident["overhead"], OVERHEAD, most=True)
    if "error" in growth:
        tell("memory over epochs", growth)
    else:
        text = f"{growth['grows_mib_an_epoch']:+.2f} MiB an epoch, at {growth['host_mib']:,.0f} MiB"
        print(f"  {'growth of memory':<40} {text}   (target: none)")
        if growth["gpu"]:
            print(f"  {'most memory of the GPU':<40} {growth['gpu'] / 2**30:.1f} GiB with batch {bench.spec.batch}")
    return {"resident": resident, "growth": growth}


def _with(spec: Spec, changes: dict[str, Any]) -> Spec:
    return replace(spec, changes=spec.changes | changes)


def _rate(result: dict[str, Any]) -> float:
    return result.get("samples_per_s", 0.0)


def _over(value: float, base: float) -> float:
    return value / base if base else 0.0


def _cell(result: dict[str, Any]) -> str:
    return "failed" if "error" in result else f"{result['samples_per_s']:,.1f}"


# -- telling


def tell(name: str, result: dict[str, Any], more: str = "") -> None:
    """Print a rate: the median, the range over the turns, the share of time spent waiting for data."""
    if "error" in result:
        print(f"  {name:<40}       failed")
        _tell_error(result)
        return
    rates = result["rates"]
    spread = f"{min(rates):,.1f} .. {max(rates):,.1f}"
    text = (
        f"  {name:<40} {result['samples_per_s']:>12,.1f} samples/s ({spread}), waits {result['data_wait']:.1%} {more}"
    )
    print(text.rstrip(), flush=True)


def _tell_error(result: dict[str, Any]) -> None:
    if "error" in result:
        print(f"    {result['error']}")


def judge(name: str, value: float, target: float, *, most: bool = False) -> None:
    """Print a number beside its target."""
    form: Callable[[float], str] = (lambda x: f"{x:,.0f}") if target > 100 else (lambda x: f"{x:.2f}")
    if target < 1:
        form = lambda x: f"{x:.1%}"  # noqa: E731
    met = value <= target if most else value >= target
    sign = "at most" if most else "at least"
    print(f"  {name:<40} {form(value):>12}   (target: {sign} {form(target)}: {'met' if met else 'missed'})", flush=True)


# -- what to measure


def native_bf16() -> bool:
    """Tell whether bf16 is computed natively here; where it is not, it is no lever."""
    return bf16_on_gpu() if torch.cuda.is_available() else bf16_on_cpu()


def worker_counts() -> list[int]:
    """Return the numbers of workers with which open_clip is tried."""
    cores = os.cpu_count() or 1
    return [0, 1, 2] if cores <= 4 else [2, cores // 2, cores]


def benches(asked: argparse.Namespace) -> list[Bench]:
    """Return the models that are asked for, with their data.

    Raises:
        DataError: the mixtures have not been made yet.
    """
    params = load_params()
    paths = {name: ARTIFACTS / "mixtures" / f"{name}.parquet" for name in params.mixtures}
    if not all(path.exists() for path in paths.values()):
        raise DataError("the packed data are missing: run dvc repro mixtures captions")
    largest = max(paths, key=lambda name: sum(read_mixture(paths[name]).samples.values()))
    gpu = torch.cuda.is_available()
    models = asked.model.split(",") if asked.model else [OWN, "RN50", *(["ViT-B-32"] if gpu else [])]
    made = []
    for model in models:
        own = model == OWN
        batch = asked.batch or (params.train.batch if own else 1024 if gpu else 16)
        steps = asked.steps or (60 if own else 40 if gpu else 4)
        warm = max(1, steps // 4)
        changes = {} if own else {"model.name": model, "train.accumulate": 1, "train.bn_group": None, **FAST}
        root, mixture = Path.cwd(), largest
        if not own:
            count = max(512, 8 * batch)
            root = bench_project.make(OUT / f"photos-{count}", open_run(largest), params, count=count).resolve()
            mixture = bench_project.NAME
        made.append(Bench(model, Spec("fit", str(root), mixture, batch, warm, steps, changes)))
    return made


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        ParameterError: a part that there is not, or a number that is not positive.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.bench_train", description="Measure training.")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, by commas (default: {','.join(PARTS)})")
    parser.add_argument("--model", help="mini, or names of open_clip's models, by commas")
    parser.add_argument("--batch", type=int, help="samples a step")
    parser.add_argument("--steps", type=int, help="steps that count, of each measurement")
    parser.add_argument("--turns", type=int, default=3, help="how often each is measured (default: 3)")
    asked = parser.parse_args(arguments)
    asked.only = asked.only.split(",")
    for part in asked.only:
        if part not in PARTS:
            raise ParameterError(f"--only names {part!r}: known are {', '.join(PARTS)}")
    for name in ("batch", "steps", "turns"):
        value = getattr(asked, name)
        if value is not None and value <= 0:
            raise ParameterError(f"--{name} must be positive, not {value}")
    return asked


def machine() -> dict[str, Any]:
    """Describe where it was measured."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    return {
        "device": throughput.device_name(device),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        **versions,
    }


def main(*arguments: str) -> int:
    """Measure and print; return the exit code."""
    try:
        asked = parse(arguments)
        chosen = benches(asked)
    except DomixError as error:
        print(f"bench_train: {error}", file=sys.stderr)
        return 2
    report: dict[str, Any] = {"machine": machine(), "models": {}}
    where = report["machine"]
    print(f"{where['device']}; {where['cores']} cores, torch {where['torch']}")
    for bench in chosen:
        spec = bench.spec
        found = report["models"].setdefault(bench.model, {"spec": asdict(spec)})
        print(f"\n{bench.model}: batch {spec.batch}, {spec.steps} steps after {spec.warm}, {asked.turns} turns")
        if {"bare", "open_clip"} & set(asked.only):
            found["rivals"] = rivals(bench, asked.only, asked.turns)
        if "together" in asked.only and not torch.cuda.is_available():
            found["together"] = together(bench, asked.turns)
        if "levers" in asked.only:
            found["levers"] = levers(bench, asked.turns)
        if "memory" in asked.only:
            found["memory"] = memory(bench)
        write_json(OUT / "train.json", report)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
