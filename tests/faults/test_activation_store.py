"""A store of activations: whole or continued, of one encoder, larger than memory, each batch drawn once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from domix.activations.store import ActivationStore, StoreWriter, open_or_make
from domix.encoders.encoder import Activations
from domix.runtime.errors import DataError
from domix.runtime.files import write_json

COUNT, SHARD = 53, 10
KEY = {"weights": "abc"}
VALUES = {name: np.random.default_rng(n).normal(size=(COUNT, 3 + n)).astype(np.float32) for n, name in enumerate("ab")}


def feed(writer: StoreWriter, batch: int = 7, last: int = COUNT) -> None:
    for start in range(0, last, batch):
        rows = np.arange(start, min(start + batch, last))
        writer.update(Activations(torch.empty(0), {n: torch.from_numpy(v[rows]) for n, v in VALUES.items()}), rows)


def made(folder: Path, *, batch: int = 7) -> ActivationStore:
    return open_or_make(folder, list("ab"), COUNT, key=KEY, make=lambda writer: feed(writer, batch), shard=SHARD)


@pytest.mark.parametrize("batch", [1, 7, 10, 53])
def test_a_store_holds_every_image_in_half_precision(tmp_path: Path, batch: int) -> None:
    store = made(tmp_path / "store", batch=batch)
    assert (store.sites, store.count, store.shards) == (("a", "b"), COUNT, 6)
    for name, values in VALUES.items():
        np.testing.assert_array_equal(np.concatenate(list(store.rows(name))), values.astype(np.float16))


def test_batches_hold_each_image_once_in_an_order_of_the_seed(tmp_path: Path) -> None:
    store = made(tmp_path / "store")
    drawn = [np.concatenate(list(store.batches("b", size=8, seed=seed, mixed=2))) for seed in (0, 0, 1)]
    expected = VALUES["b"].astype(np.float16)
    for found in drawn:
        assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, expected.tolist()))
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[0], expected)
    assert [len(batch) for batch in store.batches("b", size=8, seed=0, mixed=2)] == [8] * 6 + [5]


def test_images_are_taken_in_any_order_from_any_shards(tmp_path: Path) -> None:
    store, rows = made(tmp_path / "store"), np.array([52, 3, 19, 3, 10, 50])
    np.testing.assert_array_equal(store.take("b", rows), VALUES["b"].astype(np.float16)[rows])
    with pytest.raises(DataError, match="has no site 'c': it has a, b"):
        store.take("c", rows)


@pytest.mark.parametrize("channels", [1, 2, 64])
def test_quantiles_are_numpys_over_all_images(tmp_path: Path, channels: int) -> None:
    shares = [0.0, 0.05, 0.5, 0.999, 1.0]
    found = made(tmp_path / "store").quantiles("b", shares, channels=channels)
    np.testing.assert_array_equal(found, np.quantile(VALUES["b"].astype(np.float16).astype(float), shares, axis=0))


POSITIONS = {"a": 4, "b": 1}
MAPS = {"a": np.random.default_rng(7).normal(size=(COUNT, 4, 3)).astype(np.float32), "b": VALUES["b"][:, None]}


def feed_positions(writer: StoreWriter, batch: int = 7) -> None:
    for start in range(0, COUNT, batch):
        rows = np.arange(start, min(start + batch, COUNT))
        writer.update(Activations(torch.empty(0), {n: torch.from_numpy(v[rows]) for n, v in MAPS.items()}), rows)


@pytest.mark.parametrize("batch", [1, 7, 53])
def test_every_position_is_a_row_of_its_image(tmp_path: Path, batch: int) -> None:
    store = open_or_make(
        tmp_path, list("ab"), COUNT, key=KEY, make=lambda w: feed_positions(w, batch), shard=SHARD, positions=POSITIONS
    )
    assert (store.positions, store.size("a"), store.size("b"), store.shards) == (POSITIONS, 4 * COUNT, COUNT, 6)
    expected = MAPS["a"].astype(np.float16).reshape(-1, 3)
    np.testing.assert_array_equal(np.concatenate(list(store.rows("a"))), expected)
    assert [len(rows) for rows in store.rows("a")] == [40] * 5 + [12]
    rows = np.array([4 * 52 + 3, 0, 41, 4 * 19 + 2])
    np.testing.assert_array_equal(store.take("a", rows), MAPS["a"].astype(np.float16)[rows // 4, rows % 4])
    drawn = np.concatenate(list(store.batches("a", size=16, seed=0, mixed=2)))
    assert sorted(map(tuple, drawn.tolist())) == sorted(map(tuple, expected.tolist()))


def test_a_store_of_positions_goes_on_where_it_was_and_is_another_than_that_of_means(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, list("ab"), COUNT, key=KEY, shard=SHARD, positions=POSITIONS)
    rows = np.arange(25)
    writer.update(Activations(torch.empty(0), {n: torch.from_numpy(v[rows]) for n, v in MAPS.items()}), rows)
    again = StoreWriter(tmp_path, list("ab"), COUNT, key=KEY, shard=SHARD, positions=POSITIONS)
    assert again.begin == 20
    feed_positions(again)
    again.result()
    np.testing.assert_array_equal(
        np.concatenate(list(ActivationStore(tmp_path).rows("a"))), MAPS["a"].astype(np.float16).reshape(-1, 3)
    )
    with pytest.raises(DataError, match="of another encoder, images or sites"):
        StoreWriter(tmp_path, list("ab"), COUNT, key=KEY, shard=SHARD)


def test_images_of_other_sizes_are_refused(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, ["a"], 2, key=KEY, positions={"a": 4})
    with pytest.raises(DataError, match=r"site a has 5 positions in an image, and 4 in others: a store is of"):
        writer.update(Activations(torch.empty(0), {"a": torch.zeros(2, 5, 3)}), np.arange(2))


def test_batches_larger_than_shards_are_cut(tmp_path: Path) -> None:
    store = open_or_make(tmp_path, ["a"], COUNT, key=KEY, make=lambda w: feed(w, COUNT), shard=4)
    assert store.shards == 14 and [len(rows) for rows in store.rows("a")] == [4] * 13 + [1]
    np.testing.assert_array_equal(np.concatenate(list(store.rows("a"))), VALUES["a"].astype(np.float16))


def test_rows_behind_two_to_the_31_bytes_and_elements_are_found(tmp_path: Path) -> None:
    """Shards of 4.3 GB with nothing in them but some rows: files with holes, which take no room."""
    images, positions, width, shards = 2**19, 4, 1024, 3
    places = np.array([3 * 2**21 - 1, 2**21, 2**21 - 1, 2**22 + 1, 5])
    values = np.arange(len(places) * width).reshape(-1, width) % 199
    folder = tmp_path / "a"
    folder.mkdir()
    for shard in range(shards):
        shape = (images * positions, width)
        array = np.lib.format.open_memmap(folder / f"{shard:05d}.npy", mode="w+", dtype=np.float16, shape=shape)
        here = places // len(array) == shard
        array[places[here] % len(array)] = values[here]
        array.flush()
        (tmp_path / f"{shard:05d}.done").touch()
    about = {"count": shards * images, "shard": images, "widths": {"a": width}, "positions": {"a": positions}}
    write_json(tmp_path / "about.json", about | {"key": {}})
    store = ActivationStore(tmp_path)
    assert store.array("a", 0).nbytes > 2**31 and store.size("a") * width > 2**32
    np.testing.assert_array_equal(store.take("a", places), values)
    np.testing.assert_array_equal(store.take("a", places.astype(np.int32)), values)
    held = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    assert held < 2**24


def test_a_kill_costs_no_more_than_a_shard(tmp_path: Path) -> None:
    """A process that is killed for good while it writes; another goes on, to the same bytes."""
    code = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from pathlib import Path
        from tests.faults.test_activation_store import *
        import domix.activations.store as module
        whole = module.np.save
        def save(file, values):
            whole(file, values)
            if file.name.count("/b/") and len(list(Path({str(tmp_path)!r}).glob("store/*.done"))) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        module.np.save = save
        made(Path({str(tmp_path)!r}) / "store")
    """)
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with pytest.raises(DataError, match="there is no store of activations in"):
        ActivationStore(tmp_path / "store")
    begun: list[int] = []

    def go_on(writer: StoreWriter) -> None:
        begun.append(writer.begin)
        feed(writer)

    store = open_or_make(tmp_path / "store", list("ab"), COUNT, key=KEY, make=go_on, shard=SHARD)
    assert begun == [30]
    whole = made(tmp_path / "whole")
    for name in "ab":
        assert np.array_equal(np.concatenate(list(store.rows(name))), np.concatenate(list(whole.rows(name))))


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(DataError, match="holds activations of another encoder, images or sites"):
        StoreWriter(tmp_path, list("ab"), COUNT, key={"weights": "other"}, shard=SHARD)
    with pytest.raises(DataError, match="of another encoder, images or sites"):
        StoreWriter(tmp_path, ["a"], COUNT, key=KEY, shard=SHARD)


