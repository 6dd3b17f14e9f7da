"""What can go wrong inside a training step and be mended by a parameter, told as one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from domix.runtime.errors import DomixError

if TYPE_CHECKING:
    from domix.train.job import Job
    from domix.train.machine import Machine

EXHAUSTED = ("can't allocate memory", "ALLOC_FAILED", "out of memory")  # what PyTorch and CUDA's libraries say


def explain(error: BaseException, job: Job, machine: Machine) -> DomixError | None:
    """Return what to change so that `error` does not come again; None where no parameter helps."""
    if isinstance(error, DomixError):
        return None
    if _is_exhaustion(error):
        return DomixError(_exhausted(job, machine))
    if job.trainer.compile and _is_compilation(error):
        reason = str(error).strip().partition("\n")[0]
        return DomixError(f"trainer.compile is true, but torch.compile failed ({reason}): set it to false")
    return None


def _is_exhaustion(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in EXHAUSTED)


def _is_compilation(error: BaseException) -> bool:
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)


def _exhausted(job: Job, machine: Machine) -> str:
    recipe, trainer, section, size = job.recipe, job.trainer, job.task.section, job.task.size
    part = recipe.batch // machine.processes // recipe.accumulate
    ways = [f"lower {section}.batch", f"raise {section}.accumulate"]
    if not trainer.grad_checkpointing:
        ways.append("set trainer.grad_checkpointing to true")
    if machine.precision == "32-true":
        ways.append("set trainer.precision to bf16")
    where = "the GPU's memory" if machine.accelerator == "gpu" else "the memory"
    return (
        f"{where} does not hold {part} images of {size} x {size} pixels at a time ({section}.batch {recipe.batch} /"
        f" {machine.processes} devices / {section}.accumulate {recipe.accumulate}):"
        f" {', '.join(ways[:-1])} or {ways[-1]}; states saved before stay"
    )
