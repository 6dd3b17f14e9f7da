"""Who has started this process: SLURM's srun, or a shell in an allocation, which has its variables as well."""

import os

STEP = ("SLURM_STEP_ID", "SLURM_STEPID")  # what srun sets, and neither salloc nor sbatch
TERMINAL = "SLURM_PTY_PORT"  # of srun --pty: an interactive shell and all that is typed into it


def stand_alone() -> None:
    """Unless srun has started this process, keep Lightning from taking it for the first of SLURM_NTASKS.

    Lightning goes by SLURM_NTASKS, which a shell of salloc and a script of sbatch have as well, and lets a job of this
    name be.
    """
    started = any(name in os.environ for name in STEP) and TERMINAL not in os.environ
    if "SLURM_NTASKS" in os.environ and not started:
        os.environ["SLURM_JOB_NAME"] = "interactive"
