"""Checkpoints that are complete or absent, and a last one when a run is stopped."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.files import atomic_file
from trainers.errors import Stopped
from trainers.messages import nearest

TERMINATED = 128 + signal.SIGTERM
"""Exit status of a run that SIGTERM ended and that has saved where it was: 143, as shells have it."""
REQUEUED = 75
"""Exit status of a run whose job is queued again: EX_TEMPFAIL, so that a script does not take it for finished."""


_PATTERNS = {"last": "last*.ckpt", "best": "best-*.ckpt"}


_logger = logging.getLogger(__name__)


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; files written before are untouched."""


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
        callbacks = AtomicCheckpointIO().load_checkpoint(newest)["callbacks"]
        best = Path(next(state["best_model_path"] for key, state in callbacks.items() if key.startswith("BestCheck")))
        return _beside(newest, best)
    return newest


def _beside(checkpoint: Path, other: Path) -> Path:
    """Where another of a run's checkpoints is, in its folder or an earlier run's, if all were moved together."""
    elsewhere = Path(*checkpoint.parts[:-3], *other.parts[-3:])
    return elsewhere if elsewhere.is_file() else checkpoint.with_name(other.name)


def kept_checkpoints(kind: Kept, trainer: Trainer) -> list[Path]:
    """Find all checkpoints that runs with this trainer's logger left, the newest at the end."""
    found = (path for folder in run_folders(trainer) for path in folder.glob(f"checkpoints/{_PATTERNS[kind]}"))
    return sorted(found, key=lambda path: path.stat().st_mtime)


def run_folders(trainer: Trainer) -> list[Path]:
    """Find the log folders of all runs with this trainer's logger."""
    folder = _runs_folder(trainer)
    return list(folder.glob("*")) if isinstance(trainer.logger, TensorBoardLogger | CSVLogger) else [folder]


def folder_of_run(checkpoint: str | Path) -> Path | None:
    """The log folder of the run that a checkpoint is of; None of a file that lies elsewhere."""
    folder = Path(checkpoint).absolute().parent
    return folder.parent if folder.name == "checkpoints" else None


def _runs_folder(trainer: Trainer) -> Path:
    logger = trainer.logger
    return Path(logger.root_dir if isinstance(logger, TensorBoardLogger | CSVLogger) else trainer.default_root_dir)


