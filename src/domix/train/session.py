"""What surrounds the training steps: the log, saved states, asked-for checkpoints, signals, the progress bar.

None of it decides the weights. A session goes on where a saved state left it: its log rows and the losses since the
last of them are part of the state.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import lightning
import torch
from torch import Tensor

from domix.data.loader import Batch
from domix.model.checkpoint import save_weights
from domix.runtime.errors import DomixError, Interrupted
from domix.runtime.tracking import NullTracker, Tracker
from domix.train.clip_module import ClipModule
from domix.train.resume import State, Store, pack

COLUMNS = ("step", "epoch", "samples", "loss", "lr", "logit_scale", "samples_per_s", "data_wait")

logger = logging.getLogger(__name__)


@dataclass
class Log:
    """The rows of log.csv, and what has happened since the last."""

    rows: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of the steps since the last row

    def text(self) -> str:
        """Return the file."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self.rows)
        return file.getvalue()


class Session(lightning.Callback):
    """Follows one training, from step `start` to `total`."""

    def __init__(
        self,
        *,
        store: Store,
        record: Log,
        start: int,
        total: int,
        count: int,
        batch: int,
        checkpoints: dict[int, int],
        save_every_s: float,
        log_every: int,
    ) -> None:
        """Train on `count` samples; `checkpoints` says after which step which epoch's weights are kept."""
        self.store, self.record = store, record
        self.tracker: Tracker = NullTracker()
        self.step, self.total, self.count, self.batch = start, total, count, batch
        self.checkpoints, self.save_every_s, self.log_every = checkpoints, save_every_s, log_every
        self._bar: Any = None
        self._fresh: list[Tensor] = []  # losses that still lie on the device: reading one waits for it
        self._timed = 0  # steps since the last row that this process took
        self._stop = False
        self._handlers: dict[int, Any] = {}

    def show_progress(self) -> None:
        """Show a bar on stderr, counted in samples; nothing where stderr is no terminal."""
        from tqdm import tqdm

        done, whole = self.step * self.batch, self.total * self.batch
        self._bar = tqdm(total=whole, initial=done, unit=" samples", unit_scale=True, file=sys.stderr, disable=None)

    # -- signals

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take the signals over from Lightning 2.6.6, which on SIGTERM ends the process as if all were well."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._ask_to_stop)
        self._saved_at = self._row_at = self._idle_since = time.perf_counter()
        self._waited = 0.0

    def _ask_to_stop(self, number: int, frame: object) -> None:
        self._stop = True

    def _release_signals(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Give the signals back."""
        self._release_signals()
        if self._bar is not None:
            self._bar.close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self.on_train_end(trainer, pl_module)

    # -- steps

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Note how long the step has waited for its batch, augmentation included."""
        self._waited += time.perf_counter() - self._idle_since

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Log, save and stop where it is time to."""
        assert isinstance(pl_module, ClipModule)
        self.step = batch.step + 1
        self._timed += 1
        self._fresh.append(_mean_over_processes(trainer, outputs["loss"].detach()))
        if self.step % self.log_every == 0 or self.step == self.total:
            self._write_row(trainer, pl_module)
        if (epoch := self.checkpoints.get(self.step)) is not None and trainer.is_global_zero:
            save_weights(pl_module.model, self.store.checkpoint(epoch))
        stop = self._stop_everywhere(trainer)
        due = time.perf_counter() - self._saved_at >= self.save_every_s
        if (stop or due) and self.step < self.total:
            self._save(trainer, pl_module)
        if self._bar is not None:
            self._bar.update(self.batch)
        if stop and self.step < self.total:
            raise Interrupted(f"stopped after step {self.step} of {self.total}; run it again to continue from there")
        self._idle_since = time.perf_counter()

    def _stop_everywhere(self, trainer: lightning.Trainer) -> bool:
        """Tell whether to stop; several processes must agree, and do so when they log."""
        if trainer.world_size == 1:
            return self._stop
        if self.step % self.log_every:
            return False
        return trainer.strategy.reduce_boolean_decision(self._stop, all=False)

    def _read_losses(self, module: ClipModule) -> None:
        """Fetch losses from the device and check them.

        Raises:
            DomixError: training has diverged.
        """
        values = torch.stack(self._fresh).tolist() if self._fresh else []
        first = self.step - len(values)
        self._fresh = []
        for offset, value in enumerate(values):
            if not math.isfinite(value):
                at = first + offset
                raise DomixError(
                    f"training diverged: the loss is {value} at step {at + 1} of {self.total}, where the learning rate"
                    f" is {module.schedule(at):.3g}; lower train.lr or set train.clip_grad to 1.0"
                )
        self.record.losses.extend(values)

    def _write_row(self, trainer: lightning.Trainer, module: ClipModule) -> None:
        self._read_losses(module)
        losses, now = self.record.losses, time.perf_counter()
        took = now - self._row_at
        samples = self.step * self.batch
        row: list[float] = [
            self.step,
            round(samples / self.count, 4),
            samples,
            sum(losses) / len(losses),
            module.schedule(self.step - 1),
            module.model.logit_scale.exp().item(),
            round(self._timed * self.batch / took, 1),
            round(self._waited / took, 4),
        ]
        self.record.rows.append(row)
        self.record.losses = []
        self._row_at, self._waited, self._timed = now, 0.0, 0
        if trainer.is_global_zero:
            self.tracker.metrics(dict(zip(COLUMNS[1:], row[1:], strict=True)), self.step)
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{row[3]:.3f}", refresh=False)

    def _save(self, trainer: lightning.Trainer, module: ClipModule) -> None:
        self._read_losses(module)
        if trainer.is_global_zero:
            notes = {"rows": self.record.rows, "losses": self.record.losses}
            self.store.save(State(self.step, pack(module.model, trainer.optimizers[0]), notes))
            logger.info("step %d of %d saved", self.step, self.total)
        self._saved_at = time.perf_counter()


def _mean_over_processes(trainer: lightning.Trainer, loss: Tensor) -> Tensor:
    return loss if trainer.world_size == 1 else trainer.strategy.reduce(loss, reduce_op="mean")
