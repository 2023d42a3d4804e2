"""Central crops of image files, as networks are analysed on."""

from pathlib import Path

from torch import Tensor

from datamodules.errors import DataError
from datamodules.files.images import convert_channels, read_image, to_tensor


def central_crop(path: Path, channels: int, size: int | None, multiple: int) -> Tensor:
    """Read the middle of an image, (1, C, H, W) in [0, 1].

    Args:
        path: of the image.
        channels: 1 or 3, C.
        size: largest side, in pixels; None: of the whole image.
        multiple: of which height and width are to be multiples.

    Raises:
        DataError: if the image cannot be read, or is too small.
    """
    array = convert_channels(read_image(path)[..., :3], channels)
    height, width = (side if size is None else min(side, size) for side in array.shape[:2])
    height, width = height - height % multiple, width - width % multiple
    if not height or not width:
        raise DataError(f"image {path} must be at least {multiple} pixels high and wide, got {array.shape[:2]}")
    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    return to_tensor(array[top : top + height, left : left + width])[None]