def job() -> str | None:
    """The SLURM job that this process belongs to; a requeued one keeps its number."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return os.environ.get("SLURM_JOB_ID") if array is None else f"{array}_{task}"


def at_its_end(trainer: Trainer, epochs: int) -> bool:
    """Whether training has come to its limit of steps, or to that of epochs with so many of them ended."""
    limits = ((trainer.max_steps, trainer.global_step), (trainer.max_epochs, epochs))
    return any(limit is not None and -1 < limit <= taken for limit, taken in limits)


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
        self._resumed_from = Path()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note where the checkpoint is."""
        self._resumed_from = Path(trainer.ckpt_path or "").absolute()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the scores before a run was resumed, whose files are left where they are."""
        kept, missing = {}, []
        for path, score in state_dict["best_k_models"].items():
            places = (Path(path), _beside(self._resumed_from, Path(path)))
            found = next((place for place in places if place.is_file()), None)
            if found is None:
                missing.append(f"{path} ({self.monitor} {float(score):.4g})")
            else:
                kept[str(found)] = score
        if missing:
            _logger.warning(
                "best checkpoints of the run that is resumed are gone, and their scores count no more: %s",
                ", ".join(missing),
            )
        if missing and not kept:
            return
        # Lightning would forget them in another folder. It deletes files in its own only.
        state_dict = {**state_dict, "dirpath": self.dirpath, "best_k_models": kept}
        if kept:
            ordered = sorted(kept, key=lambda path: float(kept[path]), reverse=self.mode == "max")
            state_dict |= {"best_model_path": ordered[0], "best_model_score": kept[ordered[0]]}
            state_dict |= {"kth_best_model_path": ordered[-1], "kth_value": kept[ordered[-1]]}
        super().load_state_dict(state_dict)

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
    """Keeps `checkpoints/last.ckpt` in the log folder: after every validation, at the end, and when told to stop.

    Ctrl-C, SIGTERM and, in a SLURM job, the signal that announces its end (Lightning's `SLURMEnvironment`, SIGUSR1
    unless told otherwise) let the running step finish, so that weights, optimiser and counters belong together. Then
    the checkpoint is written and training ends with an exit status of its own: 130 after Ctrl-C, `TERMINATED`, or
    `REQUEUED` once the SLURM job is queued again. A second Ctrl-C stops at once and writes nothing. Any exception
    that ends training is given a note that says how to go on.

    Nothing is saved in the middle of an accumulated step, whose gradients would be lost: then the end of the step is
    waited for. Where a validation is due, a run that goes on from the checkpoint begins with it.

    Args:
        every_n_train_steps: save also whenever this many optimiser steps were taken; None: not so.
        keep_last: how many of the last checkpoints to keep, besides `last.ckpt` as `last-step=….ckpt`.

    Attributes:
        saved: the newest checkpoint of this run; None before there is one.
        saved_step: optimiser steps that were taken when it was saved.

    Raises:
        ValueError: if a number is below 1.
    """

    def __init__(self, every_n_train_steps: int | None = None, keep_last: int = 2) -> None:
        if every_n_train_steps is not None and every_n_train_steps < 1:
            raise ValueError(f"every_n_train_steps ({every_n_train_steps}) must be at least 1, or null for never")
        if keep_last < 1:
            raise ValueError(f"keep_last ({keep_last}) must be at least 1")
        self.every_n_train_steps = every_n_train_steps
        self.keep_last = keep_last
        self.saved: Path | None = None
        self.saved_step = 0
        self._signal: signal.Signals | None = None
        self._step = 0
        self._accumulating = self._owed = self._validation_due = self._ending = False
        self._earlier: list[Path] = []
        self._folder = Path()
        self._process = os.getpid()
        self._previous_handlers: dict[signal.Signals, Any] = {}
        self._requeue_signal: signal.Signals | None = None

    def state_dict(self) -> dict[str, Any]:
        """What was left undone when a checkpoint was saved."""
        return {"validation_due": self._validation_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self._validation_due = state_dict.get("validation_due", False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over signals for the time of training, from after the sanity check: before, there is nothing to save."""
        self._folder = log_folder(trainer)
        self._step = self.saved_step = trainer.global_step
        # Lightning minds SIGTERM until here.
        self._signal = signal.SIGTERM if trainer.received_sigterm else None
        # Only a process's main thread may set a handler; elsewhere signals are not ours to handle.
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            self._requeue_signal = _requeue_signal(trainer)
            for number in (signal.SIGINT, signal.SIGTERM, self._requeue_signal):
                if number is not None:
                    self._previous_handlers[number] = signal.signal(number, self._on_signal)
        if self._validation_due:
            _validate(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time, or if a signal waits."""
        self._accumulating = trainer.global_step == self._step
        self._stop_after_step(trainer)
        if self._accumulating:
            return
        self._step = trainer.global_step
        self._validation_due = _validation_follows(trainer)
        periodic = self.every_n_train_steps is not None and self._step % self.every_n_train_steps == 0
        # A validation saves at its end.
        if self._owed or (periodic and not self._validation_due):
            self._save(trainer)
        self._stop_if_told(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop a validation within training if a signal waits."""
        # Several processes may have different numbers of images: they can only agree at the end.
        if trainer.world_size == 1 and trainer.state.fn == TrainerFn.FITTING and not self._accumulating:
            self._stop_if_told(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that nothing is due any more, before the best checkpoint is saved."""
        self._validation_due = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights that were just validated."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._owed = self._accumulating
            self._stop_after_step(trainer)
            if not self._accumulating:
                self._save(trainer)
                self._stop_if_told(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of training, wherever the last validation was."""
        # Later, on_train_end, averaged weights have taken the place of those in training.
        if not self._accumulating and (trainer.should_stop or at_its_end(trainer, trainer.current_epoch + 1)):
            self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say in a note where the last good checkpoint is and how to go on from it."""
        self._restore_handlers()
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if self.saved is None:
            if trainer.ckpt_path is not None:
                exception.add_note(f"The last good checkpoint is still {trainer.ckpt_path}.")
            elif trainer.global_step:
                exception.add_note("No checkpoint had been written yet.")
            return
        exception.add_note(
            f"The last good checkpoint is {self.saved}; to go on from it:\n"
            f"  lowrank fit --config {self._folder / 'config.yaml'} --ckpt_path {self.saved}"
        )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give signals back."""
        self._restore_handlers()

    def _save(self, trainer: Trainer) -> None:
        # mypy does not see the attributes that Lightning's connectors give the trainer (here and below).
        if trainer.fast_dev_run or trainer.global_step <= self.saved_step:  # type: ignore[attr-defined]
            return
        path = self._folder / "checkpoints" / "last.ckpt"
        earlier = path.with_name(f"last-step={self.saved_step}.ckpt")
        if trainer.is_global_zero and self.saved is not None and self.saved.exists() and self.keep_last > 1:
            # The new file takes the name, the old one keeps its contents under another.
            _link(path, earlier)
            self._earlier.append(earlier)
        try:
            trainer.save_checkpoint(path)
        except BaseException:
            if earlier in self._earlier:
                self._earlier.remove(earlier)
                _unlink(path, earlier)
            raise
        self.saved, self.saved_step, self._owed = path, trainer.global_step, False
        while len(self._earlier) >= self.keep_last:
            _remove(self._earlier.pop(0))

    def _stop_after_step(self, trainer: Trainer) -> None:
        """Let others (`max_time`, `EarlyStopping`) end training between two steps only."""
        self._ending = self._ending or trainer.should_stop
        trainer.should_stop = self._ending and not self._accumulating

    def _stop_if_told(self, trainer: Trainer) -> None:
        # All processes stop at the same step, or those left would wait for the others for ever.
        if not trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False):
            return
        if trainer.validating:
            # It was not finished.
            self._validation_due = True
            if trainer.global_step > self.saved_step:
                for callback in trainer.callbacks:  # type: ignore[attr-defined]
                    if isinstance(callback, WeightAveraging):
                        # Validation runs on the averaged weights: put those in training back before saving.
                        callback.on_validation_epoch_end(trainer, trainer.lightning_module)
        self._save(trainer)
        saved = "saved" if self.saved is not None else "nothing new to save"
        # A signal may have come to one process only.
        told = torch.tensor(float(self._signal or 0), device=trainer.strategy.root_device)
        number = signal.Signals(int(trainer.strategy.reduce(told, reduce_op="max")))
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == self._requeue_signal:
            # The first process that ends takes the others with it: all of them wait for the answer.
            failure = trainer.strategy.broadcast(_requeue() if trainer.is_global_zero else None)
            if failure is not None:
                raise Stopped(f"{number.name}: {saved}, but {failure}", "terminated", TERMINATED)
            raise Stopped(f"{number.name}: {saved}, and the job is queued again", "requeued", REQUEUED)
        raise Stopped(f"{number.name}: {saved}, and ended", "terminated", TERMINATED)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        # Processes that are forked later inherit the handler; they leave when this process does.
        if os.getpid() != self._process:
            return
        number = signal.Signals(signum)
        if number == signal.SIGINT and self._signal is not None:
            raise KeyboardInterrupt
        # Schedulers repeat themselves: what came first counts.
        if self._signal is None:
            self._signal = number
            name, again = number.name, ""
            if number == signal.SIGINT:
                name, again = "interrupted", " (Ctrl-C again: stop at once, without a checkpoint)"
            print(f"\n{name}: finishing this step{again}", file=sys.stderr)

    def _restore_handlers(self) -> None:
        while self._previous_handlers:
            signal.signal(*self._previous_handlers.popitem())


def _validation_follows(trainer: Trainer) -> bool:
    loop = trainer.fit_loop
    fetcher = loop._data_fetcher
    return fetcher is not None and loop.epoch_loop._should_check_val_fx(fetcher)


def _validate(trainer: Trainer) -> None:
    """Run the validation that a resumed run's checkpoint was saved before."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    loop.restarting = False
    trainer.validating = True
    loop.run()
    trainer.training = True


def _requeue_signal(trainer: Trainer) -> signal.Signals | None:
    """The signal by which SLURM announces that a job has to end; None elsewhere."""
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
        return environment.requeue_signal
    return None


def _requeue() -> str | None:
    """Let SLURM queue this job again; say what it failed of, if it did."""
    command = ["scontrol", "requeue", str(job())]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"`{' '.join(command)}` failed: {said.strip()}"
    return None


def _link(path: Path, other: Path) -> None:
    _remove(other)
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


def _unlink(path: Path, other: Path) -> None:
    """Undo `_link`."""
    if other.is_dir():
        # It was renamed; what took its name is not complete.
        _remove(path)
        other.rename(path)
    else:
        _remove(other)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
