"""Measure the data side at real size, with generated data: packing, reading, indices, captions, mixtures.

    python -m tools.bench_data [NAME ...]      all, or some of: pack (and read), index, captions, mixtures, corpus

Each measurement runs in a process of its own, so that its peak memory is its own. What is compared is measured in turns
in one run, because machines are seldom quiet.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
from PIL import Image

from domix.data.captions.captions import make_captions
from domix.data.classes.test_classes import load_test_classes
from domix.data.mixtures.cells import count_cells, make_split
from domix.data.mixtures.mixing import base_rows, build_mixture
from domix.data.mixtures.mixture import write_mixture
from domix.data.mixtures.names import parse_mixtures, reference_names
from domix.data.pack.drivers import get_driver
from domix.data.pack.packing import Settings, pack
from domix.data.sources.registry import get_source
from domix.data.store import images
from domix.data.store.index import SCHEMA, shard_name, write_rows
from domix.data.store.shards import ShardReader
from tools import scale

IMAGES, SIDE, SHORT = 6000, 500, 256  # of the packing measurement: how many, pixels, pixels after
CORPUS_ROWS = 12_000_000
CAPTION_ROWS = 1_000_000
TEST_DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "sketch")


def say(name: str, value: str, target: str = "") -> None:
    """Print one line of the result."""
    print(f"  {name:<42} {value:>28}{f'   (target: {target})' if target else ''}", flush=True)


def memory() -> float:
    """Return the most memory that this process has taken, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def most_memory(work: Callable[[], float]) -> tuple[float, float]:
    """Do some work; return its result, and the most memory that any process started by it took, in GB."""
    ended, most = threading.Event(), 0.0

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    most = max(most, process.memory_info().rss / 1e9)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return work(), most
    finally:
        ended.set()
        watcher.join()


# -- packing and reading ------------------------------------------------------------------------------------------


