"""Train a sparse autoencoder on activations, from memory or from stores, and go on exactly where a kill stopped it.

Shapes: B batch, C channels, F units.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domix.activations.store import ActivationStore, shuffled_batches
from domix.analyses.sae.autoencoder import SparseAutoencoder, losses, nested_reconstruction
from domix.analyses.sae.resampling import DEAD, resample
from domix.runtime.errors import DataError
from domix.runtime.seeds import derive, numpy_generator, torch_generator
from domix.train.resume import State, Store, pack, unpack_model, unpack_optimizer

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 120.0
FIRED = "fired"


class Feed(Protocol):
    """Where activations come from: the same in every pass, in another order."""

    @property
    def count(self) -> int:
        """Activations a pass."""
        ...

    def batches(self, number: int) -> Iterator[NDArray[np.float32]]:
        """Yield the activations [B, C] of a pass, from 0; equal numbers give equal batches."""
        ...


@dataclass(frozen=True)
class ArrayFeed:
    """Activations [N, C] in memory."""

    activations: NDArray[np.floating]
    size: int
    seed: int

    @property
    def count(self) -> int:
        """N."""
        return len(self.activations)

    def batches(self, number: int) -> Iterator[NDArray[np.float32]]:
        """Yield them in an order of the pass' own."""
        order = numpy_generator(self.seed, "pass", number).permutation(self.count)
        for start in range(0, self.count, self.size):
            yield self.activations[order[start : start + self.size]].astype(np.float32)


@dataclass(frozen=True)
class StoreFeed:
    """Activations of one site in stores, which may be larger than memory."""

    stores: Sequence[ActivationStore]
    site: str
    size: int
    seed: int
    unit_length: bool = False  # scale each to length one

    @property
    def count(self) -> int:
        """Rows in all stores."""
        return sum(store.size(self.site) for store in self.stores)

    def batches(self, number: int) -> Iterator[NDArray[np.float32]]:
        """Yield those of all stores in one order, see ActivationStore.batches."""
        for batch in shuffled_batches(self.stores, self.site, size=self.size, seed=derive(self.seed, "pass", number)):
            found = batch.astype(np.float32)
            yield unit_rows(found) if self.unit_length else found


