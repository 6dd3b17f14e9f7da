"""What a training asks of the machine: devices, precision, threads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from domix.runtime.errors import ParameterError

if TYPE_CHECKING:
    from domix.config import Train


@dataclass(frozen=True)
class Machine:
    """Where and how to compute."""

    accelerator: Literal["cpu", "gpu"]
    devices: int
    precision: Literal["32-true", "bf16-mixed"]
    threads: int  # a process computes with; 0 = leave PyTorch's


def choose(recipe: Train) -> Machine:
    """Return what `recipe` asks for, its `auto`s decided for this machine.

    Raises:
        ParameterError: a GPU is asked for and absent, or too few are present.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if recipe.accelerator == "gpu" and not present:
        raise ParameterError("train.accelerator is gpu, but PyTorch sees no CUDA GPU here: set it to auto or cpu")
    gpu = recipe.accelerator != "cpu" and present > 0
    if gpu and recipe.devices > present:
        raise ParameterError(f"train.devices is {recipe.devices}, but PyTorch sees {present} GPUs here: lower it")
    native = bf16_on_gpu() if gpu else bf16_on_cpu()
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and native)
    threads = recipe.threads
    if not threads and recipe.devices > 1:
        threads = max(1, (os.cpu_count() or 1) // recipe.devices)
    return Machine("gpu" if gpu else "cpu", recipe.devices, "bf16-mixed" if bf16 else "32-true", threads)


def bf16_on_gpu() -> bool:
    """Tell whether the GPU computes bf16 natively: NVIDIA's do from Ampere on."""
    return torch.cuda.get_device_capability()[0] >= 8


def bf16_on_cpu() -> bool:
    """Tell whether the CPU computes bf16 natively; where it does not, bf16 is slower than float32."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
