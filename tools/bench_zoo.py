"""Measure `domix zoo` on models of real size with random weights: seconds and peak memory, first and again.

    python -m tools.bench_zoo                                        RN50 and ViT-B-32, small enough for two minutes
    python -m tools.bench_zoo --models ViT-L-14 --images 5000 --classes 1000 --templates openai

first   one model on an empty cache: its weights, images, prompts, and the page
again   the same, from what is kept
all     all models in one list, from what is kept, which the page joins

Images are photographs that were made up, in a folder of classes; each command runs in a process of its own, whose peak
memory is told.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from domix.model.clip import build, load_config
from domix.runtime.errors import ParameterError
from domix.runtime.files import write_json
from tools.bench_data import jpeg, most_memory, say

MODELS = ("RN50", "ViT-B-32")
COMMAND = "from domix.cli.app import main; main()"


def write_images(folder: Path, images: int, classes: int) -> None:
    """Write photographs of classes, as many of each as there are of another, or one more."""
    for number in range(images):
        path = folder / f"thing {number % classes}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))


def write_model(root: Path, name: str) -> None:
    """Write random weights of an architecture of open_clip's, as a list of models opens them."""
    model = build(load_config(name), seed=0)
    tensors = {key: value.detach().clone().contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, root / f"{name}.safetensors")


def zoo(root: Path, names: Sequence[str], templates: str) -> tuple[float, float]:
    """Run the command on some models; return its seconds and its peak memory, in GB."""
    models = [
        {"name": name, "model": f"{name}.safetensors", "architecture": name, "group": "zero-shot"} for name in names
    ]
    write_json(root / "zoo.json", {"models": models})
    asked = ["zoo", "zoo.json", "--images", "photos", "--out", "out", "--templates", templates]

    def work() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", COMMAND, *asked], cwd=root, check=True, capture_output=True)
        return time.perf_counter() - started

    return most_memory(work)


def measure(root: Path, models: Sequence[str], images: int, classes: int, templates: str) -> None:
    """Measure and print."""
    write_images(root / "photos", images, classes)
    shutil.copy("params.yaml", root)
    print(f"zoo: {images:,} images, {classes:,} classes, templates {templates}")
    for name in models:
        write_model(root, name)
        for turn in ("first", "again"):
            seconds, most = zoo(root, [name], templates)
            say(f"{name}, {turn}", f"{seconds:.1f} s, {most:.2f} GB")
    if len(models) > 1:
        seconds, most = zoo(root, models, templates)
        say(f"all {len(models)}, again", f"{seconds:.1f} s, {most:.2f} GB")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        ParameterError: there are fewer images than classes, or none.
    """
    parser = argparse.ArgumentParser(prog="bench_zoo")
    parser.add_argument("--models", default=",".join(MODELS), help="of open_clip's architectures, with commas between")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--classes", type=int, default=16)
    parser.add_argument("--templates", default="plp")
    asked = parser.parse_args(arguments)
    if not 1 < asked.classes <= asked.images:
        raise ParameterError(f"--classes must be 2 to the {asked.images} images, not {asked.classes}")
    return asked


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit code."""
    asked = parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), asked.models.split(","), asked.images, asked.classes, asked.templates)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
