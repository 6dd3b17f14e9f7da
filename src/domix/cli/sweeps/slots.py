"""The slots of this machine: its GPUs, as many a training as it uses; without any, shares of its cores."""

from __future__ import annotations

import os
from collections.abc import Mapping

from domix.runtime.errors import ParameterError
from domix.runtime.memory import free_memory
from domix.runtime.slots import Slot
from domix.train.settings import Trainer

NEED = 2 << 30  # bytes that a training on a CPU may take: the default study's take 1.4 GB


def find_slots(
    trainer: Trainer, *, wanted: int | None, per_gpu: int, environment: Mapping[str, str], trainings: int
) -> tuple[Slot, ...]:
    """Return the slots in which trainings run.

    Args:
        trainer: says how many devices or threads a training uses.
        wanted: so many slots; None: one for each group of GPUs; without any as many as there are trainings, cores (one
            thread computes more on a core of its own than two on two) and memory for them.
        per_gpu: trainings that share a GPU.
        environment: whose CUDA_VISIBLE_DEVICES and OMP_NUM_THREADS are heeded.
        trainings: that are to run.

    Raises:
        ParameterError: there are fewer GPUs than asked for, or a training needs several machines.
    """
    if trainer.nodes > 1:
        raise ParameterError(
            f"trainer.nodes is {trainer.nodes}, but a sweep uses this machine alone: set it to 1, or write a file for"
            " SLURM (--write slurm)"
        )
    gpus = [] if trainer.accelerator == "cpu" else visible_gpus(environment)
    if gpus:
        return _on_gpus(gpus, trainer.devices, wanted, per_gpu, environment)
    if per_gpu != 1:
        raise ParameterError("--per-gpu is for GPUs, and PyTorch sees none here: leave it out")
    cores = len(os.sched_getaffinity(0))
    room = min(cores // max(1, trainer.threads), free_memory() // NEED, trainings)
    count = wanted or max(1, room)
    threads = trainer.threads or cores // count
    return tuple(Slot(f"cpu {number}", _threads(threads, environment)) for number in range(count))


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """List the GPUs that PyTorch sees, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]


def _on_gpus(
    gpus: list[str], devices: int, wanted: int | None, per_gpu: int, environment: Mapping[str, str]
) -> tuple[Slot, ...]:
    groups = [",".join(gpus[at : at + devices]) for at in range(0, len(gpus) - devices + 1, devices)]
    if not groups:
        raise ParameterError(f"trainer.devices is {devices}, but PyTorch sees {len(gpus)} GPUs here: lower it")
    places = [group for _ in range(per_gpu) for group in groups]  # every GPU once before any twice
    count = wanted or len(places)
    if count > len(places):
        raise ParameterError(f"--slots is {count}, but there is room for {len(places)}: lower it, or raise --per-gpu")
    cores = len(os.sched_getaffinity(0))
    threads = _threads(cores // (count * devices), environment)
    shares = [f" ({number // len(groups) + 1})" if per_gpu > 1 else "" for number in range(count)]
    return tuple(
        Slot(f"gpu {group}{share}", {"CUDA_VISIBLE_DEVICES": group} | threads)
        for group, share in zip(places, shares, strict=False)
    )


def _threads(count: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Share the cores out; what the user has set stands."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {} if "OMP_NUM_THREADS" in environment else dict.fromkeys(names, str(max(1, count)))
