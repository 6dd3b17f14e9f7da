"""What surrounds the training steps: the log, saved states, asked-for checkpoints, signals, the progress bar.

None of it decides the weights. A session goes on where a saved state left it: its log rows and what the steps
since the last of them have measured are part of the state.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import lightning
import torch
from torch import Tensor

from domix.data.loading.loader import Batch
from domix.model.checkpoint import save_weights
from domix.runtime.errors import DomixError, Interrupted
from domix.runtime.tracking.tracker import NullTracker, Tracker
from domix.train.resume import State, Store, pack
from domix.train.step_module import StepModule

if TYPE_CHECKING:
    from domix.train.job import Job

logger = logging.getLogger(__name__)


Row = dict[str, float]
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # SIGUSR1: what SLURM is asked to send before a job's end


@dataclass
class Log:
    """The rows of log.csv, those of validation.csv, how fast it went, and what has happened since the last row.

    Rates stand apart: equal trainings have equal rows, but no two go equally fast.
    """

    rows: list[Row] = field(default_factory=list)
    validations: list[Row] = field(default_factory=list)
    rates: list[Row] = field(default_factory=list)  # beside each of `rows`: samples_per_s, data_wait
    measured: list[Row] = field(default_factory=list)  # by each step since the last row: loss, and what its module adds


def as_csv(rows: list[Row]) -> str:
    """Return rows as a CSV file; what a row lacks of the others' keys is left empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


@dataclass(frozen=True)
class Validator:
    """Measures the model every so many steps and after the last; must leave weights and random numbers as they were."""

    every: int
    measure: Callable[[torch.nn.Module], Row]


