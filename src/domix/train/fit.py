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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from domix.model.checkpoint import CONFIG, WEIGHTS, save_weights
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import Interrupted
from domix.runtime.files import atomic_folder, sha256_file, write_json, write_text
from domix.runtime.memory import keep_freed_memory
from domix.runtime.tracking.tracker import NullTracker, Tracker
from domix.train.failures import explain
from domix.train.feed import feed
from domix.train.machine import Machine, check_processes, choose
from domix.train.resume import Store, unpack_model
from domix.train.session import Log, Session, Validator, as_csv, check_finite
from domix.train.settings import DECIDING

if TYPE_CHECKING:
    import lightning
    from torch import nn

    from domix.data.loading.prefetch import Feed
    from domix.train.job import Job
    from domix.train.step_module import StepModule

FIRST_BATCH = "first_batch.png"

logger = logging.getLogger(__name__)


def fit(
    job: Job,
    *,
    out: Path,
    resume: Path,
    open_tracker: Callable[[], Tracker] = NullTracker,
    about: dict[str, Any],
    progress: bool = True,
    rates: Path | None = None,
    make_validator: Callable[[], Validator | None] | None = None,
    draw: Callable[[], bytes] | None = None,
) -> None:
    """Train, and publish the model folder `out`; `about` is added to its config.json.

    Args:
        resume: folder of this training's saved states, which must be another for every other training. It is used where
            it has a state, and removed when the model is published.
        open_tracker: makes what is told the log's rows; called in the first of several processes alone.
        progress: show a bar on stderr, where that is a terminal.
        rates: CSV file for how fast it went (`step, samples, samples_per_s, data_wait, devices`; None: it is not kept).
            It lies outside `out`, whose bytes equal trainings share.
        make_validator: makes what measures the model on the way; called in the first of several processes alone.
        draw: makes a PNG of the first batch, which is published with the model; likewise.

    Raises:
        Interrupted: SIGTERM, SIGINT or SIGUSR1 came; the state is saved, nothing is published.
        DomixError: training diverged, or the machine lacks what the recipe asks for.
    """
    machine = choose(job.trainer)
    set_up(machine, job)
    store = Store(resume, kept=job.trainer.keep_states, code=_code_of(job))
    state = store.latest()
    model = job.task.build(job.seed)
    if state is not None:
        logger.info("going on after step %d of %d", state.step, job.total)
        unpack_model(state.tensors, model, resume)
    notes = state.notes if state else {"rows": [], "validations": [], "rates": [], "measured": []}
    record = Log(notes["rows"], notes["validations"], notes["rates"], notes["measured"])
    session = Session(job, store, record, start=state.step if state else 0)
    trainer = make_trainer(machine, job, [session])
    module = job.task.module(job, model)
    if state is not None:
        module.restore(state.tensors)
        restore_scaler(trainer, notes["scaler"])
    tracker, image = NullTracker(), None
    if trainer.is_global_zero:
        store.prepare()
        if state is None and (epoch := job.checkpoints.get(0)) is not None:
            save_weights(model, store.checkpoint(epoch))
        session.validator = make_validator() if make_validator else None
        tracker = session.tracker = open_tracker()
        session.tell_again()
        if draw is not None:
            image = draw()
            tracker.file(FIRST_BATCH, image)
        if progress:
            session.show_progress()
    tracker.params(
        {"model": job.task.name, "seed": job.seed, "steps": job.total}
        | job.recipe.model_dump()
        | job.trainer.model_dump()
    )
    targets = job.task.targets(model)
    module.prepare(targets, machine)
    batches = job.batches(targets, start=session.step, rank=trainer.global_rank, world_size=trainer.world_size)
    try:
        if session.step < job.total:
            with feed(job, batches, machine, name=resume.name, process=trainer.local_rank) as source:
                _run(trainer, module, source, machine)
        if session.step < job.total:
            raise Interrupted(f"training ended after step {session.step} of {job.total}; run it again to continue")
        if trainer.is_global_zero:
            _publish(out, job, model, session, about, image)
            if rates is not None:
                write_text(rates, as_csv([row | {"devices": job.trainer.processes} for row in record.rates]))
            tracker.model(out)
    except BaseException:
        tracker.finish(succeeded=False)
        raise
    tracker.finish(succeeded=True)
    if trainer.is_global_zero:
        store.clear()  # last: a stop while the tracker ends costs no training


