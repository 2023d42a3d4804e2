"""Evaluated images: pictures of them in TensorBoard, restored images on the disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from trainers.checkpoints.lookup import log_folder
from trainers.evaluation.data_sets import data_sets
from trainers.monitoring.attention import writers
from trainers.tasks.base import ImageTask


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
        # Validation sets are served one image a batch.
        if not isinstance(pl_module, ImageTask) or trainer.sanity_checking or batch_idx >= pl_module.logged_images:
            return
        data_set = list(data_sets(trainer, "val"))[dataloader_idx]
        for *images, name in zip(batch["input"], outputs["restored"], batch["target"], batch["name"], strict=True):
            picture = pl_module.draw(*images, name=name)
            for writer in writers(trainer):
                writer.add_image(f"val/{data_set}/{name}", picture, trainer.global_step, dataformats="HWC")


class ResultWriter(Callback):
    """Saves the images that `predict` restores, and those of `test` where the task has `save_tests`.

    They are `images/<set>/<name>` in the log folder.
    """

    def __init__(self) -> None:
        self._folder = Path()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the folder of the images."""
        self._folder = log_folder(trainer) / "images"

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the folder of the images."""
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
        """Print the folder of the images."""
        self._print_folder(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the folder of the images."""
        if isinstance(pl_module, ImageTask) and pl_module.save_tests:
            self._print_folder(trainer)

    def _save(self, task: LightningModule, images: Sequence[Tensor], data_set: str, names: Sequence[str]) -> None:
        if isinstance(task, ImageTask):
            for image, name in zip(images, names, strict=True):
                task.save(image, self._folder / data_set, name)

    def _print_folder(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            print(f"restored images: {self._folder}")
