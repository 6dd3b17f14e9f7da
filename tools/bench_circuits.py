"""Measure circuits beside the reference study's loop: counted work at full size, and time on a smaller tower.

    python -m tools.bench_circuits                              as `make bench` does
    python -m tools.bench_circuits --images 50 --every 100      as many images a cell as the study; fewer channels timed

work    operations (FLOP) of one image on RN50 at 224 pixels, all 22 sites, counted on tensors without contents; images
        do not see each other, so that the ratio is that of any number of images, classes and domains
time    one cell on RN50 at half the width and 64 pixels. The loop's node scores run whole; of its edges every
        `--every`th channel does, from which the others' time follows, since each takes as many passes. What ran is
        checked against ours. Both run on one thread, and what counts is the time of that core, so that what else the
        machine does has little say

Told is the median of the turns; everything also goes to build/bench/circuits.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from domix.analyses.circuits import attribution
from domix.analyses.circuits.attribution import cosine_with, edge_scores, image_effects, image_weights, node_scores
from domix.encoders.clip_resnet import ResNetSegments
from domix.encoders.segments import INPUT, Segments
from domix.encoders.sites import site_modules
from domix.runtime.errors import ParameterError
from domix.runtime.files import write_json
from tools.bench_train import judge
from tools.circuits_loop import STEPS, literal_edges, literal_nodes

OUT = Path("build") / "bench"
WORK, TIME = 100, 50  # targets: times less
LAYERS = [3, 4, 6, 3]  # RN50's blocks


class Counter(TorchDispatchMode):
    """FlopCounterMode without its hooks on modules, which do not bear gradients of images."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def counted(function: Callable[[], object]) -> int:
    """Return the operations of a call's convolutions and matrix products."""
    with Counter() as counter:
        function()
    return counter.total


def ours_work(segments: Segments, images: Tensor, text: Tensor) -> tuple[int, int, dict[str, Tensor]]:
    """Count our node and edge scores of images, on any device; return the channels selected, too."""
    names, effects = list(segments.modules), dict[str, Tensor]()
    metric = cosine_with(text)
    # tensors without contents cannot be checked, and always fit
    with patch.object(attribution, "_require_finite", lambda *_: None), patch.dict(attribution.AT_ONCE, meta=2**60):
        nodes = counted(lambda: effects.update(image_effects(segments, images, metric, [INPUT, *names], steps=STEPS)))
        chosen = {name: attribution.select(effects[name].mean(dim=0)) for name in names}
        each = {name: channels.expand(len(images), -1) for name, channels in chosen.items()}
        edges = counted(lambda: image_weights(segments, images, each, steps=STEPS))
    return nodes, edges, chosen


def reference_work(
    model: nn.Module, modules: Segments, images: Tensor, chosen: dict[str, Tensor]
) -> tuple[int, int, int]:
    """Count the loop's clean pass, nodes and edges: every pass goes forwards whole, backwards as far as need be."""
    forward, names = counted(lambda: model(images)), list(modules.modules)
    with torch.no_grad():
        _, clean = modules.record(images, [INPUT, *names])

    def backward(start: str, end: str | None) -> int:
        value = clean[start].clone().requires_grad_()
        result = modules.run(start, value, end)
        return counted(lambda: torch.autograd.grad(result.sum(), value))

    nodes = sum(STEPS * (forward + backward(name, None)) for name in [INPUT, *names])
    edges = sum(len(chosen[v]) * STEPS * (forward + backward(u, v)) for u, v in pairwise(chosen))
    return forward, nodes, edges


def measure_work() -> dict[str, Any]:
    """Count both on RN50 at 224 pixels, one image, in forward passes."""
    with torch.device("meta"):
        model = ModifiedResNet(LAYERS, output_dim=1024, heads=32, image_size=224).eval()
        segments = ResNetSegments(model, model)
        images, text = torch.empty(1, 3, 224, 224), torch.empty(1, 1024)
    nodes, edges, chosen = ours_work(segments, images, text)
    forward, *theirs = reference_work(model, Segments(model, site_modules(model)), images, chosen)
    passes = [count / forward for count in (nodes, edges, *theirs)]
    names = ("ours_nodes", "ours_edges", "reference_nodes", "reference_edges")
    return dict(zip(names, passes, strict=True)) | {"channels": sum(map(len, chosen.values())) - len(chosen["act1"])}


def tower(width: int, size: int) -> ModifiedResNet:
    """Return an RN50 of another width and size, with weights and statistics made up, ready to evaluate."""
    torch.manual_seed(0)
    model = ModifiedResNet(LAYERS, output_dim=16 * width, heads=width // 2, image_size=size, width=width)
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):  # zeros at first: then blocks pass their input on
            nn.init.uniform_(parameter, 0.2, 0.6)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model.to(memory_format=torch.channels_last).eval()


