"""Checkpoints that are complete or absent, and a last one when a run is stopped."""

import logging
import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from trainers.checkpoints.atomic_io import link, remove, unlink
from trainers.checkpoints.lookup import log_folder
from trainers.checkpoints.stopping import REQUEUED, TERMINATED, at_its_end, requeue, requeue_signal
from trainers.errors import Stopped

_logger = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Keeps `checkpoints/last.ckpt` in the log folder: after every validation, at the end, and when told to stop.

    Ctrl-C, SIGTERM and, in a SLURM job, the signal that announces its end (Lightning's `SLURMEnvironment`, SIGUSR1
    unless told otherwise) let the running step finish, so that weights, optimiser and counters belong together. Then
    the checkpoint is written and training ends with an exit status for the cause: 130 after Ctrl-C, `TERMINATED`, or
    `REQUEUED` once the SLURM job is queued again. A second Ctrl-C stops at once and writes nothing. Any exception
    that ends training is given a note on how to go on.

    Nothing is saved in the middle of an accumulated step, whose gradients would be lost: then the end of the step is
    waited for. Where a validation is due, a run that goes on from the checkpoint begins with it; the validation after
    the last step is waited for, too.

    Args:
        every_n_train_steps: save also whenever this many optimiser steps were taken; null: never.
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
        self._accumulating = self._save_due = self._validation_due = self._ending = False
        self._earlier: list[Path] = []
        self._folder = Path()
        self._process = os.getpid()
        self._previous_handlers: dict[signal.Signals, Any] = {}
        self._requeue_signal: signal.Signals | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return whether a validation was due when the checkpoint was saved."""
        return {"validation_due": self._validation_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore whether a validation is due."""
        self._validation_due = state_dict.get("validation_due", False)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on after an epoch that `max_steps` ended without a validation as after its last step.

        Lightning would take a further step in that epoch, and leave out a part of the next one's samples.
        """
        progress = checkpoint["loops"]["fit_loop"]
        epochs, batches = progress["epoch_progress"], progress["epoch_loop.batch_progress"]
        ended = batches["is_last_batch"] and batches["current"]["completed"] == batches["current"]["ready"]
        counted = epochs["current"]["completed"] < epochs["current"]["processed"] == epochs["current"]["started"]
        # Without a limit of steps Lightning knows that such an epoch is over.
        if trainer.state.fn == TrainerFn.FITTING and trainer.max_steps != -1 and ended and counted:
            for kind in ("total", "current"):
                epochs[kind]["processed"] -= 1
                batches[kind]["completed"] -= 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over signals for the time of training, from after the sanity check: before, there is nothing to save."""
        self._folder = log_folder(trainer)
        self._step = self.saved_step = trainer.global_step
        # Lightning minds SIGTERM until here.
        self._signal = signal.SIGTERM if trainer.received_sigterm else None
        # Only the main thread of a process may set a handler.
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            self._requeue_signal = requeue_signal(trainer)
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
        # A validation saves at its end, when it is no longer due.
        if (self._save_due or periodic) and not self._validation_due:
            self._save(trainer)
        if not (self._validation_due and _ends_here(trainer)):
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
        fits = trainer.world_size == 1 and trainer.state.fn == TrainerFn.FITTING
        if fits and not self._accumulating and not _ends_here(trainer):
            self._stop_if_told(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that nothing is due any more, before the best checkpoint is saved."""
        self._validation_due = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights that were just validated."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save_due = self._accumulating
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
        config = self._folder / "config.yaml"
        if config.is_file():
            resume = shlex.join(["lowrank", "fit", "--config", str(config), "--ckpt_path", str(self.saved)])
        else:
            resume = f"trainers.run(task, data, ckpt_path={str(self.saved)!r}, ...) with the same task and data"
        exception.add_note(f"The last good checkpoint is {self.saved}; to go on from it:\n  {resume}")

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
            link(path, earlier)
            self._earlier.append(earlier)
        try:
            trainer.save_checkpoint(path)
        except BaseException:
            if earlier in self._earlier:
                self._earlier.remove(earlier)
                unlink(path, earlier)
            raise
        self.saved, self.saved_step, self._save_due = path, trainer.global_step, False
        while len(self._earlier) >= self.keep_last:
            remove(self._earlier.pop(0))

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
            failure = trainer.strategy.broadcast(requeue() if trainer.is_global_zero else None)
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


def _ends_here(trainer: Trainer) -> bool:
    """Whether no step is left: the last validation is waited for, because no run could go on to it."""
    epochs = trainer.current_epoch + trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
    return not trainer.sanity_checking and at_its_end(trainer, epochs)


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
