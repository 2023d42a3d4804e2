"""Which checkpoint a run goes on from."""

import os

from lightning.pytorch import Trainer

from trainers.checkpoints.lookup import kept_checkpoints, run_folders
from trainers.checkpoints.stopping import job
from trainers.runs.run import read_run


def requeued() -> bool:
    """Whether this process is of a SLURM job that was started before."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def checkpoint_to_resume(given: str | None, trainer: Trainer) -> str | None:
    """The checkpoint to go on from, if any: of a job that was started again, that job's own.

    Args:
        given: as `--ckpt_path`; "auto" for the newest of all, if there is one.
        trainer: its logger says where runs are kept.
    """
    found = kept_checkpoints("last", trainer)
    if requeued():
        runs = {folder: run for folder in run_folders(trainer) if (run := read_run(folder)) and run.job == job()}
        own = [path for path in found if path.parents[1] in runs]
        if own:
            return str(own[-1])
        if runs:
            # It ended before it had a checkpoint of its own, and begins again where it began.
            return max(runs.values(), key=lambda run: run.started).resumed_from
    if given == "auto":
        return str(found[-1]) if found else None
    return given
