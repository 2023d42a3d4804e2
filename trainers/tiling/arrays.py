"""Image arrays and files through a network: depth, grey and alpha kept, as a verb and from Python."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.errors import DataError
from datamodules.files.images import read_image, to_array, to_tensor
from trainers.networks import in_unit_range, input_channels, load_network
from trainers.runtimes.running import GRAPH_SUFFIXES, load_graph
from trainers.tiling.layout import TileLayout, layout_of
from trainers.tiling.restoration import restore as restore_tensor
from trainers.tiling.restoration import restore_bands

Image = NDArray[Any] | Tensor | Path | str


@dataclass(frozen=True)
class RestoreOptions:
    """How images are restored.

    Attributes:
        tile: largest side in pixels of what the network sees at once; None: the whole image.
        overlap: pixels that neighbouring tiles share at least.
        autocast: lower precision in which the network runs where that is safe; None: as it is.
        self_ensemble: average over the eight flips and quarter turns.
    """

    tile: int | None = None
    overlap: int = 48
    autocast: torch.dtype | None = None
    self_ensemble: bool = False


@overload
def restore(  # type: ignore[overload-overlap]  # a string is a sequence, too
    images: NDArray[Any] | Path | str,
    net: nn.Module | Path | str,
    *,
    tile: int | None = ...,
    overlap: int = ...,
    self_ensemble: bool = ...,
    autocast: torch.dtype | None = ...,
) -> NDArray[Any]: ...
@overload
def restore(
    images: Tensor,
    net: nn.Module | Path | str,
    *,
    tile: int | None = ...,
    overlap: int = ...,
    self_ensemble: bool = ...,
    autocast: torch.dtype | None = ...,
) -> Tensor: ...
@overload
def restore(
    images: Sequence[Image],
    net: nn.Module | Path | str,
    *,
    tile: int | None = ...,
    overlap: int = ...,
    self_ensemble: bool = ...,
    autocast: torch.dtype | None = ...,
) -> list[NDArray[Any] | Tensor]: ...


def restore(
    images: Image | Sequence[Image],
    net: nn.Module | Path | str,
    *,
    tile: int | None = None,
    overlap: int = 48,
    self_ensemble: bool = False,
    autocast: torch.dtype | None = None,
) -> NDArray[Any] | Tensor | list[NDArray[Any] | Tensor]:
    """Restore one image or several, of any size, and return them in the kind that they came in.

    Arrays and files are treated as by `lowrank restore`: bit depth and alpha are kept, a grey image goes through a
    colour network as three equal channels, a colour image through a grey network channel by channel. Tensors go to the
    network as they are.

    Args:
        images: an array (H, W, C) with C = 1, 3 (RGB) or 4 (RGBA) of uint8, uint16 or float32 in [0, 1]; a float tensor
            (C, H, W) or (B, C, H, W), in [0, 1]; the path of an image file; or a list of those.
        net: the network, which runs in eval mode where its parameters are, or the path of a checkpoint or of a graph
            (`trainers.export`).
        tile: largest side in pixels of what the network sees at once, which bounds memory; None: the whole image.
        overlap: pixels that neighbouring tiles share at least; they are blended there.
        self_ensemble: average over the eight flips and quarter turns; eight times the time.
        autocast: lower precision in which the network runs where that is safe (`torch.bfloat16`); None: as it is.

    Returns:
        For an array or a file an array, for a tensor a tensor, for a list a list of them. Sides are multiplied by the
        network's scale.

    Raises:
        CheckpointError: if `net` is a path and holds no network of this package.
        DataError: if a file cannot be read, or a result is not finite.
        TypeError: if an image is of another kind or pixel type.
        ValueError: if shapes, channels, tile and overlap do not fit.

    Examples:
        >>> import glmha, numpy as np, torch, trainers
        >>> net = glmha.Restormer(dim=4, num_blocks=[1] * 4, num_refinement_blocks=1, heads=[1] * 4)
        >>> photograph = np.zeros((37, 50, 3), np.uint8)
        >>> restored = trainers.restore(photograph, net)
        >>> restored.shape, restored.dtype
        ((37, 50, 3), dtype('uint8'))
        >>> [tuple(image.shape) for image in trainers.restore([torch.zeros(3, 20, 30)], net, tile=16, overlap=4)]
        [(3, 20, 30)]
    """
    host = net if isinstance(net, nn.Module) else _load(Path(net))
    options = RestoreOptions(tile, overlap, autocast, self_ensemble)
    training = host.training
    host.eval()
    try:
        if isinstance(images, Tensor | np.ndarray | Path | str):
            return _restore_one(host, images, options)
        return [_restore_one(host, image, options) for image in images]
    finally:
        host.train(training)


def _load(path: Path) -> nn.Module:
    return load_graph(path, "net") if path.suffix in GRAPH_SUFFIXES else load_network(path, argument="net")


def _restore_one(net: nn.Module, image: Image, options: RestoreOptions) -> NDArray[Any] | Tensor:
    if isinstance(image, Tensor):
        restored = restore_tensor(
            net,
            image.cpu(),
            tile=options.tile,
            overlap=options.overlap,
            self_ensemble=options.self_ensemble,
            autocast=options.autocast,
        )
        return restored.to(image.device)
    if isinstance(image, Path | str):
        return restore_array(net, read_image(image), options, name=str(image))[0]
    if not isinstance(image, np.ndarray):
        raise TypeError(f"images ({type(image).__name__}) must be arrays, tensors or paths, or a list of those")
    return restore_array(net, image, options, name="array")[0]


def restore_array(
    net: nn.Module,
    array: NDArray[Any],
    options: RestoreOptions,
    *,
    name: str,
    tile_done: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[Any], TileLayout]:
    """Restore an image array; depth, grey and alpha are kept.

    Args:
        net: in eval mode.
        array: shape (H, W, C) with C = 1, 3 or 4; uint8, uint16, or float32 in [0, 1].
        options: tiles and precision.
        name: of the image, for messages.
        tile_done: called after each tile with the numbers of finished and of all tiles.

    Returns:
        Shape (H·scale, W·scale, C) and the array's type, and the tiles that it was made of.

    Raises:
        DataError: if the result is not finite.
        ValueError: if shape, channels, tile and overlap do not fit.
    """
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ValueError(f"image {name} (shape {array.shape}) must be (H, W, C) with C = 1, 3 or 4")
    height, width, channels = array.shape
    colours = array[..., :3]
    layout = layout_of(net, height, width, tile=options.tile, overlap=options.overlap)

    def read(rows: Tensor, columns: Tensor) -> Tensor:
        return to_tensor(colours[rows.numpy()[:, None], columns.numpy()])[None]

    result = np.empty((layout.height, layout.width, channels), array.dtype)
    if channels == 4:
        result[..., 3:] = _resize(array[..., 3:], layout)
    top = 0
    for band in restore_bands(
        _Colours(net, colours.shape[2]),
        read,
        layout,
        self_ensemble=options.self_ensemble,
        autocast=options.autocast,
        progress=tile_done,
    ):
        if not band.isfinite().all():
            remedy = (
                "choose another checkpoint"
                if options.autocast is None
                else "compute it in float32 (--precision float32, autocast=None)"
            )
            raise DataError(f"image {name} must have a finite result, got NaN or Inf; {remedy}")
        bottom = top + band.shape[-2]
        result[top:bottom, :, :3] = to_array(band[0], array.dtype)
        top = bottom
    return result, layout


class _Colours(nn.Module):
    """A network between its own channels and the image's.

    Args:
        net: network from one or three channels to as many.
        channels: of the image, 1 or 3.

    Raises:
        ValueError: if the network takes neither one nor three channels.
    """

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net = net
        self.channels = channels
        self.taken = input_channels(net)

    def forward(self, image: Tensor) -> Tensor:
        """Restore a tile, shape (1, channels, h, w), into as many channels."""
        if self.channels < self.taken:
            result = in_unit_range(self.net, image.expand(-1, self.taken, -1, -1)).mean(1, keepdim=True)
        elif self.channels > self.taken:
            result = in_unit_range(self.net, image.transpose(0, 1)).transpose(0, 1)
        else:
            result = in_unit_range(self.net, image)
        if result.shape[1] != self.channels:
            raise ValueError(
                f"the network must give as many channels as it takes ({self.taken}), got {result.shape[1]}; "
                "evaluate it with its own data module: lowrank test"
            )
        return result


def _resize(alpha: NDArray, layout: TileLayout) -> NDArray:
    if layout.scale == 1:
        return alpha
    larger = F.interpolate(to_tensor(alpha)[None], (layout.height, layout.width), mode="bicubic", align_corners=False)
    return to_array(larger[0], alpha.dtype)
