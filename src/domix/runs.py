"""The runs of a study: which models there are, as every table, folder and sentence names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CLIP, SUPERVISED, PUBLIC = "clip", "supervised", "public"  # kinds of models: the last was not trained here
KINDS = (CLIP, SUPERVISED, PUBLIC)


@dataclass(frozen=True)
class Run:
    """One model of a study, as every table, folder and sentence names it."""

    kind: str  # one of KINDS
    mixture: str  # of a public model: its name
    seed: int  # of a public model: 0

    @property
    def name(self) -> str:
        """Name its folder below artifacts/models/<kind> and artifacts/embeddings/<kind>."""
        return self.mixture if self.kind == PUBLIC else f"{self.mixture}-s{self.seed}"

    @property
    def keys(self) -> dict[str, Any]:
        """The columns that name it in a table."""
        return {"kind": self.kind, "mixture": self.mixture, "seed": self.seed}

    def __str__(self) -> str:
        """Name it in a sentence."""
        return f"{'' if self.kind == CLIP else f'{self.kind} '}{self.mixture} seed {self.seed}"


def list_runs(
    mixtures: Sequence[str], seeds: Sequence[int], *, supervised: Sequence[str] = (), public: Sequence[str] = ()
) -> tuple[Run, ...]:
    """List the runs that parameters ask for: of every mixture and seed a CLIP model, of some a classifier as well."""
    trained = ((CLIP, mixtures), (SUPERVISED, supervised))
    runs = [Run(kind, mixture, seed) for kind, names in trained for mixture in names for seed in seeds]
    return (*runs, *(Run(PUBLIC, name, 0) for name in public))
