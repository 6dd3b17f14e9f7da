"""Train one CLIP model, from where a run of the same training was cut short, and publish it whole.

A training is one pass of Lightning over the batches of the steps that are left. Lightning's own checkpoints are not
used: they are pickles, and forget where in the data they were. Nor is its way to end: on SIGTERM Lightning 2.6.6 exits
with code 0, upon which DVC would take half a model for a whole one.
"""

from __future__ import annotations

import logging
import shutil
import signal
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from domix.data.loader import Augmentation, Batches, Pictures
from domix.model import clip
from domix.model.checkpoint import CONFIG, WEIGHTS, save_weights
from domix.model.tokens import tokenise
from domix.runtime.errors import DomixError, Interrupted, ParameterError
from domix.runtime.files import atomic_folder, sha256_file, write_json, write_text
from domix.runtime.tracking import NullTracker, Tracker
from domix.train.clip_module import ClipModule
from domix.train.machine import Machine, choose
from domix.train.resume import State, Store, unpack_model
from domix.train.schedule import WarmupCosine, step_of_epoch, total_steps, warmup_steps
from domix.train.session import Log, Session

if TYPE_CHECKING:
    import lightning

    from domix.config import Train
    from domix.model.clip import Clip

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training: everything that its weights depend on."""

    name: str  # of the model
    config: dict[str, Any]  # open_clip's configuration of it
    recipe: Train
    seed: int
    pictures: Pictures
    captions: Sequence[str]
    weights: Sequence[float] | None = None  # how often each sample is drawn, in proportion; None: all alike

    def __post_init__(self) -> None:
        """Refuse a batch that would hold a sample twice."""
        if self.recipe.batch > len(self.pictures):
            raise ParameterError(
                f"train.batch is {self.recipe.batch}, more than the mixture's {len(self.pictures)} samples: lower it"
            )

    @property
    def total(self) -> int:
        """Optimiser steps of the whole training."""
        recipe = self.recipe
        return total_steps(len(self.pictures), batch=recipe.batch, samples=recipe.samples, epochs=recipe.epochs)

    @property
    def checkpoints(self) -> dict[int, int]:
        """The epochs whose weights are asked for, by the step after which they are reached.

        Raises:
            ParameterError: the training ends before an epoch that is asked for.
        """
        steps = {}
        for epoch in self.recipe.checkpoints:
            step = step_of_epoch(epoch, count=len(self.pictures), batch=self.recipe.batch)
            if step > self.total:
                reached = self.total * self.recipe.batch / len(self.pictures)
                raise ParameterError(
                    f"train.checkpoints asks for epoch {epoch}, but training ends after {reached:.1f} epochs"
                )
            steps[step] = epoch
        return steps

    @property
    def schedule(self) -> WarmupCosine:
        """The learning rate by step."""
        return WarmupCosine(self.recipe.lr, warmup_steps(self.recipe.warmup, self.total), self.total)


def fit(
    job: Job,
    *,
    out: Path,
    resume: Path,
    open_tracker: Callable[[], Tracker] = NullTracker,
    about: dict[str, Any],
    progress: bool = True,
) -> None:
    """Train, and publish the model folder `out`; `about` is added to its config.json.

    Args:
        resume: folder of this training's saved states, which must be another for every other training. It is used where
            it has a state, and removed when the model is published.
        open_tracker: makes what is told the log's rows; called in the first of several processes alone.
        progress: show a bar on stderr, where that is a terminal.

    Raises:
        Interrupted: SIGTERM or SIGINT came; the state is saved, nothing is published.
        DomixError: training diverged, or the machine lacks what the recipe asks for.
    """
    machine = choose(job.recipe)
    if machine.threads:
        torch.set_num_threads(machine.threads)
    store = Store(resume)
    state = store.latest()
    model = clip.build(job.config, seed=job.seed)
    session = _session(job, store, state)
    if state is not None:
        logger.info("going on after step %d of %d", state.step, job.total)
        unpack_model(state.tensors, model)
    elif (epoch := job.checkpoints.get(0)) is not None:
        save_weights(model, store.checkpoint(epoch))
    trainer = make_trainer(machine, session)
    tracker = session.tracker = open_tracker() if trainer.is_global_zero else NullTracker()
    if progress and trainer.is_global_zero:
        session.show_progress()
    tracker.params({"model": job.name, "seed": job.seed} | asdict(job.recipe))
    module = make_module(job, model, state)
    batches = make_batches(job, model, start=session.step, trainer=trainer)
    try:
        if session.step < job.total:
            _run(trainer, module, batches)
        if session.step < job.total:
            raise Interrupted(f"training ended after step {session.step} of {job.total}; run it again to continue")
        if trainer.is_global_zero:
            _publish(out, job, model, session, about)
            store.clear()
    except BaseException:
        tracker.finish(succeeded=False)
        raise
    tracker.finish(succeeded=True)


def make_trainer(machine: Machine, *callbacks: lightning.Callback) -> lightning.Trainer:
    """Return a Lightning trainer that does one pass, and nothing of its own accord."""
    import lightning

    return lightning.Trainer(
        accelerator=machine.accelerator,
        devices=machine.devices,
        strategy="ddp" if machine.devices > 1 else "auto",
        precision=machine.precision,
        max_epochs=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,  # ours is the order of samples
        benchmark=False,
        deterministic="warn" if machine.accelerator == "gpu" else None,
    )


def make_module(job: Job, model: Clip, state: State | None) -> ClipModule:
    """Return the training step."""
    if job.recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    return ClipModule(
        model,
        job.recipe,
        name=job.name,
        size=clip.image_size(job.config),
        seed=job.seed,
        schedule=job.schedule,
        optimizer_state=state.tensors if state else None,
    )


def make_batches(job: Job, model: Clip, *, start: int, trainer: lightning.Trainer) -> Batches:
    """Return the batches of the steps from `start` on."""
    recipe = job.recipe
    return Batches(
        job.pictures,
        caption_tokens(job, model),
        Augmentation(
            scale=(recipe.crop_scale[0], recipe.crop_scale[1]),
            ratio=(recipe.crop_ratio[0], recipe.crop_ratio[1]),
            mirror=recipe.mirror,
        ),
        batch=recipe.batch,
        seed=job.seed,
        total=job.total,
        start=start,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
        weights=None if job.weights is None else torch.tensor(job.weights, dtype=torch.float64),
        pin=trainer.strategy.root_device.type == "cuda",
    )


def caption_tokens(job: Job, model: Clip) -> Tensor:
    """Return the captions' tokens int32 [N, L], no longer than the longest caption needs."""
    return clip.shortest_context(model, tokenise(clip.tokenizer(job.config), job.captions).int())


