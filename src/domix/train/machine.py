"""What a training asks of the machine: devices, precision, threads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from domix.runtime.errors import ParameterError

if TYPE_CHECKING:
    from domix.train.settings import Trainer

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class Machine:
    """Where and how to compute."""

    accelerator: Literal["cpu", "gpu"]
    devices: int
    nodes: int
    precision: Precision
    threads: int  # a process computes with; 0 = leave PyTorch's

    @property
    def processes(self) -> int:
        """Devices over all machines, with a process each."""
        return self.devices * self.nodes


def choose(trainer: Trainer) -> Machine:
    """Return what `trainer` asks for, its `auto`s decided for this machine.

    Raises:
        ParameterError: a GPU is asked for and absent, or too few are present.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if trainer.accelerator == "gpu" and not present:
        raise ParameterError("trainer.accelerator is gpu, but PyTorch sees no CUDA GPU here: set it to auto or cpu")
    gpu = trainer.accelerator != "cpu" and present > 0
    if gpu and trainer.devices > present:
        raise ParameterError(f"trainer.devices is {trainer.devices}, but PyTorch sees {present} GPUs here: lower it")
    threads = trainer.threads
    if not threads and trainer.devices > 1:
        threads = max(1, (os.cpu_count() or 1) // trainer.devices)
    return Machine("gpu" if gpu else "cpu", trainer.devices, trainer.nodes, _precision(trainer, gpu), threads)


def check_processes(machine: Machine) -> None:
    """Check that torchrun or srun, if one of them has started this process, has started as many as are needed.

    Lightning 2.6.6 does not where one device is asked for: each process would train, and write, for itself.

    Raises:
        ParameterError: it has started more or fewer.
    """
    from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    for environment in (TorchElasticEnvironment, SLURMEnvironment):
        if not environment.detect():
            continue
        try:
            found = environment().world_size()
        except RuntimeError:  # SLURM's --ntasks
            raise ParameterError(
                f"SLURM was told --ntasks: say --nodes {machine.nodes} --ntasks-per-node {machine.devices} instead"
            ) from None
        if found != machine.processes:
            raise ParameterError(
                f"{found} processes were started, but trainer.devices x trainer.nodes is {machine.processes}: make the"
                " two equal"
            )


def _precision(trainer: Trainer, gpu: bool) -> Precision:
    if trainer.precision == "auto":
        native = bf16_on_gpu() if gpu else bf16_on_cpu()
        return "bf16-mixed" if native else "32-true"
    named: dict[str, Precision] = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
    return named[trainer.precision]


def bf16_on_gpu() -> bool:
    """Tell whether the GPU computes bf16 natively: NVIDIA's do from Ampere on."""
    return torch.cuda.get_device_capability()[0] >= 8


def bf16_on_cpu() -> bool:
    """Tell whether the CPU computes bf16 natively; where it does not, bf16 is slower than float32."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
