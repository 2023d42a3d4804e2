"""TensorBoard's record of a run: the curves of training, those of the run that it goes on from included."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from torch.utils.tensorboard import SummaryWriter

from trainers.checkpoints.folders import folder_of_run


class _OpenedOnUse:
    """Stands for a writer that opens on the first use of it; Lightning asks every logger for its writer at once.

    Args:
        writer: opens the writer, or returns the open one.
    """

    def __init__(self, writer: Callable[[], SummaryWriter]) -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the writer."""
        return getattr(self._writer(), name)


class RunLogger(TensorBoardLogger):
    """Lightning's logger without what gets in the way of a list of runs.

    The number of the epoch is no curve, because TensorBoard would show it before the loss. A test's means are in its
    `metrics.json` alone. A run that logs nothing leaves no event file.

    Args:
        *args: of Lightning's logger.
        **kwargs: of Lightning's logger.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of the event file, which it opens when something is written."""
        return _OpenedOnUse(lambda: super(RunLogger, self).experiment)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars.

        Args:
            metrics: value by tag.
            step: of the optimiser.
        """
        kept = {tag: value for tag, value in metrics.items() if tag != "epoch" and not tag.startswith("test/")}
        if kept:
            super().log_metrics(kept, step)

    @rank_zero_only
    def save(self) -> None:
        """Flush the event file, if there is one."""
        if self._experiment is not None:
            super().save()

    @rank_zero_only
    def repeat(self, folder: Path, step: int) -> None:
        """Repeat the curves of an earlier run, up to the step at which this one goes on from it.

        Pictures stay where they are. Event files may end in the middle of an event, as killed runs leave them.

        Args:
            folder: log folder of the earlier run.
            step: optimiser steps that the earlier run had taken.
        """
        for file in sorted(folder.glob("events.out.tfevents.*")):
            for raw in RawEventFileLoader(str(file)).Load():
                event = Event.FromString(raw)
                kept = [value for value in event.summary.value if _belongs(value, event.step, step)]
                if kept:
                    del event.summary.value[:]
                    event.summary.value.extend(kept)
                    self.experiment.file_writer.add_event(event, event.step, event.wall_time)


class Continuation(Callback):
    """Lets the curves of a resumed run begin where training began, with those of the run that it goes on from."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Repeat the earlier curves, if the checkpoint lies in the folder of a run."""
        before = None if trainer.ckpt_path is None else folder_of_run(trainer.ckpt_path)
        if before is not None:
            for logger in trainer.loggers:
                if isinstance(logger, RunLogger):
                    logger.repeat(before, trainer.global_step)


def own_loggers(configured: Any, made: Any) -> Any:
    """Put this package's TensorBoard logger in the place of Lightning's.

    Args:
        configured: class path and arguments of a logger as a recipe has them, or a list of these, or what else the
            trainer takes.
        made: the logger of this configuration, or a list of loggers.

    Returns:
        As `made`, with a `RunLogger` of the same arguments for each of Lightning's TensorBoard loggers.
    """
    if isinstance(made, list):
        return [own_loggers(*pair) for pair in zip(configured, made, strict=True)]
    if type(made) is not TensorBoardLogger:
        return made
    return RunLogger(**configured.init_args.as_dict(), **configured.get("dict_kwargs", {}))


def _belongs(value: Any, step: int, end: int) -> bool:
    """Whether a value was logged within the first `end` steps, and is a curve.

    Lightning logs the values of the n-th training step, and of a validation after it, at n - 1; `AttentionWatcher`
    writes at the number of steps taken.
    """
    if value.HasField("image") or value.tag == "epoch":
        return False
    return step <= end if value.tag.startswith("watch/") else step < end
