"""The task of pairs of degraded and clean images."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from datamodules.base.video import ClipDataModule
from datamodules.files.images import to_array, write_image
from trainers.evaluation.data_sets import data_module
from trainers.metrics.base import ImageMetric
from trainers.metrics.psnr_ssim import PSNR, SSIM
from trainers.networks import in_unit_range
from trainers.reports.pictures import draw_triplet
from trainers.tasks.base import ImageTask
from trainers.tasks.evaluation import Batch
from trainers.tiling.clips import restore_sample

_logger = logging.getLogger(__name__)


class RestorationTask(ImageTask):
    """Trains a network to map degraded images or clips to clean ones, and evaluates it at any size and length.

    Its loss is the mean absolute error and its metrics are PSNR and SSIM on RGB, if it is given none. Arguments are
    those of `ImageTask`.

    Examples:
        >>> import glmha, torch
        >>> from trainers import RestorationTask
        >>> net = glmha.Restormer(dim=4, num_blocks=[1] * 4, num_refinement_blocks=1, heads=[1] * 4)
        >>> task = RestorationTask(net, torch.nn.MSELoss())
        >>> [restored] = task.restore({"input": torch.rand(1, 3, 20, 27)})
        >>> restored.shape
        torch.Size([3, 20, 27])
        >>> list(task.metrics)
        ['psnr', 'ssim']
    """

    def default_loss(self) -> nn.Module:
        """Make the mean absolute error."""
        return nn.L1Loss()

    def default_metrics(self) -> Sequence[ImageMetric]:
        """Make PSNR and SSIM on RGB."""
        return [PSNR(), SSIM()]

    def on_test_start(self) -> None:
        """Warn if a metric leaves out a border that is not the scale of super-resolution; of clips none is left out."""
        data = data_module(self.trainer)
        scale = 1 if isinstance(data, ClipDataModule) else getattr(data, "scale", 1)
        borders = {metric.name: metric.border for metric in self.metrics.values() if hasattr(metric, "border")}
        others = ", ".join(f"{name} {border}" for name, border in borders.items() if border != scale)
        if scale > 1 and others and self.trainer.is_global_zero:
            _logger.warning(
                f"border of metrics ({others}) is not the scale, {scale}, which published figures of super-resolution "
                "leave out on each side: give the metrics with it (--model.metrics)"
            )

    def call(self, batch: Batch) -> Tensor:
        """Call the network on a batch of patches."""
        return in_unit_range(self.trained_net, batch["input"])

    def restore(self, batch: Batch) -> list[Tensor]:
        """Restore whole images, in tiles if `tile` is given."""
        return self.restore_with(self.net, batch)

    def restore_with(self, net: nn.Module, batch: Batch) -> list[Tensor]:
        """Restore whole images by a network, in tiles and precision as the task's own.

        Args:
            net: on the task's device.
            batch: `input` on the CPU, however large: the device sees one tile at a time.

        Returns:
            Each (C', H', W'), or (T, C', H', W') of a clip, on the CPU.
        """
        return [
            restore_sample(
                net,
                image.cpu(),
                tiles=self.clips,
                tile=self.tile,
                overlap=self.overlap,
                self_ensemble=self.ensembles,
                autocast=self.evaluation_autocast,
            )
            for image in batch["input"]
        ]

    def draw(self, image: Tensor, restored: Tensor, target: Tensor, *, name: str) -> NDArray[np.uint8]:
        """Set input, output and target side by side; of a clip those of its middle frame, without a noise channel."""
        if target.ndim == 4:
            middle = len(target) // 2
            image, restored, target = image[middle, : target.shape[1]], restored[middle], target[middle]
        return draw_triplet(image, restored, target, name=name)

    def save(self, restored: Tensor, folder: Path, name: str) -> None:
        """Save an image as 8-bit PNG, or a clip as a folder of them."""
        if restored.ndim == 4:
            for number, frame in enumerate(restored):
                write_image(folder / name / f"{number:08}.png", to_array(frame))
            return
        write_image(folder / f"{name}.png", to_array(restored))