def measure_time(width: int, size: int, images: int, every: int, turns: int) -> dict[str, Any]:
    """Time both on one cell in turns, and check that they agree; return medians in seconds of one core.

    Raises:
        AssertionError: scores differ by more than rounding.
    """
    model = tower(width, size)
    modules, segments = site_modules(model), ResNetSegments(model, model)
    pixels = torch.randn(images, 3, size, size)
    text = F.normalize(torch.randn(1, 16 * width), dim=-1).repeat(images, 1)
    found: dict[str, list[float]] = {name: [] for name in ("ours_nodes", "ours_edges", "loop_nodes", "loop_edges")}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = function()
        found[name].append(time.process_time() - started)
        return result

    sites = [INPUT, *modules]
    for turn in range(turns):
        print(f"\r\033[K  turn {turn + 1} of {turns}", end="", file=sys.stderr, flush=True)
        nodes = timed("ours_nodes", lambda: node_scores(segments, pixels, cosine_with(text), sites, steps=STEPS))
        chosen = {name: attribution.select(nodes[name]) for name in modules}
        edges = timed("ours_edges", lambda c=chosen: edge_scores(segments, pixels, c, steps=STEPS))
        _require_same(nodes, timed("loop_nodes", lambda: literal_nodes(model, modules, pixels, text)))
        seconds = 0.0
        for u, v in pairwise(chosen):
            part, started = {u: chosen[u], v: chosen[v][::every]}, time.process_time()
            some = literal_edges(model, modules, pixels, part)
            seconds += (time.process_time() - started) * len(chosen[v]) / len(part[v])
            _require_same({(u, v): edges[u, v][::every]}, some)
        found["loop_edges"].append(seconds)
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    passes = STEPS * (len(sites) + sum(len(chosen[v]) for _, v in pairwise(chosen)))
    return {f"{name}_s": median(values) for name, values in found.items()} | {"passes": passes}


def _require_same(ours: Any, theirs: Any) -> None:
    """Check scores: in single precision a rectifier that is all but shut may count as open, so to a thousandth."""
    for name, expected in theirs.items():
        most = float(expected.abs().max())
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=1e-3 * most, msg=lambda m, n=name: f"{n}: {m}")


def tell(found: dict[str, Any]) -> None:
    """Print what was measured beside its targets."""
    work, took = found["work"], found["time"]
    print("Circuits, RN50 at 224 pixels: work of one image, in forward passes of the model.")
    for name, words in (("ours", "ours"), ("reference", "the reference's loop")):
        nodes, edges = work[f"{name}_nodes"], work[f"{name}_edges"]
        print(f"  {words:<40} {nodes + edges:>12,.0f}   (nodes {nodes:,.0f}, edges {edges:,.0f})")
    judge("times less work", _ratio(work, "reference", ""), WORK)
    print(f"RN50 at half the width and 64 pixels: time of a cell of {found['images']} images on one core.")
    for name, words in (("ours", "ours"), ("loop", f"the loop, {took['passes']:,} passes")):
        nodes, edges = took[f"{name}_nodes_s"], took[f"{name}_edges_s"]
        print(f"  {words:<40} {nodes + edges:>12,.1f} s (nodes {nodes:,.1f}, edges {edges:,.1f})")
    judge("times less time", _ratio(took, "loop", "_s"), TIME)


def _ratio(found: dict[str, Any], theirs: str, unit: str) -> float:
    sums = [found[f"{name}_nodes{unit}"] + found[f"{name}_edges{unit}"] for name in (theirs, "ours")]
    return sums[0] / sums[1]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        ParameterError: a number is not positive.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.bench_circuits", description="Measure circuits.")
    parser.add_argument("--images", default=4, help="images of the cell that is timed (default: 4)", type=int)
    parser.add_argument("--every", default=20, help="time the loop on every n-th channel (default: 20)", type=int)
    parser.add_argument("--turns", default=1, help="how often each is timed (default: 1)", type=int)
    asked = parser.parse_args(arguments)
    for name in ("images", "every", "turns"):
        if getattr(asked, name) <= 0:
            raise ParameterError(f"--{name} must be positive, not {getattr(asked, name)}")
    return asked


def main() -> None:
    """Measure and tell."""
    asked = parse(sys.argv[1:])
    torch.set_num_threads(1)
    found = vars(asked) | {"work": measure_work(), "time": measure_time(32, 64, **vars(asked))}
    tell(found)
    write_json(OUT / "circuits.json", found)


if __name__ == "__main__":
    main()