def _session(job: Job, store: Store, state: State | None) -> Session:
    return Session(
        store=store,
        record=Log(state.notes["rows"], state.notes["losses"]) if state else Log(),
        start=state.step if state else 0,
        total=job.total,
        count=len(job.pictures),
        batch=job.recipe.batch,
        checkpoints=job.checkpoints,
        save_every_s=job.recipe.save_every_s,
        log_every=job.recipe.log_every,
    )


def _run(trainer: lightning.Trainer, module: ClipModule, batches: Batches) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6.6 on torch 2.15
        warnings.filterwarnings("ignore", message=".*all_gather is deprecated.*")  # open_clip 3.3 on torch 2.15
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")  # as asked for
        try:
            trainer.fit(module, train_dataloaders=batches)
        except BaseException:
            # Lightning 2.6.6 leaves the processes that it started behind, where they would wait for this one for long.
            if (launcher := trainer.strategy.launcher) is not None:
                launcher.kill(signal.SIGKILL)
                getattr(launcher, "procs", []).clear()  # else its watcher soon kills this process, too
            raise


def _publish(out: Path, job: Job, model: Clip, session: Session, about: dict[str, Any]) -> None:
    """Write the model folder.

    Raises:
        DomixError: the last step spoiled the weights.
    """
    if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
        raise DomixError("training diverged in its last step: the weights are not finite; lower train.lr")
    with atomic_folder(out) as folder:
        weights = folder / WEIGHTS
        save_weights(model, weights)
        for step, epoch in session.checkpoints.items():
            kept = folder / "checkpoints" / session.store.checkpoint(epoch).name
            if step == job.total:
                save_weights(model, kept)
            else:
                kept.parent.mkdir(exist_ok=True)
                shutil.copyfile(session.store.checkpoint(epoch), kept)
        config = {"name": job.name, "model": job.config, "recipe": asdict(job.recipe), "seed": job.seed}
        write_json(folder / CONFIG, config | about)
        write_text(folder / "log.csv", session.record.text())
        done = {
            "steps": job.total,
            "samples": job.total * job.recipe.batch,
            "loss": session.record.rows[-1][3],
            "weights_sha256": sha256_file(weights),
        }
        write_json(folder / "done.json", done)
