"""What is said at the end of training: where everything is, and what to do with it."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from trainers.checkpoints.best import BestCheckpoint
from trainers.monitoring.remaining import duration
from trainers.monitoring.throughput import memory, throughput
from trainers.tasks.finetuning import FineTuningTask
from trainers.tasks.restoration import RestorationTask


def describe_run(trainer: Trainer, folder: Path) -> str:
    """Say where a run's records and checkpoints are, how fast it was, and how to evaluate and use what it trained.

    Args:
        trainer: at the end of training, in the process that writes.
        folder: log folder.

    Returns:
        A line for each.
    """
    return "\n".join(_lines(trainer, folder))


def _lines(trainer: Trainer, folder: Path) -> Iterator[str]:
    shown = any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers)
    yield f"log folder: {folder}" + (
        f" (see it with: tensorboard --logdir {shlex.quote(str(folder))})" if shown else ""
    )
    measured = throughput(trainer)
    if measured is not None and measured.seconds:
        rate, wait = measured.samples / measured.seconds, measured.waited / measured.seconds
        yield (
            f"trained: {trainer.global_step} steps; now {measured.samples} samples in {duration(measured.elapsed)}, "
            f"{duration(measured.seconds)} of it in steps: {rate:.3g} samples/s, data wait {100 * wait:.0f} %, "
            f"memory {memory(trainer.strategy.root_device) / 2**20:.0f} MiB"
        )
    last = folder / "checkpoints" / "last.ckpt"
    weights = ""
    if last.is_file():
        yield f"last checkpoint: {last} (step {trainer.global_step})"
        weights = str(last)
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, BestCheckpoint) and callback.best_model_score is not None:
            yield f"best checkpoint: {callback.best_model_path} ({callback.monitor} {callback.best_model_score:.4g})"
            weights = callback.best_model_path
    if isinstance(trainer.lightning_module, FineTuningTask) and trainer.lightning_module.figures is not None:
        yield trainer.lightning_module.figures.describe()
    if not weights:
        return
    weights, config = shlex.quote(weights), folder / "config.yaml"
    if config.is_file():
        yield f"to evaluate it: lowrank test --config {shlex.quote(str(config))} --ckpt_path {weights}"
    if isinstance(trainer.lightning_module, RestorationTask):
        yield f"to restore images: lowrank restore PHOTO.png --pretrained {weights} --output DIR"
    elif config.is_file():
        command = f"lowrank predict --config {shlex.quote(str(config))} --ckpt_path {weights}"
        yield f"to save what it makes of the test sets: {command}"