def test_damage_is_named(tmp_path: Path) -> None:
    store = made(tmp_path)
    with pytest.raises(DataError, match=r"has no site 'c': it has a, b"):
        store.array("c", 0)
    path = tmp_path / "a" / "00002.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"00002\.npy is damaged"):
        list(store.rows("a"))
    (tmp_path / "00004.done").unlink()
    with pytest.raises(DataError, match="was cut short after 4 of 6 parts"):
        ActivationStore(tmp_path)
    (tmp_path / "about.json").write_text("{}")
    with pytest.raises(DataError, match="does not describe a store"):
        ActivationStore(tmp_path)


def test_too_few_images_and_values_that_are_not_finite_make_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 40 of 53 images"):
        open_or_make(tmp_path, list("ab"), COUNT, key=KEY, make=lambda writer: feed(writer, 8, 40), shard=SHARD)
    writer = StoreWriter(tmp_path / "nan", ["a"], 2, key=KEY)
    with pytest.raises(DataError, match="the activations of site a are not finite"):
        writer.update(Activations(torch.empty(0), {"a": torch.full((2, 3), torch.nan)}), np.arange(2))
    with pytest.raises(DataError, match="of site a reach 7e\\+04, and half precision 65504: read another site"):
        writer.update(Activations(torch.empty(0), {"a": torch.tensor([[1.0, 2.0], [-7e4, 0]])}), np.arange(2))
