"""The task of spectra: from RGB, or from the snapshot of a CASSI camera and its mask."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from datamodules.files.cubes import write_cube
from datamodules.files.images import to_array, write_image
from trainers.losses import MRAELoss
from trainers.metrics.base import ImageMetric
from trainers.metrics.hyperspectral import MRAE, RMSE, CubePSNR
from trainers.networks import in_unit_range
from trainers.reports.pictures import draw_bands, false_colours
from trainers.tasks.base import ImageTask
from trainers.tasks.evaluation import Batch
from trainers.tiling.restoration import restore

CubeFormat = Literal["mat", "npz"]


class SpectralTask(ImageTask):
    """Trains a network to reconstruct spectral cubes, and evaluates it on whole images.

    Where a batch has a `mask`, the network is called with it as second argument, and takes the snapshot as a whole:
    MST is guided by the mask of all of it. Without one, images may be of any size and evaluated in tiles.

    Its loss is the MRAE, and its metrics MRAE, RMSE and PSNR as of the NTIRE 2022 challenge, on whole images, if it is
    given none. Results are saved as the network gave them, (H, W, bands), with a picture in false colours beside them.

    Args:
        cube_format: "mat" (variable `cube`) or "npz", of saved results.
        save_tests: save what a test reconstructs, as a prediction does.
        **kwargs: of `ImageTask`.

    Raises:
        ValueError: if `cube_format` is unknown, or as of `ImageTask`.
        CheckpointError: if `pretrained` cannot be read.

    Examples:
        >>> import glmha, torch
        >>> from trainers import SpectralTask
        >>> net = glmha.MSTPlusPlus(3, 31, n_feat=31, stage=1)
        >>> task = SpectralTask(net=net)
        >>> [cube] = task.restore({"input": torch.rand(1, 3, 16, 20)})
        >>> cube.shape
        torch.Size([31, 16, 20])
        >>> list(task.metrics)
        ['mrae', 'rmse', 'psnr-cube']
    """

    def __init__(self, cube_format: CubeFormat = "mat", save_tests: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if cube_format not in get_args(CubeFormat):
            raise ValueError(f"cube_format ({cube_format}) must be one of {', '.join(get_args(CubeFormat))}")
        self.cube_format = cube_format
        self.save_tests = save_tests

    def default_loss(self) -> nn.Module:
        """Make the mean relative absolute error."""
        return MRAELoss()

    def default_metrics(self) -> Sequence[ImageMetric]:
        """Make the challenge's three, without its border."""
        return [MRAE(), RMSE(), CubePSNR()]

    def call(self, batch: Batch) -> Tensor:
        """Call the network on a batch of patches, with their mask where there is one."""
        masks = [batch["mask"]] if "mask" in batch else []
        self._check_arguments(1 + len(masks))
        net = self.trained_net
        return net(batch["input"], *masks) if masks else in_unit_range(net, batch["input"])

    def restore(self, batch: Batch) -> list[Tensor]:
        """Reconstruct whole images: those of a camera with a mask at once, others in tiles if `tile` is given."""
        images = batch["input"]
        self._check_arguments(1 + ("mask" in batch))
        if "mask" not in batch and images.ndim == 4:
            return [
                restore(
                    self.net,
                    image.cpu(),
                    tile=self.tile,
                    overlap=self.overlap,
                    self_ensemble=self.ensembles,
                    autocast=self.evaluation_autocast,
                )
                for image in images
            ]
        if self.tile is not None:
            raise ValueError(f"tile ({self.tile}) must be null for snapshots: the bands of a tile lie outside of it")
        if self.ensembles:
            raise ValueError("self_ensemble (True) must be false for snapshots: the camera disperses along one axis")
        moved = {key: batch[key].to(self.device) for key in ("input", "mask") if key in batch}
        return list(self.call(moved).float().cpu())

    def draw(self, image: Tensor, restored: Tensor, target: Tensor, *, name: str) -> NDArray[np.uint8]:
        """Draw false colours and some bands, output above target above their difference."""
        return draw_bands(restored, target, name=name)

    def save(self, restored: Tensor, folder: Path, name: str) -> None:
        """Save the cube, and a picture of it."""
        cube = np.ascontiguousarray(restored.permute(1, 2, 0).numpy())
        write_cube(folder / f"{name}.{self.cube_format}", cube)
        write_image(folder / f"{name}.png", to_array(false_colours(restored)))

    def _check_arguments(self, given: int) -> None:
        parameters = inspect.signature(self.net.forward).parameters.values()
        if given > len(parameters):
            raise ValueError(
                f"net ({type(self.net).__name__}) must take a mask, because the data have one: choose glmha.MST or "
                "glmha.CassiMSTPlusPlus, or data without (--data.net_mask none)"
            )
        if given < sum(parameter.default is parameter.empty for parameter in parameters):
            raise ValueError(
                f"net ({type(self.net).__name__}) must be given a mask, got data without one: choose "
                "--data.net_mask plain, or another net"
            )
