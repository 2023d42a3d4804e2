"""The end of a run on a signal: exit statuses, SLURM's jobs and their requeueing."""

import os
import signal
import subprocess

from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Trainer

TERMINATED = 128 + signal.SIGTERM
"""Exit status of a run that SIGTERM ended and that has saved where it was: 143, as shells have it."""
REQUEUED = 75
"""Exit status of a run whose job is queued again: EX_TEMPFAIL, so that a script does not take it for finished."""


def job() -> str | None:
    """The SLURM job that this process belongs to; a requeued one keeps its number."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return os.environ.get("SLURM_JOB_ID") if array is None else f"{array}_{task}"


def at_its_end(trainer: Trainer, epochs: int) -> bool:
    """Whether training has come to its limit of steps, or to that of epochs with so many of them ended."""
    limits = ((trainer.max_steps, trainer.global_step), (trainer.max_epochs, epochs))
    return any(limit is not None and -1 < limit <= taken for limit, taken in limits)


def requeue_signal(trainer: Trainer) -> signal.Signals | None:
    """The signal by which SLURM announces that a job has to end; None elsewhere."""
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
        return environment.requeue_signal
    return None


def requeue() -> str | None:
    """Let SLURM queue this job again; return the reason if that failed."""
    command = ["scontrol", "requeue", str(job())]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"`{' '.join(command)}` failed: {said.strip()}"
    return None
