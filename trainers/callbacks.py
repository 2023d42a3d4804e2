"""What is shown and kept of a run: a progress bar, image triplets in TensorBoard, restored images on the disk."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from torch import Tensor

from datamodules.images import convert_channels, to_array, write_image
from trainers.checkpoints import log_folder
from trainers.evaluation import data_sets
from trainers.metrics import psnr
from trainers.restoration import RestorationTask

# Panels are brought between these widths, so that captions are readable and event files small.
_NARROWEST, _WIDEST = 192, 512
_CAPTION_HEIGHT = 20


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


class ImageTriplets(Callback):
    """Shows the first images of each validation set in TensorBoard: input, output and target side by side.

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
        shown = pl_module.logged_images if isinstance(pl_module, RestorationTask) else 0
        if trainer.sanity_checking or batch_idx >= shown:
            return
        data_set = list(data_sets(trainer, "val"))[dataloader_idx]
        for *images, name in zip(batch["input"], outputs["restored"], batch["target"], batch["name"], strict=True):
            triplet = draw_triplet(*images, name=name)
            for writer in writers:
                writer.add_image(f"val/{data_set}/{name}", triplet, trainer.global_step, dataformats="HWC")


def draw_triplet(image: Tensor, restored: Tensor, target: Tensor, *, name: str) -> NDArray[np.uint8]:
    """Set input, output and target side by side over captions that name the image and each PSNR (RGB, uint8).

    Args:
        image: shape (C, H, W), range [0, 1]; enlarged if the target is larger.
        restored: shape (C', H', W').
        target: shape (C', H', W').
        name: of the image.

    Returns:
        Shape (H″, W″, 3), each third between 192 and 512 pixels wide.
    """
    captions = [f"input {_decibels(image, target)}", f"output {_decibels(restored, target)}", name]
    height, width = target.shape[-2:]
    factor = min(max(1.0, _NARROWEST / width), _WIDEST / width)
    size = round(width * factor), max(1, round(height * factor))
    return np.concatenate(
        [_panel(panel, size, caption) for panel, caption in zip((image, restored, target), captions, strict=True)], 1
    )


def _panel(image: Tensor, size: tuple[int, int], caption: str) -> NDArray[np.uint8]:
    pixels = convert_channels(to_array(image), 3)
    # Pixels are shown as they are: enlarged without interpolation, averaged when made smaller.
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_NEAREST)
    strip = np.full((_CAPTION_HEIGHT, size[0], 3), 255, np.uint8)
    cv2.putText(strip, caption, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([resized, strip])


def _decibels(image: Tensor, target: Tensor) -> str:
    return f"{psnr(image[None].to(target), target[None]).item():.2f} dB" if image.shape == target.shape else ""


class PredictionWriter(Callback):
    """Saves what `predict` restores as 8-bit PNG: `images/<set>/<name>.png` in the log folder."""

    def __init__(self) -> None:
        self._folder = Path()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
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
        folder = self._folder / list(data_sets(trainer, "predict"))[dataloader_idx]
        folder.mkdir(parents=True, exist_ok=True)
        for image, name in zip(outputs, batch["name"], strict=True):
            write_image(folder / f"{name}.png", to_array(image))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where they are."""
        if trainer.is_global_zero:
            print(f"restored images: {self._folder}")
