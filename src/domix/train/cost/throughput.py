"""How fast a training is, how much of its device it uses, and what trainings will take before they start.

What a sample costs comes from domix.train.cost.work; how fast a device can be from its maker's figures, where the
device is known, and else from a measurement.
"""

from __future__ import annotations

import heapq
import re
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from domix.runtime.errors import DataError

TERA = 1e12
KNOWN = ("step", "samples", "samples_per_s", "data_wait")  # what a training notes of its rate
SIDES = {"cpu": 1024, "cuda": 8192}  # of the matrices that are multiplied to measure a device


# -- devices


@dataclass(frozen=True)
class Peak:
    """The most that a device computes, in TFLOP/s, with dense matrices and sums in float32."""

    float32: float
    tf32: float
    fp16: float
    bf16: float | None  # None: the device has no such units


# Makers' data sheets; boards of the same chip differ in power, so the more particular name comes first. A name must end
# where its pattern does, if that ends with $: a laptop's GPU is a smaller one of the same name.
PEAKS = {
    r"\bH200 NVL": Peak(60, 417.5, 835.5, 835.5),
    r"\bG?H200\b": Peak(67, 494.7, 989.4, 989.4),
    r"\bH100 NVL": Peak(60, 417.5, 835.5, 835.5),
    r"\bH100 PCIe": Peak(51.2, 378, 756, 756),
    r"\bH100\b": Peak(67, 494.7, 989.4, 989.4),
    r"\bA100\b": Peak(19.5, 156, 312, 312),
    r"\bL40S\b": Peak(91.6, 183, 362, 362),
    r"\bV100-PCIE": Peak(14, 14, 112, None),
    r"\bV100\b": Peak(15.7, 15.7, 125, None),
    r"\bRTX 4090$": Peak(82.6, 82.6, 165.2, 165.2),
    r"\bRTX 3090$": Peak(35.6, 35.6, 71, 71),
}


def peak_flops(device: str, precision: str, *, tf32: bool) -> float | None:
    """Return the FLOP/s that a device of this name can reach in a precision of domix.train.machine; None: unknown."""
    for pattern, peak in PEAKS.items():
        if re.search(pattern, device):
            at_most = {
                "32-true": peak.tf32 if tf32 else peak.float32,
                "bf16-mixed": peak.bf16,
                "16-mixed": peak.fp16,
            }[precision]
            return None if at_most is None else at_most * TERA
    return None


def matmul_flops(device: torch.device, precision: str, *, seconds: float) -> float:
    """Measure the FLOP/s of large matrix products for so many seconds; the best of several counts."""
    side = SIDES[device.type]
    dtype = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}[precision]
    left, right = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    end = now(device) + seconds
    while best == float("inf") or time.perf_counter() < end:
        started = now(device)
        left @ right
        best = min(best, now(device) - started)
    return 2 * side**3 / best


def now(device: torch.device) -> float:
    """Return the time, in seconds, at which the device has done what it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def device_name(device: torch.device) -> str:
    """Return what to call a device in a table."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


# -- what a training did


@dataclass(frozen=True)
class Measured:
    """What a training's log says.

    Attributes:
        samples_per_s: over all devices.
        data_wait: share of the time for which a step waited for its batch, augmentation included.
    """

    samples_per_s: float
    data_wait: float


def measure(rows: Sequence[Mapping[str, float]], *, skip: int = 1) -> Measured:
    """Return the rate over all rows of a log but the first few, in which caches fill and kernels are chosen.

    Raises:
        DataError: there is no row, or rows lack a column.
    """
    if not rows or any(key not in rows[0] for key in KNOWN):
        raise DataError(f"the log of the training has no rows with {', '.join(KNOWN)}")
    ends = [0.0, *(row["samples"] for row in rows)]
    counted = range(skip, len(rows)) if len(rows) > skip else range(len(rows))
    samples = [rows[i]["samples"] - ends[i] for i in counted]
    seconds = [done / rows[i]["samples_per_s"] for done, i in zip(samples, counted, strict=True)]
    waited = sum(rows[i]["data_wait"] * spent for i, spent in zip(counted, seconds, strict=True))
    return Measured(sum(samples) / sum(seconds), waited / sum(seconds))


def utilisation(samples_per_s: float, useful: float, peak: float) -> float:
    """Return the share of the peak FLOP/s that goes into the model (MFU): three forward passes a sample, of FLOP each.

    What is computed twice to save memory does not count (Chowdhery et al. 2022, "PaLM", appendix B).
    """
    return samples_per_s * useful / peak


@dataclass(frozen=True)
class Memory:
    """The most memory that this process has taken, in bytes; `gpu` is 0 without one."""

    host: int
    gpu: int


def peak_memory() -> Memory:
    """Return the most memory that this process has taken so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Memory(host, torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0)


# -- what trainings will take


@dataclass(frozen=True)
class Cost:
    """What one training takes on `devices` devices at once."""

    seconds: float
    devices: int

    @property
    def device_hours(self) -> float:
        """Hours, counted once for every device."""
        return self.seconds * self.devices / 3600


def predict(samples: int, *, samples_per_s: float, devices: int) -> Cost:
    """Return what a training of so many samples takes at a rate a device, where devices do not hinder each other."""
    return Cost(samples / (samples_per_s * devices), devices)


def sweep_seconds(costs: Sequence[Cost], slots: int) -> float:
    """Return how long trainings take, of which `slots` run at once, the next one wherever one has ended."""
    ends = [0.0] * slots
    for cost in costs:
        heapq.heapreplace(ends, ends[0] + cost.seconds)
    return max(ends)
