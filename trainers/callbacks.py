"""What is shown and kept of a run: a progress bar, pictures in TensorBoard, restored images on the disk."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from trainers.checkpoints import log_folder
from trainers.evaluation import data_sets
from trainers.task import ImageTask


class ProgressBar(RichProgressBar):
    """Lightning's bar with what the task marks for it (loss, PSNR), without the number of the log folder."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Values by name."""
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the new values; where nothing can be redrawn, as in a log file, on a line of their own."""
        super().on_validation_end(trainer, pl_module)
        silent = sys.stdout.isatty() or trainer.sanity_checking or not trainer.is_global_zero
        if trainer.state.fn == TrainerFn.FITTING and not silent:
            values = ", ".join(f"{name} {value:.4g}" for name, value in self.get_metrics(trainer, pl_module).items())
            print(f"step {trainer.global_step}: {values}", flush=True)

    def _get_train_description(self, current_epoch: int) -> str:
        # Lightning counts epochs from 0 and shows -2 as the last where a recipe counts steps.
        trainer = self.trainer
        steps = trainer.num_training_batches / trainer.accumulate_grad_batches
        last = trainer.max_epochs if trainer.max_epochs != -1 else math.ceil(trainer.max_steps / steps)
        return f"Epoch {current_epoch + 1}/{last}" if last is not None and last > 0 else f"Epoch {current_epoch + 1}"


class ValidationImages(Callback):
    """Shows the first images of each validation set in TensorBoard, drawn by the task.

    How many is the task's `logged_images`. Tags are `val/<set>/<image>`.
    """

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the images of a batch that are among the first of their set."""
        writers = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        # Validation sets are served one image a batch.
        if not isinstance(pl_module, ImageTask) or trainer.sanity_checking or batch_idx >= pl_module.logged_images:
            return
        data_set = list(data_sets(trainer, "val"))[dataloader_idx]
        for *images, name in zip(batch["input"], outputs["restored"], batch["target"], batch["name"], strict=True):
            picture = pl_module.draw(*images, name=name)
            for writer in writers:
                writer.add_image(f"val/{data_set}/{name}", picture, trainer.global_step, dataformats="HWC")


class ResultWriter(Callback):
    """Saves what `predict` restores, and `test` where the task says so: `images/<set>/<name>` in the log folder."""

    def __init__(self) -> None:
        self._folder = Path()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the folder."""
        self._folder = log_folder(trainer) / "images"

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the folder."""
        self._folder = log_folder(trainer) / "images"

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save the images of a batch."""
        self._save(pl_module, outputs, list(data_sets(trainer, "predict"))[dataloader_idx], batch["name"])

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save the images of a batch, if the task saves tests."""
        if isinstance(pl_module, ImageTask) and pl_module.save_tests:
            data_set = list(data_sets(trainer, "test"))[dataloader_idx]
            self._save(pl_module, outputs["restored"], data_set, batch["name"])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where they are."""
        self._say(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where they are."""
        if isinstance(pl_module, ImageTask) and pl_module.save_tests:
            self._say(trainer)

    def _save(self, task: LightningModule, images: Sequence[Tensor], data_set: str, names: Sequence[str]) -> None:
        if isinstance(task, ImageTask):
            for image, name in zip(images, names, strict=True):
                task.save(image, self._folder / data_set, name)

    def _say(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            print(f"restored images: {self._folder}")
