"""Embed the evaluation pictures and class prompts with one trained CLIP: `python -m stages.embed <mixture> <seed>`."""

import os

import torch

from domix.config import Params
from domix.evaluate.embed import embed_checkpoint
from stages.common import ARTIFACTS, run, run_name


def main(params: Params, mixture: str, seed: str) -> None:
    name = run_name(mixture, seed)
    embed_checkpoint(
        ARTIFACTS / "models" / "clip" / name,
        ARTIFACTS / "shards" / params.sources[0],
        ARTIFACTS / "embeddings" / "clip" / name,
        templates=params.embed.templates,
        batch=params.embed.batch,
        device="cuda" if torch.cuda.is_available() else "cpu",
        threads=os.cpu_count() or 1,
    )


if __name__ == "__main__":
    run(main)
