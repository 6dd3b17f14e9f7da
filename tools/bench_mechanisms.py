"""Measure what looks into models, with made activations: sparse autoencoders, their store, and shared features.

    python -m tools.bench_mechanisms [NAME ...]      all, or some of: autoencoder, feed, store, sharing

autoencoder  samples a second of training, beside SAELens' trainer where sae-lens is installed, else a plain loop
feed         the same training fed by a store on the disk, beside the same batches in memory
store        writing and shuffled reading of 64, 128 and 256 thousand rows of 1,024 channels, and their memory
sharing      the matrices of 6 domains x 345 classes x 50 images, from stored activations to averages

Sizes are the default study's (`small`: 128 channels, 512 units, one thread, as its stage has it) and the reference
study's (`large`: 1,024 channels, 4,096 units). What is compared takes turns in one process; told are medians.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch.nn import functional as F

from domix.activations.store import ActivationStore, StoreWriter, open_or_make
from domix.analyses.sae.autoencoder import SparseAutoencoder
from domix.analyses.sae.reconstruction import encode
from domix.analyses.sae.training import StoreFeed, Training, unit_rows
from domix.analyses.sharing.overlap import mean_over_classes, votes
from domix.analyses.sharing.resampled import share_classes
from domix.encoders.encoder import Activations
from domix.runtime.seeds import torch_generator
from tools import bench_data
from tools.bench_data import memory, say

L1, LR, TURNS = 1e-4, 1e-4, 3
Batches = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Size:
    """Of an autoencoder and its batches."""

    name: str
    channels: int
    units: int
    batch: int
    steps: int  # a turn
    threads: int | None  # None: all


SIZES = (Size("small", 128, 512, 512, 200, 1), Size("large", 1024, 4096, 2048, 2, None))


# -- training -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listed:
    """A feed of batches in memory, in their order."""

    parts: Batches

    @property
    def count(self) -> int:
        """Rows of all."""
        return sum(map(len, self.parts))

    def batches(self, number: int) -> Iterator[NDArray[np.float32]]:
        """Yield them."""
        yield from self.parts


def made_batches(size: Size) -> list[NDArray[np.float32]]:
    """Return batches of unit activations."""
    rng = np.random.default_rng(0)
    return [unit_rows(rng.normal(size=(size.batch, size.channels)).astype(np.float32)) for _ in range(size.steps)]


def ours(size: Size) -> Callable[[Batches], object]:
    """Return a training of ours, by passes over batches."""
    one = SparseAutoencoder(size.channels, size.units, generator=torch_generator(0))
    training = Training(one, lr=LR, l1=L1)
    return lambda batches: training.run(Listed(batches), passes=1)


def saelens(size: Size) -> Callable[[Batches], object]:
    """Return a training by SAELens' trainer; without sae-lens an ImportError."""
    from sae_lens import StandardTrainingSAE, StandardTrainingSAEConfig  # ty: ignore[import-not-found]
    from sae_lens.config import LoggingConfig, SAETrainerConfig  # ty: ignore[import-not-found]
    from sae_lens.training.sae_trainer import SAETrainer  # ty: ignore[import-not-found]

    one = StandardTrainingSAE(StandardTrainingSAEConfig(d_in=size.channels, d_sae=size.units, l1_coefficient=L1))
    quiet = LoggingConfig(log_to_wandb=False)

    def train(batches: Batches) -> None:
        config = SAETrainerConfig(
            total_training_samples=size.batch * len(batches),
            train_batch_size_samples=size.batch,
            lr=LR,
            lr_end=LR,
            logger=quiet,
        )
        provider = (torch.from_numpy(batch) for batch in batches)
        with contextlib.redirect_stderr(io.StringIO()):
            SAETrainer(config, one, provider).fit()

    return train


def plain(size: Size) -> Callable[[Batches], object]:
    """Return the obvious loop: the reference's loss, Adam, columns of length one."""
    bound = (6 / (size.units * size.channels)) ** 0.5
    bias, encoder_bias = torch.zeros(size.channels), torch.zeros(size.units)
    encoder = torch.empty(size.units, size.channels).uniform_(-bound, bound)
    decoder = F.normalize(torch.randn(size.channels, size.units), dim=0)
    weights = [bias, encoder_bias, encoder, decoder]
    optimizer = torch.optim.Adam([weight.requires_grad_() for weight in weights], lr=LR)

    def train(batches: Batches) -> None:
        for batch in batches:
            activations = torch.from_numpy(batch)
            codes = torch.relu((activations - bias) @ encoder.T + encoder_bias)
            missed = activations - (codes @ decoder.T + bias)
            loss = missed.square().mean() + L1 * codes.abs().sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()
            gradient = decoder.grad
            assert gradient is not None, "it was computed"
            with torch.no_grad():
                gradient -= decoder * (gradient * decoder).sum(dim=0, keepdim=True)
            optimizer.step()
            with torch.no_grad():
                decoder.div_(decoder.norm(dim=0, keepdim=True))

    return train


def rates(turns: dict[str, Callable[[], int]], size: Size) -> dict[str, float]:
    """Let each work in turns, and return the median of its samples a second; the first turn does not count."""
    found: dict[str, list[float]] = {name: [] for name in turns}
    with threadpool_limits(size.threads) if size.threads else contextlib.nullcontext():
        for turn in range(TURNS + 1):
            for name, work in turns.items():
                started = time.perf_counter()
                samples = work()
                if turn:
                    found[name].append(samples / (time.perf_counter() - started))
    return {name: median(values) for name, values in found.items()}


