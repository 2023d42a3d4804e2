"""Log folders of commands that failed before they had a result: they are removed."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

CONFIGURATION_FILES = {"config.yaml", "hparams.yaml"}
EMPTY_EVENTS = 100
"""Largest size in bytes of a file of TensorBoard events without a value: it has 88, with one value over 120."""


def missing_log_folders(trainer: Trainer) -> list[Path]:
    """Find the log folders that a run would make, which are not there yet.

    Args:
        trainer: its loggers choose the folders.
    """
    folders = [Path(logger.log_dir) for logger in trainer.loggers if isinstance(logger, TensorBoardLogger | CSVLogger)]
    return [folder for folder in folders if not folder.exists()]


def remove_unused(folders: Iterable[Path]) -> None:
    """Remove log folders that hold nothing but a configuration and an empty file of events.

    Loggers make their folder before the data are looked for, and TensorBoard lists it however empty it is.

    Args:
        folders: folders that this process has made; those that were not made are passed over.
    """
    for folder in folders:
        if folder.is_dir() and all(map(_is_empty, folder.iterdir())):
            shutil.rmtree(folder)


def _is_empty(path: Path) -> bool:
    if path.name in CONFIGURATION_FILES:
        return True
    return path.name.startswith("events.out.tfevents.") and path.stat().st_size <= EMPTY_EVENTS