class Session(lightning.Callback):
    """Follows one training, from step `start` on."""

    def __init__(self, job: Job, store: Store, record: Log, *, start: int, validator: Validator | None = None) -> None:
        """Go on with `record`, saving states in `store`."""
        self.store, self.record, self.validator = store, record, validator
        self.tracker: Tracker = NullTracker()
        self.step, self.total, self.length, self.batch = start, job.total, job.length, job.recipe.batch
        self.section, self.checkpoints = job.task.section, job.checkpoints
        self.save_every_s, self.log_every = job.trainer.save_every_s, job.trainer.log_every
        self._bar: Any = None
        self._measures: list[str] = []  # the loss, and what else each step measures
        self._fresh: list[Tensor] = []  # what still lies on the device: reading it waits for the step
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
        for number in SIGNALS:
            self._handlers[number] = signal.signal(number, self._ask_to_stop)
        self._check_start(trainer)
        self._saved_at = self._row_at = self._idle_since = time.perf_counter()
        self._waited = 0.0

    def _check_start(self, trainer: lightning.Trainer) -> None:
        """Check that all processes start from the same step: each reads the saved states that its own machine has.

        Raises:
            DomixError: they do not.
        """
        if trainer.world_size == 1:
            return
        mine = torch.tensor(float(self.step), device=trainer.strategy.root_device)
        if trainer.strategy.reduce(mine.clone(), reduce_op="mean").item() != self.step:
            raise DomixError(
                f"the processes would go on from different steps, this one after {self.step}: let all machines share"
                f" the folder {self.store.folder}, or remove it everywhere"
            )

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
        assert isinstance(pl_module, StepModule)
        self.step = batch.step + 1
        self._timed += 1
        values = {"loss": outputs["value"]} | {k: v for k, v in outputs.items() if k not in ("loss", "value")}
        self._measures = list(values)
        self._fresh.append(_mean_over_processes(trainer, torch.stack(list(values.values()))))
        if self.step % self.log_every == 0 or self.step == self.total:
            self._write_row(trainer, pl_module)
        if trainer.is_global_zero:
            self._measure(pl_module)
            if (epoch := self.checkpoints.get(self.step)) is not None:
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

    def _read_measures(self, module: StepModule) -> None:
        """Fetch from the device what steps have measured, and check their losses.

        Raises:
            DomixError: training has diverged.
        """
        steps = torch.stack(self._fresh).tolist() if self._fresh else []
        first = self.step - len(steps)
        self._fresh = []
        for offset, (loss, *_) in enumerate(steps):
            if not math.isfinite(loss):
                at = first + offset
                raise DomixError(
                    f"training diverged: the loss is {loss} at step {at + 1} of {self.total}, where the learning rate"
                    f" is {module.schedule(at):.3g}; lower {self.section}.lr or set {self.section}.clip_grad to 1.0"
                )
        self.record.measured.extend(dict(zip(self._measures, values, strict=True)) for values in steps)

    def _write_row(self, trainer: lightning.Trainer, module: StepModule) -> None:
        self._read_measures(module)
        steps, now = self.record.measured, time.perf_counter()
        means = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}
        took = now - self._row_at
        samples = self.step * self.batch
        row: Row = {
            "step": self.step,
            "epoch": round(samples / self.length, 4),
            "samples": samples,
            "loss": means.pop("loss"),
            "lr": module.schedule(self.step - 1),
            **means,
            **module.notes(),
        }
        rate = {
            "step": self.step,
            "samples": samples,
            "samples_per_s": round(self._timed * self.batch / took, 1),
            "data_wait": round(self._waited / took, 4),
        }
        self.record.rows.append(row)
        self.record.rates.append(rate)
        self.record.measured = []
        self._row_at, self._waited, self._timed = now, 0.0, 0
        if trainer.is_global_zero:
            self._tell(row | rate)
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)

    def tell_again(self) -> None:
        """Tell the tracker the rows from before a stop, which it may have missed."""
        for row, rate in zip(self.record.rows, self.record.rates, strict=True):
            self._tell(row | rate)
        for row in self.record.validations:
            self._tell(row, "validation/")

    def _tell(self, row: Row, prefix: str = "") -> None:
        self.tracker.metrics({prefix + key: row[key] for key in row if key != "step"}, int(row["step"]))

    def _measure(self, module: StepModule) -> None:
        """Validate where it is time to; the time that it takes counts for no row's rate."""
        if self.validator is None or (self.step % self.validator.every and self.step != self.total):
            return
        started = time.perf_counter()
        row = {"step": self.step, **self.validator.measure(module.model)}
        self.record.validations.append(row)
        self._tell(row, "validation/")
        self._row_at += time.perf_counter() - started

    def _save(self, trainer: lightning.Trainer, module: StepModule) -> None:
        """Save the state; where there is no room for it, go on without: an older one is better than no training.

        Raises:
            DomixError: training has diverged; what it came to is not worth saving, an earlier state stays.
        """
        self._read_measures(module)
        if trainer.is_global_zero:
            check_finite(module.model, self.step, module.job)
            record = self.record
            notes: dict[str, Any] = {
                "rows": record.rows,
                "validations": record.validations,
                "rates": record.rates,
                "measured": record.measured,
                "scaler": scaler_state(trainer),
            }
            try:
                self.store.save(State(self.step, pack(module.model, trainer.optimizers[0]), notes))
                logger.info("step %d of %d saved", self.step, self.total)
            except (OSError, DomixError) as error:
                logger.warning("training goes on, but the state after step %d is not saved: %s", self.step, error)
        self._saved_at = time.perf_counter()


def check_finite(model: torch.nn.Module, step: int, job: Job) -> None:
    """Check weights and buffers: a step may spoil them although its loss is a number.

    Raises:
        DomixError: they are not finite.
    """
    for name, tensor in model.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise DomixError(
                f"training diverged: {name} is not finite after step {step} of {job.total}; lower"
                f" {job.task.section}.lr or set {job.task.section}.clip_grad to 1.0"
            )


def scaler_state(trainer: lightning.Trainer) -> dict[str, float]:
    """Return the state of the scaler of fp16 gradients, empty where there is none."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return {} if scaler is None else scaler.state_dict()


def _mean_over_processes(trainer: lightning.Trainer, values: Tensor) -> Tensor:
    return values if trainer.world_size == 1 else trainer.strategy.reduce(values, reduce_op="mean")