def unit_rows(activations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale activations [B, C] to length one; those that are zero stay so."""
    return activations / np.maximum(np.linalg.norm(activations, axis=1, keepdims=True), 1e-12)


class Training:
    """An autoencoder, its optimiser, and what has been seen."""

    def __init__(
        self, autoencoder: SparseAutoencoder, *, lr: float, l1: float = 0.0, nested: Sequence[int] = ()
    ) -> None:
        """Begin with Adam at its usual betas.

        Args:
            autoencoder: on its device.
            lr: learning rate.
            l1: weight of the units' summed values in the loss.
            nested: numbers of first units that must reconstruct by themselves (see nested_reconstruction).
        """
        self.autoencoder, self.l1, self.nested = autoencoder.train(), l1, nested
        self.optimizer = torch.optim.Adam(autoencoder.parameters(), lr=lr, fused=True)
        self.fired = torch.zeros(autoencoder.units, dtype=torch.int64, device=autoencoder.tied_bias.device)
        self.finite = torch.ones((), dtype=torch.bool, device=autoencoder.tied_bias.device)

    def step(self, activations: Tensor) -> Tensor:
        """Take one step on a batch [B, C], and return its mean loss."""
        codes, reconstructed = self.autoencoder(activations)
        loss = losses(activations, codes, reconstructed).total(self.l1).mean()
        if self.nested:
            whole = (activations - reconstructed).square().mean()
            loss = loss - whole + nested_reconstruction(self.autoencoder, activations, codes, self.nested).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.autoencoder.unit_columns()
        with torch.no_grad():
            self.fired += (codes > 0).sum(dim=0)
            self.finite &= loss.isfinite()
        return loss.detach()

    def run(
        self,
        feed: Feed,
        *,
        passes: int,
        resample_every: int | None = None,
        resample_from: int = 819_200,
        seed: int = 0,
        states: Store | None = None,
        save_every_s: float = SAVE_EVERY_S,
    ) -> None:
        """Let all activations pass several times.

        Args:
            feed: of the activations.
            passes: how many times.
            resample_every: activations after which dead units get new directions; None: never. They get none when
                fewer than that are still to come, for they would not be learnt.
            resample_from: activations of the next pass that new directions are drawn from.
            seed: of these draws.
            states: where to save what is needed to go on, and to look for it; None: nowhere.
            save_every_s: seconds between two saved states.

        Raises:
            DataError: activations or weights are not finite, or no unit fires any more.
        """
        device, total = self.autoencoder.tied_bias.device, passes * feed.count
        begin, skip, seen, since = self._restore(states)
        saved = time.monotonic()
        for number in range(begin, passes):
            for place, batch in enumerate(feed.batches(number)):
                if number == begin and place < skip:
                    continue
                self.step(torch.from_numpy(batch).to(device))
                seen, since = seen + len(batch), since + len(batch)
                if resample_every is not None and since >= resample_every and seen + resample_every <= total:
                    self._resample(feed, number + 1, resample_from, seed=derive(seed, "resample", seen))
                    since = 0
                if states is not None and time.monotonic() - saved >= save_every_s:
                    self._save(states, number, place + 1, seen, since)
                    saved = time.monotonic()
            self._require_finite(number)
        if not self._fires(feed, passes - 1):
            raise DataError(f"all {len(self.fired)} units of the sparse autoencoder are dead: {DEAD}")

    @torch.no_grad()
    def _fires(self, feed: Feed, number: int) -> bool:
        """Tell whether any unit fires on the first batch of a pass, by the weights as they are now."""
        batch = torch.from_numpy(next(iter(feed.batches(number)))).to(self.fired.device)
        codes = self.autoencoder.eval().encode(batch)
        self.autoencoder.train()
        return bool((codes > 0).any())

    def _resample(self, feed: Feed, number: int, rows: int, *, seed: int) -> None:
        self._require_finite(number - 1)
        size, parts = 0, []
        for batch in feed.batches(number):
            parts.append(batch)
            size += len(batch)
            if size >= rows:
                break
        drawn_from = torch.from_numpy(np.concatenate(parts)[:rows]).to(self.fired.device)
        generator = torch_generator(seed)
        changed = resample(self.autoencoder, self.optimizer, drawn_from, self.fired, l1=self.l1, generator=generator)
        logger.info("%d of %d units were dead and have new directions", changed, len(self.fired))
        self.fired.zero_()

    def _require_finite(self, number: int) -> None:
        if not bool(self.finite):
            raise DataError(
                f"the loss of the sparse autoencoder was not finite in pass {number + 1}: activations are NaN or "
                "infinite, or lr is too high"
            )

    def _save(self, states: Store, number: int, place: int, seen: int, since: int) -> None:
        tensors = pack(self.autoencoder, self.optimizer) | {FIRED: self.fired}
        states.save(State(seen, tensors, {"pass": number, "place": place, "since": since}))

    def _restore(self, states: Store | None) -> tuple[int, int, int, int]:
        """Return pass, batches of it that are done, activations seen, and of these since the last resampling."""
        if states is None:
            return 0, 0, 0, 0
        states.prepare()
        state = states.latest()
        if state is None:
            return 0, 0, 0, 0
        unpack_model(state.tensors, self.autoencoder, states.folder)
        unpack_optimizer(state.tensors, self.autoencoder, self.optimizer)
        self.fired.copy_(state.tensors[FIRED])
        logger.info("the training of the sparse autoencoder goes on after %d activations", state.step)
        return state.notes["pass"], state.notes["place"], state.step, state.notes["since"]