def jpeg(number: int) -> bytes:
    """Return a JPEG file of about the size of a photograph's: smooth shapes with grain."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = rng.integers(-12, 13, (SIDE, SIDE, 1), dtype=np.int16)
    buffer = io.BytesIO()
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def photographs(root: Path, count: int) -> Path:
    """Write a set of `count` JPEG files in DomainNet's layout; every hundredth image is new."""
    files = [jpeg(number) for number in range(100)]
    root.mkdir()
    with zipfile.ZipFile(root / "real.zip", "w") as archive:
        paths = [f"real/axe/{number:06d}.jpg" for number in range(count)]
        for number, path in enumerate(paths):
            archive.writestr(path, files[number % len(files)])
    for split, mine in (("train", paths[: count // 2]), ("test", paths[count // 2 :])):
        (root / f"real_{split}.txt").write_text("".join(f"{path} 0\n" for path in mine))
    return root


def bare_loop(seconds: float) -> float:
    """Return the images a second of decoding, resizing and encoding alone."""
    files = [jpeg(number) for number in range(20)]
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        images.encode(images.resize_short(images.decode(files[done % len(files)]), SHORT), "jpeg")
        done += 1
    return done / (time.perf_counter() - started)


def bare_rate(cores: int, seconds: float = 6.0) -> float:
    """Return the sum of the rates of one bare loop a core, all at once."""
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(bare_loop, [seconds] * cores))


def pack_rate(root: Path, out: Path, cores: int, part: int) -> float:
    """Pack a set as the stage does; return its images a second."""
    started = time.perf_counter()
    out.mkdir()
    parts = get_source("domainnet").parts(root, size=part, poses=1)
    driver = get_driver("processes", cores)
    settings = Settings("domainnet", size=SHORT, format="jpeg")
    stats = pack(settings, parts, out, staging=out.with_name("staging"), driver=driver, max_bad_share=0.0)
    return stats.packed / (time.perf_counter() - started)


def bench_pack(folder: Path) -> None:
    """Compare packing with bare loops, and the memory of a small set with that of a large one."""
    cores = os.cpu_count() or 1
    few = photographs(folder / "few", IMAGES // 5)
    _, first = most_memory(partial(pack_rate, few, folder / "few-out", cores, 300))
    root = photographs(folder / "set", IMAGES)
    one = bare_loop(4.0)
    before = bare_rate(cores)
    rate, second = most_memory(partial(pack_rate, root, folder / "out", cores, 300))
    after = bare_rate(cores)
    bare = (before + after) / 2
    print(f"pack: {IMAGES} JPEG files of {SIDE} x {SIDE} pixels to {SHORT}, {cores} processes")
    say("packing, images/s", f"{rate:.0f} ({rate / cores:.0f} a core)")
    say("bare loops, one a core at once, images/s", f"{bare:.0f} ({before:.0f}, {after:.0f})")
    say("one bare loop alone, images/s", f"{one:.0f}")
    say("share of the bare loops", f"{rate / bare:.0%}", "90%")
    say("memory of the largest process, GB", f"{first:.2f}, {second:.2f} for five times the set", "constant")
    read_rates(folder / "out")


def read_rates(shards: Path) -> None:
    """Compare random reads by row with webdataset's sequential reader on the same shards."""
    os.environ["WDS_SECURE"] = "1"
    from webdataset import compat

    rounds: dict[str, list[float]] = {"random": [], "webdataset": []}
    paths = sorted(str(path) for path in shards.glob("*.tar"))
    for turn in range(5):
        with ShardReader(shards) as reader:
            rows = np.random.default_rng(turn).permutation(len(reader)).tolist()
            started = time.perf_counter()
            size = sum(len(reader.read(row)) for row in rows)
            rounds["random"].append(len(rows) / (time.perf_counter() - started))
        started = time.perf_counter()
        same = sum(len(sample["jpg"]) for sample in compat.WebDataset(paths, shardshuffle=False))
        rounds["webdataset"].append(len(rows) / (time.perf_counter() - started))
        assert same == size
    print("read: the same shards, in the page cache, one thread, median of five turns")
    ours, theirs = (median(values) for values in rounds.values())
    say("random access by row, images/s", f"{ours:,.0f}")
    say("webdataset in sequence, images/s", f"{theirs:,.0f}")
    say("ratio", f"{ours / theirs:.1f}", "1")


# -- indices ------------------------------------------------------------------------------------------------------


def corpus_rows(count: int) -> Iterator[pa.Table]:
    """Yield the index of a corpus, shard by shard."""
    rng = np.random.default_rng(0)
    step, size = 10_000, 20_000
    for number in range(count // step):
        keys = [f"{number:05d}/{row:09d}" for row in range(step)]
        hashes = rng.bytes(step * 40).hex()
        columns = {name: pa.nulls(step, SCHEMA.field(name).type) for name in SCHEMA.names[1:]}
        columns |= {name: pa.array([text] * step) for name, text in (("source", "cc12m"), ("domain", "cc12m"))}
        columns |= {"key": pa.array(keys), "split": pa.array(["train"] * step), "label": pa.array([-1] * step)}
        columns |= {"sha256": pa.array([hashes[i * 80 : i * 80 + 64] for i in range(step)])}
        columns |= {"phash": pa.array([hashes[i * 80 + 64 : i * 80 + 80] for i in range(step)])}
        columns |= {"shard": pa.array([shard_name(number)] * step), "size": pa.array([size] * step)}
        columns |= {"offset": pa.array(np.arange(step) * (size + 1536) + 1536)}
        columns |= {"width": pa.array([224] * step), "height": pa.array([224] * step)}
        yield pa.table(columns)


def worker_memory(folder: Path) -> tuple[float, float]:
    """Open a reader and read a thousand images at random; return its own and its shared memory, in MB."""
    process = psutil.Process()
    before = process.memory_info()
    reader = ShardReader(folder)
    for row in np.random.default_rng(os.getpid()).integers(0, len(reader), 1000).tolist():
        reader.read(row)
    after = process.memory_info()
    shared = after.shared - before.shared
    return (after.rss - before.rss - shared) / 1e6, shared / 1e6


def bench_index(folder: Path) -> None:
    """Open an index of many rows, here and in worker processes."""
    started = time.perf_counter()
    count = write_rows(folder, corpus_rows(CORPUS_ROWS))
    written = time.perf_counter() - started
    for number in range(count // 10_000):
        with open(folder / shard_name(number), "wb") as file:
            file.truncate(10_000 * (20_000 + 1536))  # sparse: reads zeros
    started = time.perf_counter()
    ShardReader(folder).close()
    opened = time.perf_counter() - started
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        grown = [pool.submit(worker_memory, folder).result() for _ in range(2)]
    print(f"index: {count:,} rows in {count // 10_000} shards")
    say("writing, s", f"{written:.0f}")
    say("opening, s", f"{opened:.2f}", "2")
    say("a worker's own memory after 1,000 reads, MB", ", ".join(f"{own:.0f}" for own, _ in grown), "no copy")
    say("of the shared map, MB", ", ".join(f"{shared:.0f}" for _, shared in grown))


# -- captions -----------------------------------------------------------------------------------------------------


def loop_captions(samples: pd.DataFrame) -> list[str]:
    """Make captions as the reference study's script does: one sample after the other, one draw after the other."""
    stream, captions = random.Random(42), []
    for domain, name in zip(samples["domain"], samples["class"], strict=True):
        pattern, stop = stream.choice(range(6)), stream.random() < 0.5
        noun = stream.choice(["image", "picture", domain, "drawing"])
        text = [
            f"a {noun} of a {name}",
            f"a {name} {noun}",
            f"a {noun} depicting a {name}",
            f"a {name} depicted in a {noun}",
            f"a {noun} showing a {name}",
            f"a {name} is visible in a {noun}",
        ][pattern]
        captions.append(text + "." if stop else text)
    return captions


def bench_captions(folder: Path) -> None:
    """Compare both streams with the reference's loop."""
    samples = pd.concat([scale.domainnet(), scale.domainnet()], ignore_index=True).iloc[:CAPTION_ROWS]
    words = np.char.mod("%09d", np.arange(len(samples)))
    samples = samples.assign(key=(samples["domain"] + "/" + pd.Series(words, dtype="str")).astype("str"))
    print(f"captions: {len(samples):,} rows, standard and aligned")
    rates: dict[str, list[float]] = {}
    for _ in range(3):
        for name, make in CAPTION_WAYS.items():
            started = time.perf_counter()
            make(samples)
            rates.setdefault(name, []).append(time.perf_counter() - started)
    for name, seconds in rates.items():
        say(f"{name}, s", f"{median(seconds):.1f}", "4, and no more than the loop's" if "default" in name else "")
    say("peak memory, GB", f"{memory():.2f}")


CAPTION_WAYS: dict[str, Callable[[pd.DataFrame], object]] = {
    "default stream": lambda samples: make_captions(samples, seed=42),
    "reference stream": lambda samples: make_captions(samples, seed=42, stream="reference", articles="reference"),
    "the reference's loop, twice": lambda samples: (loop_captions(samples), loop_captions(samples)),
}


# -- mixtures -----------------------------------------------------------------------------------------------------


def bench_mixtures(folder: Path) -> None:
    """Make every mixture of the reference study over ImageNet-Captions."""
    base = "imagenet-captions"
    indices = {"domainnet": scale.domainnet(), base: scale.base_corpus(base, scale.IMAGENET_CAPTIONS)}
    started, count = time.perf_counter(), 0
    cells = count_cells(indices["domainnet"])
    classes = load_test_classes("domainnet", list(cells.classes))
    rows = {base: base_rows(base, indices[base])}
    for domain in TEST_DOMAINS:
        split = make_split(cells, test_domain=domain, natural_domain="real", test_classes=classes)
        names = reference_names(split, base=[base])
        for recipe in parse_mixtures(names, split, base=[base], recipes={}):
            mixture = build_mixture(recipe, cells, split, source="domainnet", base=rows)
            path = folder / f"{mixture.alias}.parquet"
            count += not path.exists()  # natural-only is the same for every test domain
            if not path.exists():
                write_mixture(path, mixture, indices)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in folder.glob("*.parquet"))
    print(f"mixtures: {count} over {sum(map(len, indices.values())):,} rows")
    say("all, s", f"{seconds:.1f}", "20")
    say("on disk, MB", f"{size / 1e6:.0f}", "200")
    say("peak memory, GB", f"{memory():.2f}", "2")


def bench_corpus(folder: Path) -> None:
    """Make one mixture over a base of many rows."""
    base = "cc12m"
    indices = {"domainnet": scale.domainnet(), base: scale.base_corpus(base, CORPUS_ROWS)}
    started = time.perf_counter()
    cells = count_cells(indices["domainnet"])
    classes = load_test_classes("domainnet", list(cells.classes))
    split = make_split(cells, test_domain="sketch", natural_domain="real", test_classes=classes)
    (recipe,) = parse_mixtures(["cg-high"], split, base=[base], recipes={})
    rows = {base: base_rows(base, indices[base])}
    mixture = build_mixture(recipe, cells, split, source="domainnet", base=rows)
    write_mixture(folder / "cg-high.parquet", mixture, indices)
    print(f"mixture over a base of {CORPUS_ROWS:,} rows")
    say("one, s", f"{time.perf_counter() - started:.1f}", "3")
    say("peak memory, GB", f"{memory():.2f}", "3")


BENCHES: dict[str, Callable[[Path], None]] = {
    "pack": bench_pack,
    "index": bench_index,
    "captions": bench_captions,
    "mixtures": bench_mixtures,
    "corpus": bench_corpus,
}


def run(module: str, benches: dict[str, Callable[[Path], None]], arguments: Sequence[str]) -> int:
    """Run the `benches` of a module of tools that are named, else all, each in a process; return the exit code."""
    if arguments[:1] == ["--one"]:
        with tempfile.TemporaryDirectory() as folder:
            benches[arguments[1]](Path(folder))
        return 0
    unknown = [name for name in arguments if name not in benches]
    if unknown:
        print(f"{module}: unknown measurement {unknown[0]!r}: known are {', '.join(benches)}", file=sys.stderr)
        return 2
    for name in arguments or benches:
        command = [sys.executable, "-m", f"tools.{module}", "--one", name]
        if code := subprocess.run(command, check=False).returncode:
            return code
    return 0


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit code."""
    return run("bench_data", BENCHES, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
