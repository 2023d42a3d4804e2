"""Checkpoints that are complete or absent."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from datamodules.files.atomic import atomic_file
from trainers.checkpoints.run_checkpoint import read_run_checkpoint


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; files written before are untouched."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary name in the same folder, syncs it and renames it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; addresses of remote stores (`s3://…`) go through fsspec as in the base class.

        Args:
            checkpoint: what Lightning saves.
            path: final name.
            storage_options: for remote stores only.

        Raises:
            CheckpointWriteError: if the disk is full or the folder cannot be written; an older checkpoint of that
                name is still complete.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            with atomic_file(Path(path)) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            # torch's zip writer may bury the file's error under its own complaint about a truncated archive.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise CheckpointWriteError(
                f"checkpoint ({path}) must be writable, got: {cause.strerror or cause}. Earlier checkpoints are "
                "intact: free space or name another folder (--trainer.logger.save_dir), then resume"
            ) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint of Lightning's as plain data, onto the CPU.

        Args:
            path: of a file on this machine.
            args: of the base class: taken no notice of, because nothing in a checkpoint is ever executed.
            kwargs: as `args`.

        Returns:
            What was saved.

        Raises:
            CheckpointError: if the file is no complete checkpoint of a run.
        """
        return read_run_checkpoint(Path(path))


def link(path: Path, other: Path) -> None:
    """Make a second name of a checkpoint, a file or a folder, without copying where the disk can."""
    remove(other)
    if path.is_dir():
        # A sharded checkpoint.
        path.rename(other)
        return
    try:
        os.link(path, other)
    except OSError:
        # Some file systems have no links.
        with atomic_file(other) as file, path.open("rb") as source:
            shutil.copyfileobj(source, file)


def unlink(path: Path, other: Path) -> None:
    """Undo `link`."""
    if other.is_dir():
        # It was renamed; what took its name is not complete.
        remove(path)
        other.rename(path)
    else:
        remove(other)


def remove(path: Path) -> None:
    """Remove a checkpoint, a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
