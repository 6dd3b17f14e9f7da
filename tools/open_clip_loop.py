"""open_clip's own trainer, to compare with: its arguments, factory, data set, transforms, loader, loss, training loop.

Nothing of it is rewritten, but for what stands in the middle of its `main`, a function of 500 lines that also writes
checkpoints: the optimiser's groups and the choices that it makes of cuDNN. Its loader is wrapped to read the clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domix.model.clip import CONFIGS
from domix.train.cost.throughput import now


@dataclass(frozen=True)
class Asked:
    """What open_clip is to train, and how."""

    model: str
    table: Path  # of paths and captions, as `domix export` writes it
    batch: int
    workers: int
    precision: str  # open_clip's word: fp32, amp_bf16, ...
    warm: int  # steps before those that count
    steps: int


class Clock:
    """Stands before a loader, repeats its epochs for as many steps as are wanted, and times all but the first."""

    def __init__(self, loader: Any, asked: Asked, device: torch.device) -> None:
        """Wrap `loader`; the other attributes are those that open_clip's loop reads."""
        self.num_batches = asked.warm + asked.steps
        self.num_samples = self.num_batches * asked.batch
        self.dataloader = self
        self._loader, self._warm, self._device = loader, asked.warm, device
        self.seconds = self.waited = 0.0

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the order is the loader's."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches. The loop asks for one when it has done with the one before."""
        batches: Iterator[tuple[Tensor, Tensor]] = iter(())
        for number in range(self.num_batches):
            if number == self._warm:
                self.seconds, self.waited = -now(self._device), 0.0
            started = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                batches = iter(self._loader)
                batch = next(batches)
            self.waited += time.perf_counter() - started
            yield batch
        self.seconds += now(self._device)


def measure(asked: Asked) -> dict[str, float]:
    """Train for some steps; return samples a second and the share of the time for which the loop waited for data."""
    import open_clip
    from open_clip_train.data import get_data
    from open_clip_train.params import parse_args
    from open_clip_train.scheduler import cosine_lr
    from open_clip_train.train import train_one_epoch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":  # as open_clip_train.main
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
    open_clip.add_model_config(CONFIGS)
    given = ["--dataset-type", "csv", "--train-data", str(asked.table)]
    given += ["--csv-img-key", "filepath", "--csv-caption-key", "title", "--model", asked.model]
    given += ["--batch-size", str(asked.batch), "--workers", str(asked.workers), "--precision", asked.precision]
    given += ["--aug-cfg", "scale=(0.9, 1.0)"]
    args = parse_args(given)
    args.device, args.distributed, args.rank, args.local_rank, args.world_size = str(device), False, 0, 0, 1
    args.distill, args.horovod, args.wandb = False, False, False
    model, train_transform, other = open_clip.create_model_and_transforms(
        args.model, precision=args.precision, device=device, aug_cfg=args.aug_cfg, output_dict=True
    )
    data = get_data(args, (train_transform, other), tokenizer=open_clip.get_tokenizer(args.model))
    clock = Clock(data["train"].dataloader, asked, device)
    optimizer = _optimizer(model, args)
    schedule = cosine_lr(optimizer, args.lr, args.warmup, clock.num_batches)
    scaler = torch.amp.GradScaler(device.type) if args.precision == "amp" else None
    loss = open_clip.ClipLoss(local_loss=args.local_loss, gather_with_grad=args.gather_with_grad, cache_labels=True)
    train_one_epoch(model, {"train": clock}, loss, 0, optimizer, scaler, schedule, None, args)
    return {
        "samples_per_s": asked.steps * asked.batch / clock.seconds,
        "data_wait": clock.waited / clock.seconds,
    }


def _optimizer(model: torch.nn.Module, args: Any) -> torch.optim.AdamW:
    """Make the optimiser as open_clip_train.main does."""

    def exclude(n: str, p: Tensor) -> bool:
        return p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n

    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for n, p in named if exclude(n, p)], "weight_decay": 0.0},
            {"params": [p for n, p in named if not exclude(n, p)], "weight_decay": args.wd},
        ],
        lr=args.lr,
        betas=(args.beta1, args.beta2),
        eps=args.eps,
    )
