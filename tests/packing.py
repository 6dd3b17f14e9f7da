"""Packing for tests: samples held in memory, and the bundled kind of set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domix.data.pack.drivers import get_driver
from domix.data.pack.packing import PackStats, Settings, pack
from domix.data.sources.contract import Part, RawSample
from domix.data.sources.registry import get_source


@dataclass(frozen=True)
class Held:
    """A part whose samples lie in memory."""

    held: tuple[RawSample, ...]

    def samples(self) -> Iterator[RawSample]:
        """Yield them."""
        yield from self.held


def sample(key: str, data: bytes, **changes: Any) -> RawSample:
    """Return a training sample: a real axe, unless changed."""
    fields = {"domain": "real", "class_name": "axe", "label": 0, "split": "train", "drawing": key}
    return RawSample(key=key, data=data, **fields | changes)


def pack_parts(
    parts: Sequence[Part],
    out: Path,
    *,
    driver: str = "processes",
    workers: int = 1,
    max_bad_share: float = 0.0,
    progress: Callable[[PackStats], object] | None = None,
    staging: Path | None = None,
    **settings: Any,
) -> PackStats:
    """Pack parts into `out`, with a short side of 16 pixels unless `settings` say otherwise."""
    out.mkdir(parents=True, exist_ok=True)
    return pack(
        Settings(**{"source": "toy", "size": 16} | settings),
        parts,
        out,
        staging=staging or out.parent / f".{out.name}-staging",
        driver=get_driver(driver, workers),
        max_bad_share=max_bad_share,
        progress=progress,
    )


def pack_samples(samples: Sequence[RawSample], out: Path, **options: Any) -> PackStats:
    """Pack samples as one part."""
    return pack_parts([Held(tuple(samples))] if samples else [], out, **options)


def pack_set(folder: Path, out: Path, *, poses: int = 2, size: int = 8, **options: Any) -> PackStats:
    """Pack a set of the bundled kind in parts of `size` samples."""
    return pack_parts(get_source("emoji").parts(folder, size=size, poses=poses), out, **options)


def samples_of(source: str, root: Path, *, poses: int = 1, size: int = 8) -> list[RawSample]:
    """Return all samples of a source."""
    return [sample for part in get_source(source).parts(root, size=size, poses=poses) for sample in part.samples()]
