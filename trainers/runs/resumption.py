"""The checkpoint from which a run is resumed."""

import os

from lightning.pytorch import Trainer

from trainers.checkpoints.stopping import job
from trainers.runs.kept import kept_checkpoints, run_folders
from trainers.runs.run import read_run


def requeued() -> bool:
    """Return whether this process belongs to a SLURM job that was started before."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def checkpoint_to_resume(given: str | None, trainer: Trainer) -> str | None:
    """Return the checkpoint to resume from, if any; a job that was started again takes its latest one.

    Args:
        given: the value of `--ckpt_path`; "auto" for the newest of all checkpoints, if there is one.
        trainer: its logger names the folder of runs.
    """
    found = kept_checkpoints("last", trainer)
    if requeued():
        runs = {folder: run for folder in run_folders(trainer) if (run := read_run(folder)) and run.job == job()}
        own = [path for path in found if path.parents[1] in runs]
        if own:
            return str(own[-1])
        if runs:
            # The job ended before its first checkpoint, so it starts again from the checkpoint of its first start.
            return max(runs.values(), key=lambda run: run.started).resumed_from
    if given == "auto":
        return str(found[-1]) if found else None
    return given
