"""The report at the end of training: where everything is, and the commands to use it."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from datamodules.base.paired import PairedImageDataModule
from datamodules.errors import DataError
from trainers.checkpoints.best import BestCheckpoint
from trainers.evaluation.data_sets import data_module
from trainers.monitoring.remaining import duration
from trainers.monitoring.throughput import memory, throughput
from trainers.tasks.finetuning import FineTuningTask
from trainers.tasks.restoration import RestorationTask


def describe_run(trainer: Trainer, folder: Path) -> str:
    """Report where a run's records and checkpoints are, its speed, and the commands to evaluate and use its network.

    Args:
        trainer: the trainer at the end of training, in the process that writes.
        folder: the run's log folder.

    Returns:
        One line for each.
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
    options = f"--config {shlex.quote(str(config))} --ckpt_path {weights}"
    tested = _has_test_sets(data_module(trainer))
    if config.is_file() and (tested or trainer.val_dataloaders):
        yield f"to evaluate it: lowrank {'test' if tested else 'validate'} {options}"
    if isinstance(trainer.lightning_module, RestorationTask):
        yield f"to restore images: lowrank restore PHOTO.png --pretrained {weights} --output DIR"
    elif config.is_file() and tested:
        yield f"to save what it makes of the test sets: lowrank predict {options}"


def _has_test_sets(data: LightningDataModule | None) -> bool:
    if not isinstance(data, PairedImageDataModule):
        # Whether the files of other data are there is found out by reading them.
        return data is not None and type(data).test_dataloader is not LightningDataModule.test_dataloader
    try:
        return bool(data.test_pairs())
    except DataError:
        return False