def _code_of(job: Job) -> str:
    """Return the digest of the code by which a training's weights come about."""
    task = type(job.task).__module__
    entry_points = [__name__, "domix.data.loading.image_sources", *([task] if task.startswith("domix.") else [])]
    return code_digest(*entry_points)


def set_up(machine: Machine, job: Job) -> None:
    """Set this process's threads and precision of float32 products."""
    if machine.threads:
        torch.set_num_threads(machine.threads)
    if machine.accelerator == "cpu":
        keep_freed_memory()  # every step asks for its activations anew
    torch.set_float32_matmul_precision("high" if job.trainer.tf32 and machine.accelerator == "gpu" else "highest")
    torch.backends.cudnn.allow_tf32 = job.trainer.tf32


def make_trainer(machine: Machine, job: Job, callbacks: Sequence[lightning.Callback] = ()) -> lightning.Trainer:
    """Return a Lightning trainer that does one pass, and nothing of its own accord.

    Raises:
        ParameterError: torchrun or srun has started another number of processes than the parameters ask for.
    """
    import lightning
    from lightning.pytorch.plugins.precision import MixedPrecision
    from lightning.pytorch.strategies import DDPStrategy

    check_processes(machine)
    gpu = machine.accelerator == "gpu"
    precision = machine.precision
    mixed = None if precision == "32-true" else MixedPrecision(precision, "cuda" if gpu else "cpu")
    several = machine.processes > 1
    exact = gpu and job.trainer.deterministic
    return lightning.Trainer(
        accelerator=machine.accelerator,
        devices=machine.devices,
        num_nodes=machine.nodes,
        strategy=DDPStrategy(gradient_as_bucket_view=True) if several else "auto",
        plugins=[mixed] if mixed else None,
        max_epochs=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,  # ours is the order of samples
        benchmark=gpu and not exact,
        deterministic="warn" if exact else None,
    )


def restore_scaler(trainer: lightning.Trainer, state: dict[str, float]) -> None:
    """Start from a saved state of the scaler of fp16 gradients."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is not None and state:
        scaler.load_state_dict(state)


def _run(trainer: lightning.Trainer, module: StepModule, batches: Feed, machine: Machine) -> None:
    """Train.

    Raises:
        DomixError: the memory does not suffice, or what the parameters ask for is not to be had here.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6.6 on torch 2.15
        warnings.filterwarnings("ignore", message=".*all_gather is deprecated.*")  # open_clip 3.3 on torch 2.15
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")  # as asked for
        try:
            trainer.fit(module, train_dataloaders=batches)
        except BaseException as error:
            # Lightning 2.6.6 leaves the processes that it started behind, where they would wait for this one for long.
            if (launcher := trainer.strategy.launcher) is not None:
                launcher.kill(signal.SIGKILL)
                getattr(launcher, "procs", []).clear()  # else its watcher soon kills this process, too
            if (told := explain(error, module.job, machine)) is not None:
                raise told from error
            raise


def _publish(
    out: Path, job: Job, model: nn.Module, session: Session, about: dict[str, Any], image: bytes | None
) -> None:
    """Write the model folder.

    Raises:
        DomixError: the last step spoiled the weights, or there is no room for the folder.
    """
    check_finite(model, session.step, job)
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
        recipe, trainer = job.recipe.model_dump(), {key: getattr(job.trainer, key) for key in DECIDING}
        config = job.task.describe() | {"recipe": recipe, "trainer": trainer, "seed": job.seed}
        write_json(folder / CONFIG, config | about)
        write_text(folder / "log.csv", as_csv(session.record.rows))
        if session.record.validations:
            write_text(folder / "validation.csv", as_csv(session.record.validations))
        if image is not None:
            (folder / FIRST_BATCH).write_bytes(image)
        done = {
            "steps": job.total,
            "samples": job.total * job.recipe.batch,
            "loss": session.record.rows[-1]["loss"],
            "weights_sha256": sha256_file(weights),
        }
        write_json(folder / "done.json", done)
