"""Lines about a run as it goes: in the run's `train.log` and, where no bar can be drawn, on standard output."""

import logging
import math
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console

from trainers.checkpoints.lookup import log_folder
from trainers.errors import Stopped, explain
from trainers.monitoring.remaining import duration, last_step, remaining_seconds
from trainers.monitoring.throughput import memory, throughput

LOG_FILE = "train.log"
_logger = logging.getLogger(__name__)


class ProgressLines(Callback):
    """Writes lines about training to `train.log` in the log folder, and prints them where no bar can be drawn.

    A line is due after every validation and when `seconds_per_line` have passed. In `train.log` each has its time;
    the file also holds how the run began and ended. Every line is on the disk before training goes on. Of several
    processes the first writes.

    Args:
        printed: whether lines are printed as well, unless standard output is a terminal or a notebook.
        seconds_per_line: between lines, > 0.

    Raises:
        ValueError: if `seconds_per_line` is not above 0.
    """

    def __init__(self, *, printed: bool = True, seconds_per_line: float = 60.0) -> None:
        if not seconds_per_line > 0:
            raise ValueError(f"seconds_per_line ({seconds_per_line}) must be above 0")
        self._printed = printed and not can_redraw()
        self._seconds_per_line = seconds_per_line
        self._due = 0.0
        self._file: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the file; evaluations and rehearsals have none."""
        folder = log_folder(trainer)
        rehearsal: int = trainer.fast_dev_run  # type: ignore[attr-defined]  # set by a connector
        self._file = folder / LOG_FILE if stage == TrainerFn.FITTING and not rehearsal else None
        self._put_off()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write where training begins."""
        source = "" if trainer.ckpt_path is None else f", resumed from {trainer.ckpt_path}"
        self.write(trainer, f"training begins at step {_step(trainer)}{source}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a line, if it is due."""
        if time.monotonic() >= self._due:
            self._report(trainer, describe_step(trainer, pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a line with the new scores."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._report(trainer, describe_step(trainer, pl_module))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write how many images are done, if a line is due."""
        limits = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._report_images(trainer, "validation", batch_idx, limits[dataloader_idx])

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write how many images are done, if a line is due."""
        self._report_images(trainer, "test", batch_idx, trainer.num_test_batches[dataloader_idx])

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write how many images are done, if a line is due."""
        self._report_images(trainer, "prediction", batch_idx, trainer.num_predict_batches[dataloader_idx])

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write what ended the run, and at which step."""
        self.write(trainer, f"ended at step {_step(trainer)}: {last_message(exception)}")

    def write(self, trainer: Trainer, text: str) -> None:
        """Append lines to `train.log`, each with the time; without a file, or in another process, do nothing.

        Args:
            trainer: of the run.
            text: one or more lines.
        """
        if self._file is None or not trainer.is_global_zero:
            return
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(f"{now} {line}\n" for line in text.splitlines())
        except OSError as error:
            # Training goes on as long as its checkpoints can be written.
            _logger.warning("lines for %s could not be written: %s", self._file, error)

    def _report(self, trainer: Trainer, line: str) -> None:
        if self._printed and trainer.is_global_zero:
            print(line, flush=True)
        self.write(trainer, line)
        self._put_off()

    def _report_images(self, trainer: Trainer, stage: str, batch_idx: int, total: float) -> None:
        if time.monotonic() >= self._due:
            self._report(trainer, f"{stage}: {batch_idx + 1} of {total:.0f} batches")

    def _put_off(self) -> None:
        self._due = time.monotonic() + self._seconds_per_line


def last_message(exception: BaseException) -> str:
    """Describe what ended a run, as its user reads it."""
    if isinstance(exception, Stopped):
        return exception.message
    if isinstance(exception, KeyboardInterrupt):
        return "interrupted"
    if isinstance(exception, SystemExit):
        return "terminated"
    message = explain(exception) if isinstance(exception, Exception) else None
    return (message or f"{type(exception).__name__}: {exception}").strip()


def can_redraw() -> bool:
    """Whether standard output is a terminal or a notebook, on which a bar can be drawn again and again."""
    console = Console(markup=False, emoji=False)
    return console.is_terminal or console.is_jupyter


def report(trainer: Trainer, text: str) -> None:
    """Print a text about a run, and append it to the run's `train.log`, in the first process.

    Args:
        trainer: of the run; without `ProgressLines` among its callbacks the text is printed only.
        text: one or more lines.
    """
    if trainer.is_global_zero:
        print(text, flush=True)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a connector
        if isinstance(callback, ProgressLines):
            callback.write(trainer, text)


def describe_step(trainer: Trainer, task: LightningModule) -> str:
    """Describe in a line how far training has come and how it goes."""
    values = ", ".join(f"{name} {value}" for name, value in training_values(trainer, task).items())
    return f"step {_step(trainer)}, {describe_epoch(trainer, trainer.current_epoch).lower()}: {values}"


def describe_epoch(trainer: Trainer, epoch: int) -> str:
    """Name an epoch, counted from 0, as `Epoch 1/15`, or without the last where the run has no end."""
    # Lightning counts epochs from 0 and shows -2 as the last where a recipe counts steps.
    steps = trainer.num_training_batches / trainer.accumulate_grad_batches
    last = trainer.max_epochs if trainer.max_epochs != -1 else math.ceil(trainer.max_steps / steps)
    return f"Epoch {epoch + 1}/{last}" if last is not None and last > 0 else f"Epoch {epoch + 1}"


def training_values(trainer: Trainer, task: LightningModule) -> dict[str, str]:
    """Return the values of a progress line by name, as they are written."""
    values: dict[str, str] = {}
    remaining = remaining_seconds(trainer)
    if remaining is not None:
        values["left"] = duration(remaining)
    measured = throughput(trainer)
    scores = {name: f"{value:.4g}" for name, value in trainer.progress_bar_metrics.items()}
    if measured is None or not measured.seconds:
        return values | scores
    # The mean of the last steps, not the loss of the last step that was logged.
    values["train/loss"] = f"{measured.loss:.4g}"
    if trainer.optimizers:
        values["learning rate"] = f"{float(trainer.optimizers[0].param_groups[0]['lr']):.3g}"
    return {
        **values,
        **{name: value for name, value in scores.items() if name != "train/loss"},
        "samples/s": f"{measured.samples_per_second:.3g}",
        "data wait": f"{100 * measured.data_wait:.0f} %",
        "memory": f"{memory(task.device) / 2**20:.0f} MiB",
    }


def _step(trainer: Trainer) -> str:
    last = last_step(trainer)
    return f"{trainer.global_step} of {last:.0f}" if last < math.inf else str(trainer.global_step)