def bench_autoencoder(folder: Path) -> None:
    """Compare our training with SAELens', or with a plain loop."""
    try:
        import sae_lens  # ty: ignore[import-not-found]

        other, name = saelens, f"SAELens {sae_lens.__version__}"
    except ImportError:
        other, name = plain, "a plain loop (sae-lens is not installed)"
    print(f"training of sparse autoencoders: samples a second beside {name}")
    for size in SIZES:
        batches, trainings = made_batches(size), {"Domix": ours(size), name: other(size)}

        def turn(train: Callable[[Batches], object], batches: Batches = batches) -> int:
            train(batches)
            return sum(map(len, batches))

        found = rates({key: lambda train=train: turn(train) for key, train in trainings.items()}, size)
        say(f"{size.name}: Domix, the other", f"{found['Domix']:,.0f}, {found[name]:,.0f}")
        say(f"{size.name}: Domix over the other", f"{found['Domix'] / found[name]:.2f}", "1.0")


# -- the store ----------------------------------------------------------------------------------------------------


def write_store(folder: Path, rows: int, channels: int, batch: int = 4096) -> ActivationStore:
    """Write made activations as a pass of an encoder does; blocks of them repeat."""
    block = torch.from_numpy(np.random.default_rng(1).normal(size=(batch, channels)).astype(np.float32))

    def put(writer: StoreWriter) -> None:
        for start in range(writer.begin, rows, batch):
            some = block[: rows - start]
            writer.update(Activations(some, {"site": some}), np.arange(start, start + len(some)))

    return open_or_make(folder, ["site"], rows, key={}, make=put)


def bench_feed(folder: Path) -> None:
    """Compare training from a store with the same batches in memory."""
    print("training of sparse autoencoders: fed by a store on the disk, and by the same batches in memory")
    for size in SIZES:
        store = write_store(folder / size.name, size.batch * size.steps, size.channels)
        feed = StoreFeed([store], "site", size.batch, 0, unit_length=True)
        listed, train = Listed(list(feed.batches(0))), {}
        for name in ("store", "memory"):
            one = SparseAutoencoder(size.channels, size.units, generator=torch_generator(0))
            train[name] = Training(one, lr=LR, l1=L1)

        def run(name: str, feed: StoreFeed = feed, listed: Listed = listed, train: dict[str, Training] = train) -> int:
            train[name].run(feed if name == "store" else listed, passes=1)
            return feed.count

        found = rates({name: lambda name=name: run(name) for name in train}, size)
        say(f"{size.name}: store, memory", f"{found['store']:,.0f}, {found['memory']:,.0f}")
        say(f"{size.name}: store over memory", f"{found['store'] / found['memory']:.1%}", "95%")


def bench_store(folder: Path, sizes: Sequence[int] = (65_536, 131_072, 262_144), channels: int = 1024) -> None:
    """Write stores of several sizes and read their rows once, shuffled; memory must not grow with the size."""
    print(f"store of activations: {channels:,} channels in half precision")
    for rows in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as home:
            started = time.perf_counter()
            store = write_store(Path(home) / "store", rows, channels)
            written = time.perf_counter()
            seen = sum(len(batch) for batch in store.batches("site", size=4096, seed=0))
            read = time.perf_counter()
            gigabytes = seen * channels * 2 / 1e9
            say(f"{rows:,} rows, {gigabytes:.2f} GB: writing, s", f"{written - started:.1f}")
            say("  shuffled reading, s", f"{read - written:.1f}")
            say("  rows/s written, read", f"{rows / (written - started):,.0f}, {rows / (read - written):,.0f}")
            say("  peak memory, GB", f"{memory():.2f}", "the same at each size")


# -- shared features ----------------------------------------------------------------------------------------------


def bench_sharing(folder: Path, classes: int = 345, domains: int = 6, images: int = 50) -> None:
    """Go from stored activations to the matrices of all classes, without intervals."""
    channels, units = 1024, 4096
    count = classes * domains * images
    label, domain = (part.ravel() for part in np.indices((classes, domains, images))[:2])
    store = write_store(folder / "store", count, channels)
    one = SparseAutoencoder(channels, units, generator=torch_generator(0)).eval()
    print(f"shared features: {domains} domains x {classes} classes x {images} images, {units:,} units")
    started = time.perf_counter()
    codes = np.concatenate([encode(one, unit_rows(shard.astype(np.float32))) for shard in store.rows("site")])
    say("units' values from the store, s", f"{time.perf_counter() - started:.1f}")
    voting, comparing, computed = [], [], time.process_time()
    for _ in range(TURNS):
        started = time.perf_counter()
        cast = votes(codes)
        voted = time.perf_counter()
        found = share_classes(cast, label, domain, classes=classes, domains=domains, draws=0, permutations=0, seed=0)
        mean_over_classes(found.observed)
        voting.append(voted - started)
        comparing.append(time.perf_counter() - voted)
    say("votes of the images, s", f"{median(voting):.1f}")
    say("matrices of all classes, and their mean, s", f"{median(comparing):.1f}")
    say("from the units' values, s", f"{median(np.add(voting, comparing)):.1f}", "5")
    say("  of that computing, on one core, s", f"{(time.process_time() - computed) / TURNS:.1f}")
    say("peak memory, GB", f"{memory():.2f}")


BENCHES: dict[str, Callable[[Path], None]] = {
    "autoencoder": bench_autoencoder,
    "feed": bench_feed,
    "store": bench_store,
    "sharing": bench_sharing,
}


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit code."""
    return bench_data.run("bench_mechanisms", BENCHES, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
