"""Images as other libraries hold them, made the tensors that metrics take."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Numbers of channels by which an axis is recognised as that of channels.
_CHANNELS = (1, 3)
_WHITE = {torch.uint8: 255.0, torch.uint16: 65535.0}


def as_images(images: Tensor | NDArray[Any]) -> Tensor:
    """Turn an image, or a batch of equally large ones, into what metrics and losses take.

    The axis of 1 or 3 entries is that of channels. If both ends or neither are such, arrays are read as (H, W, C), as
    OpenCV and Pillow make them, and tensors as (C, H, W).

    Args:
        images: shape (H, W), (H, W, C), (C, H, W), (B, H, W, C) or (B, C, H, W); uint8, uint16, or floats whose white
            is 1.

    Returns:
        Shape (B, C, H, W), B = 1 for one image, float32 (float64 if the images are), white is 1, on the same device.

    Raises:
        ValueError: if the images have another type or shape.

    Examples:
        >>> import numpy as np
        >>> from trainers.metrics import as_images, psnr
        >>> restored = np.full((48, 64, 3), 102, np.uint8)
        >>> target = np.full((48, 64, 3), 100, np.uint8)
        >>> as_images(restored).shape
        torch.Size([1, 3, 48, 64])
        >>> round(psnr(as_images(restored), as_images(target)).item(), 2)
        42.11
    """
    channels_last = isinstance(images, np.ndarray)
    tensor = torch.from_numpy(np.ascontiguousarray(images)) if isinstance(images, np.ndarray) else images
    if tensor.ndim not in (2, 3, 4) or not (tensor.is_floating_point() or tensor.dtype in _WHITE):
        raise ValueError(
            f"images ({tensor.dtype}, shape {tuple(tensor.shape)}) must be uint8, uint16 or floating point of shape "
            "(H, W), (H, W, C), (C, H, W), (B, H, W, C) or (B, C, H, W); convert them first"
        )
    if tensor.ndim == 2:
        tensor = tensor[None, None]
    else:
        if tensor.ndim == 3:
            tensor = tensor[None]
        first, last = (tensor.shape[axis] in _CHANNELS for axis in (1, 3))
        if last if first != last else channels_last:
            tensor = tensor.permute(0, 3, 1, 2)
    if tensor.is_floating_point():
        return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    return tensor.float() / _WHITE[tensor.dtype]
