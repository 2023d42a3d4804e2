"""Checkpoints that are complete or absent, and a last one when a run is interrupted."""

import os
import signal
import sys
import threading
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.files import atomic_file
from trainers.messages import nearest


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; files written before are untouched."""


def log_folder(trainer: Trainer) -> Path:
    """The folder of this run's records, the same on all processes, which all have to ask for it."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def newest_checkpoint(kind: Literal["last", "best"], trainer: Trainer) -> Path:
    """Find the checkpoint that the newest run with this trainer's logger left, whatever its version.

    Args:
        kind: what `LastCheckpoint` or `BestCheckpoint` keeps.
        trainer: its logger's folder and name say where runs are kept, without TensorBoard and CSV `default_root_dir`.

    Returns:
        The file; of several best ones, the one with the best score.

    Raises:
        FileNotFoundError: if there is none.
    """
    if isinstance(trainer.logger, TensorBoardLogger | CSVLogger):
        folder, version = Path(trainer.logger.root_dir), "*/"
    else:
        folder, version = Path(trainer.default_root_dir), ""
    name = "last.ckpt" if kind == "last" else "best-*.ckpt"
    found = sorted(folder.glob(f"{version}checkpoints/{name}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(
            f"ckpt_path ({kind}) must have been kept by an earlier run of this recipe, got no {name} below {folder}: "
            "give the file itself, or leave ckpt_path out"
        )
    newest = found[-1]
    if kind == "best" and len(list(newest.parent.glob(name))) > 1:
        # The newest knows which was the best when it was written; the folder may have been moved since.
        callbacks = AtomicCheckpointIO().load_checkpoint(newest)["callbacks"]
        best = next(state["best_model_path"] for key, state in callbacks.items() if key.startswith("BestCheckpoint"))
        return newest.with_name(Path(best).name)
    return newest


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
                "intact: free space or name another folder (--trainer.default_root_dir, --trainer.logger), then resume"
            ) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint of Lightning's.

        Args:
            path: its name.
            args: as in the base class.
            kwargs: as in the base class.

        Returns:
            What was saved.

        Raises:
            ValueError: if the file is no complete checkpoint of a run.
        """
        advice = "give --ckpt_path a checkpoint of `lowrank fit`, or --model.pretrained released weights"
        try:
            checkpoint: dict[str, Any] = super().load_checkpoint(path, *args, **kwargs)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"ckpt_path ({path}) must be a file, got nothing there: {advice}") from error
        except (RuntimeError, UnpicklingError, EOFError) as error:
            raise ValueError(
                f"ckpt_path ({path}) must be a complete checkpoint, got a file that is not: {advice}"
            ) from error
        if not isinstance(checkpoint, dict) or "pytorch-lightning_version" not in checkpoint:
            raise ValueError(f"ckpt_path ({path}) must be a run's checkpoint, got bare weights: {advice}")
        return checkpoint


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoints with the best validation score.

    Args:
        monitor: name of the logged score.
        mode: whether a larger score is better ("max") or a smaller one ("min").
        save_top_k: how many to keep; 0 keeps none, -1 all.

    Raises:
        ValueError: if the first validation, which is the check before training, logs no such score.
    """

    # Set by the base class.
    monitor: str

    def __init__(self, monitor: str = "val/psnr", mode: str = "max", save_top_k: int = 1) -> None:
        super().__init__(
            monitor=monitor,
            mode=mode,
            save_top_k=save_top_k,
            filename="best-{step}",
            # The default would save at the end of an epoch, with the score of an earlier validation.
            save_on_train_epoch_end=False,
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if the validation that just ended is among the best.

        Raises:
            ValueError: if it logged no score of that name.
        """
        if trainer.state.fn == TrainerFn.FITTING and self.save_top_k and self.monitor not in trainer.callback_metrics:
            logged = [name for name in trainer.callback_metrics if not name.startswith("train/")]
            raise ValueError(
                f"best_checkpoint.monitor ({self.monitor}) must be a validation score, got "
                f"{', '.join(logged) or 'none'}{nearest(self.monitor, logged)} "
                "(--best_checkpoint.save_top_k 0 keeps no best checkpoint)"
            )
        super().on_validation_end(trainer, pl_module)


class LastCheckpoint(Checkpoint):
    """Keeps `checkpoints/last.ckpt` in the log folder: after every validation, at the end, and on Ctrl-C.

    The first Ctrl-C lets the running step finish, so that weights, optimiser and counters belong together, writes
    the checkpoint and raises KeyboardInterrupt. A second one stops at once and writes nothing. Any exception that
    ends training is given a note that says how to go on.

    Args:
        every_n_train_steps: save also whenever this many optimiser steps were taken; None: not so.

    Raises:
        ValueError: if `every_n_train_steps` is below 1.
    """

    def __init__(self, every_n_train_steps: int | None = None) -> None:
        if every_n_train_steps is not None and every_n_train_steps < 1:
            raise ValueError(f"every_n_train_steps ({every_n_train_steps}) must be at least 1, or null for never")
        self.every_n_train_steps = every_n_train_steps
        self._interrupted = False
        self._saved: Path | None = None
        self._step = self._saved_step = 0
        self._folder = Path()
        self._process = os.getpid()
        self._previous_handler: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C for the time of training, from after the sanity check: before, there is nothing to save."""
        self._folder = log_folder(trainer)
        self._step = self._saved_step = trainer.global_step
        self._interrupted = False
        # Only a process's main thread may set a handler; elsewhere Ctrl-C is not ours to handle.
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            self._previous_handler = signal.signal(signal.SIGINT, self._on_sigint)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time, or if an interruption waits."""
        # Between two steps, accumulated gradients would be lost.
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        if self.every_n_train_steps is not None and self._step % self.every_n_train_steps == 0:
            self._save(trainer)
        self._stop_if_interrupted(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop a validation within training if an interruption waits."""
        # Several processes may have different numbers of images: they can only agree at the end.
        if trainer.world_size == 1 and trainer.state.fn == TrainerFn.FITTING:
            self._stop_if_interrupted(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights that were just validated."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._save(trainer)
            self._stop_if_interrupted(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of training, wherever the last validation was."""
        self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say in a note where the last good checkpoint is and how to go on from it."""
        self._restore_handler()
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if self._saved is None:
            if trainer.global_step:
                exception.add_note("No checkpoint had been written yet.")
            return
        exception.add_note(
            f"The last good checkpoint is {self._saved}; to go on from it:\n"
            f"  lowrank fit --config {self._folder / 'config.yaml'} --ckpt_path {self._saved}"
        )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        self._restore_handler()

    def _save(self, trainer: Trainer) -> None:
        # mypy does not see the attributes that Lightning's connectors give the trainer (here and below).
        rehearsing = trainer.sanity_checking or trainer.fast_dev_run  # type: ignore[attr-defined]
        if not rehearsing and trainer.global_step > self._saved_step:
            path = self._folder / "checkpoints" / "last.ckpt"
            trainer.save_checkpoint(path)
            self._saved, self._saved_step = path, trainer.global_step

    def _stop_if_interrupted(self, trainer: Trainer) -> None:
        # All processes stop at the same step, or those left would wait for the others for ever.
        if not trainer.strategy.reduce_boolean_decision(self._interrupted, all=False):
            return
        if trainer.validating and trainer.global_step > self._saved_step:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WeightAveraging):
                    # Validation runs on the averaged weights: put those in training back before saving.
                    callback.on_validation_epoch_end(trainer, trainer.lightning_module)
        self._save(trainer)
        raise KeyboardInterrupt

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        # Data loading workers that are forked later inherit the handler; they leave when this process does.
        if os.getpid() != self._process:
            return
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        print("\ninterrupted: finishing this step (Ctrl-C again: stop at once, without a checkpoint)", file=sys.stderr)

    def _restore_handler(self) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None
