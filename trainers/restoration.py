"""The task of pairs of degraded and clean images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from datamodules.images import to_array, write_image
from trainers.metrics import PSNR, SSIM, ImageMetric
from trainers.networks import in_unit_range
from trainers.pictures import draw_triplet
from trainers.task import Batch, ImageTask
from trainers.tiling import restore


class RestorationTask(ImageTask):
    """Trains a network to map degraded images to clean ones, and evaluates it at any image size.

    Its loss is the mean absolute error and its metrics are PSNR and SSIM on RGB, if it is given none. Arguments are
    those of `ImageTask`.
    """

    def default_loss(self) -> nn.Module:
        """Make the mean absolute error."""
        return nn.L1Loss()

    def default_metrics(self) -> Sequence[ImageMetric]:
        """Make PSNR and SSIM on RGB."""
        return [PSNR(), SSIM()]

    def call(self, batch: Batch) -> Tensor:
        """Call the network on a batch of patches."""
        return in_unit_range(self.net, batch["input"])

    def restore(self, batch: Batch) -> list[Tensor]:
        """Restore whole images, in tiles where the task says so."""
        # A data module of ours leaves the image on the CPU, however large: the device sees one tile at a time.
        return [
            restore(self.net, image.cpu(), tile=self.tile, overlap=self.overlap, autocast=self.evaluation_autocast)
            for image in batch["input"]
        ]

    def draw(self, image: Tensor, restored: Tensor, target: Tensor, *, name: str) -> NDArray[np.uint8]:
        """Set input, output and target side by side."""
        return draw_triplet(image, restored, target, name=name)

    def save(self, restored: Tensor, folder: Path, name: str) -> None:
        """Save an image as 8-bit PNG."""
        write_image(folder / f"{name}.png", to_array(restored))
