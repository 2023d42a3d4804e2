"""Where a run's checkpoints and records are."""

from pathlib import Path

from lightning.pytorch import Trainer


def log_folder(trainer: Trainer) -> Path:
    """The folder of this run's records, the same on all processes, which all have to ask for it."""
    return Path(trainer.log_dir or trainer.default_root_dir)
