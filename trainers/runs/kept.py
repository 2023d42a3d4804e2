"""The checkpoints that runs keep, from the oldest run to the newest."""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from glmha.shared.checkpoint_files import CheckpointError
from trainers.checkpoints.folders import beside, step_of
from trainers.checkpoints.run_checkpoint import read_run_checkpoint
from trainers.runs.run import read_run

Kept = Literal["last", "best"]
_PATTERNS = {"last": "last*.ckpt", "best": "best-*.ckpt"}


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
    found = [path for folder in run_folders(trainer) for path in folder.glob(f"checkpoints/{_PATTERNS[kind]}")]
    # Loggers count versions upwards, whatever clocks say and however files were copied. A run with a name of its own
    # has no place in that count.
    versions = [re.fullmatch(r"version_(\d+)", path.parents[1].name) for path in found]
    numbers = [int(version[1]) for version in versions if version]
    if len(numbers) < len(found):
        return sorted(found, key=_age)
    return [path for *_, path in sorted(zip(numbers, map(_age, found), found, strict=True))]


def run_folders(trainer: Trainer) -> list[Path]:
    """Find the log folders of all runs with this trainer's logger."""
    folder = _runs_folder(trainer)
    return list(folder.glob("*")) if isinstance(trainer.logger, TensorBoardLogger | CSVLogger) else [folder]


def _runs_folder(trainer: Trainer) -> Path:
    logger = trainer.logger
    return Path(logger.root_dir if isinstance(logger, TensorBoardLogger | CSVLogger) else trainer.default_root_dir)


def _age(checkpoint: Path) -> tuple[float, float]:
    """Order of a checkpoint by the start of its run, then by its steps."""
    folder = checkpoint.parents[1]
    run = read_run(folder)
    if run is None:
        started = max(path.lstat().st_mtime for path in checkpoint.parent.glob("*.ckpt"))
    else:
        started = datetime.fromisoformat(run.started).timestamp()
    return started, step_of(checkpoint)
