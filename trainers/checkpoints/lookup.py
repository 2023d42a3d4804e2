"""Where a run's checkpoints and records are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from glmha.shared.checkpoint_files import CheckpointError
from trainers.checkpoints.folders import beside
from trainers.checkpoints.run_checkpoint import read_run_checkpoint

_PATTERNS = {"last": "last*.ckpt", "best": "best-*.ckpt"}


def log_folder(trainer: Trainer) -> Path:
    """The folder of this run's records, the same on all processes, which all have to ask for it."""
    return Path(trainer.log_dir or trainer.default_root_dir)


Kept = Literal["last", "best"]


def newest_checkpoint(kind: Kept, trainer: Trainer) -> Path:
    """Find the checkpoint that the newest run with this trainer's logger left, whatever its version.

    Args:
        kind: what `LastCheckpoint` or `BestCheckpoint` keeps.
        trainer: its logger's folder and name say where runs are kept, without TensorBoard and CSV `default_root_dir`.

    Returns:
        The file; of several best ones, the one with the best score.

    Raises:
        FileNotFoundError: if there is none.
        CheckpointError: if there are several best ones, and the newest cannot be read.
    """
    name, folder = _PATTERNS[kind], _runs_folder(trainer)
    found = kept_checkpoints(kind, trainer)
    if not found:
        raise FileNotFoundError(
            f"ckpt_path ({kind}) must have been kept by an earlier run of this recipe, got no {name} below {folder}: "
            "give the file itself, or leave ckpt_path out"
        )
    newest = found[-1]
    if kind == "best" and len(found) > 1:
        # The newest knows which was the best when it was written, in its own folder or in that of the run that it goes
        # on from; all of them may have been moved since.
        states = read_run_checkpoint(newest).get("callbacks", {})
        best = next((state for key, state in states.items() if str(key).startswith("BestCheck")), None)
        if not (isinstance(best, Mapping) and isinstance(best.get("best_model_path"), str)):
            raise CheckpointError(
                f"ckpt_path (best) must be named by the newest best checkpoint ({newest}): give a file"
            )
        return beside(newest, Path(best["best_model_path"]))
    return newest


def kept_checkpoints(kind: Kept, trainer: Trainer) -> list[Path]:
    """Find all checkpoints that runs with this trainer's logger left, the newest at the end."""
    found = (path for folder in run_folders(trainer) for path in folder.glob(f"checkpoints/{_PATTERNS[kind]}"))
    return sorted(found, key=lambda path: path.stat().st_mtime)


def run_folders(trainer: Trainer) -> list[Path]:
    """Find the log folders of all runs with this trainer's logger."""
    folder = _runs_folder(trainer)
    return list(folder.glob("*")) if isinstance(trainer.logger, TensorBoardLogger | CSVLogger) else [folder]


def _runs_folder(trainer: Trainer) -> Path:
    logger = trainer.logger
    return Path(logger.root_dir if isinstance(logger, TensorBoardLogger | CSVLogger) else trainer.default_root_dir)
