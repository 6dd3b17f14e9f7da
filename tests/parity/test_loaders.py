"""The same batches from every loader: in memory is the reference, for all processes and wherever a training starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from domix.data.loading.fetcher import Progress, filled
from domix.data.loading.loader import Batch, Batches
from domix.data.loading.packed_images import PackedImages
from domix.data.loading.prefetch import prefetched
from domix.train.fit import fit
from tests.packed_sources import KINDS, batches_of, equal, images_from, make_job, write_sources


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    write_sources(folder)
    return folder


def trainer_of(root: Path, loader: str) -> dict[str, Any]:
    """Return the trainer's parameters for a loader, `stream` with all of its sources or one."""
    urls = {source: f"file://{root}/shards/{source}" for source in KINDS}
    if loader == "stream one":
        urls.pop("draw")
    return {"loader": loader.split()[0], "shards": urls if loader.startswith("stream") else {}}


@contextmanager
def served(batches: Batches, *, workers: int) -> Iterator[Iterator[Batch]]:
    """Iterate over batches as a training does."""
    spool = batches.images.spool if isinstance(batches.images, PackedImages) else None
    if spool is None:
        with prefetched(batches, workers=workers, pin=False, ahead=True) as source:
            yield iter(source)
        return
    progress = Progress(spool, 0, batches.start)
    with (
        prefetched(batches, workers=workers, pin=False, ahead=True, tell=progress) as source,
        filled(spool, batches, progress, "training", processes=1),
    ):
        yield iter(source)


WAYS = [("resident", 0), ("cache", 0), ("shards", 0), ("shards", 2), ("stream", 0), ("stream", 2), ("stream one", 2)]


@pytest.mark.parametrize(("loader", "workers"), WAYS)
@pytest.mark.parametrize("part", [{}, {"rank": 1, "world_size": 2}, {"start": 6}, {"start": 7, "world_size": 2}])
def test_every_loader_gives_the_same_batches(root: Path, loader: str, workers: int, part: dict[str, int]) -> None:
    reference = batches_of(root, images_from(root, "resident"), **part)
    images = images_from(root, **trainer_of(root, loader))
    with served(batches_of(root, images, **part), workers=workers) as coming:
        found = list(coming)
    assert len(found) == 10 - part.get("start", 0)
    assert all(equal(one, other) for one, other in zip(found, reference, strict=True))


@pytest.mark.parametrize("loader", ["resident", "cache", "shards"])
def test_epochs_that_drop_their_last_samples_are_the_same_too(root: Path, loader: str) -> None:
    reference = batches_of(root, images_from(root, "resident"), drop_last=True, window=None)
    batches = batches_of(root, images_from(root, loader), drop_last=True, window=None)
    assert all(equal(one, other) for one, other in zip(batches, reference, strict=True))


@pytest.mark.parametrize(("loader", "workers"), WAYS[1:])
def test_trainings_end_with_the_same_weights(root: Path, tmp_path: Path, loader: str, workers: int) -> None:
    for name, changes in {"reference": {"loader": "resident"}, "other": trainer_of(root, loader)}.items():
        job = make_job(root, workers=workers, samples=8 * 4, **changes)
        fit(job, out=tmp_path / name, resume=tmp_path / f"{name}-resume", about={})
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("reference", "other"))
    assert one == other
    assert not list((root / "spool").glob("*-resume*"))


def test_what_lies_outside_of_a_training_is_read_piece_by_piece(root: Path) -> None:
    batches = batches_of(root, images_from(root, **trainer_of(root, "stream")))
    assert equal(batches.make(3), batches_of(root, images_from(root, "resident")).make(3))
    assert not (root / "spool" / "training").exists()
