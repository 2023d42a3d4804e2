"""Image files and their arrays and tensors: the one place that reads, writes and converts them."""

import re
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from datamodules.errors import DataError, refuse
from datamodules.files.atomic import atomic_file
from datamodules.files.decoding import decode
from datamodules.files.encoding import IMAGE_SUFFIXES, check_format, encode, kept_metadata
from datamodules.files.metadata import Metadata
from datamodules.files.opencv import swap_red_and_blue
from datamodules.files.packs import is_packed, list_pack, read_packed

_UINT8, _UINT16, _FLOAT32 = np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32)
_WHITE = {_UINT8: 255, _UINT16: 65535, _FLOAT32: 1}


def list_images(folder: str | Path, argument: str = "folder") -> list[Path]:
    """List the images of one folder, sorted by name.

    Hidden files, sub-folders, pipes and devices are passed over; suffixes count in either case. A link to a missing
    image is listed, so that reading it names it. Images in a pack (`datamodules.packs`) count as the folder's own.

    Args:
        folder: an existing folder, or a link to one.
        argument: name of the option that gives the folder, for the error message.

    Returns:
        Paths `folder / name`, at least one.

    Raises:
        DataError: if the folder is missing, cannot be read or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        refuse(f"{argument} ({folder}) must be an existing folder of images, got {found}; check the path")
        return []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"{argument} ({folder}) must be readable, got {error.strerror}; check its permissions"
        ) from error
    images = [path for path in entries if is_image(path)] + list_pack(folder)
    if not images:
        refuse(
            f"{argument} ({folder}) must hold images ({', '.join(IMAGE_SUFFIXES)}), got {len(entries)} other entries; "
            "point it at the folder that holds the images themselves"
        )
    return images


def has_images(folder: Path) -> bool:
    """Whether a folder holds an image itself, as `list_images` counts them; False if there is no such folder."""
    return folder.is_dir() and (any(is_image(path) for path in folder.iterdir()) or bool(list_pack(folder)))


def is_image(path: Path) -> bool:
    """Whether a folder's entry is one of its images; a link to a missing file is, pipes and devices are none."""
    if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
        return False
    return path.is_file() or (path.is_symlink() and not path.exists())


def read_image(path: str | Path) -> NDArray:
    """Read an image with the pixel type and the channels that it is stored with.

    The orientation is applied. Palettes are expanded; grey with alpha comes back as RGBA; CMYK becomes sRGB. Alpha is
    straight: colours are not multiplied by it.

    Args:
        path: an image file; its content, not its suffix, decides how it is decoded. Or one in a pack.

    Returns:
        Shape (H, W, C) with C = 1 (grey), 3 (RGB) or 4 (RGBA); uint8, uint16, or float32 in [0, 1].

    Raises:
        DataError: if the file is missing, no regular file, truncated, no image, an animation or of several pages, or
            holds pixels of another kind, type or range.
    """
    return read_image_with_metadata(path)[0]


def read_image_with_metadata(path: str | Path) -> tuple[NDArray, Metadata]:
    """Read an image as `read_image`, and what its file says beside the pixels.

    Args:
        path: an image file, or one in a pack.

    Returns:
        Shape (H, W, C), as `read_image`; colour profile and EXIF.

    Raises:
        DataError: as `read_image`.
    """
    path = Path(path)
    if is_packed(path):
        return read_packed(path), Metadata()
    try:
        if not path.is_file() and path.exists():
            # A device or a pipe would be read for ever.
            raise DataError(f"image {path} must be a regular file, got a folder, a pipe or a device; check the path")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"image {path} must be a readable file, got: {error.strerror}; check the path") from error
    image, metadata = decode(data, path)
    if image.dtype == np.float64:
        image = image.astype(np.float32)
    if image.dtype not in _WHITE:
        raise DataError(f"image {path} must hold 8- or 16-bit or float pixels, got {image.dtype}; convert it")
    if image.dtype == _FLOAT32 and not (image.min() >= 0 and image.max() <= 1):
        raise DataError(
            f"float image {path} must lie in [0, 1], got [{image.min()}, {image.max()}]; divide it by its white level"
        )
    return image, metadata


def write_image(
    path: str | Path, array: NDArray, *, quality: int | None = None, metadata: Metadata | None = None
) -> tuple[str, ...]:
    """Write an image so that the file is either complete or not there.

    Args:
        path: its suffix decides the format: .png, .tif, .tiff, .bmp, .webp, .jpg or .jpeg; its folder is made if need
            be.
        array: shape (H, W, C), grey, RGB or RGBA; uint8, uint16, or float32 in [0, 1].
        quality: 1 to 100, of JPEG (None: 95) and WebP (None: without loss).
        metadata: colour profile and EXIF that the file shall hold; None: none.

    Returns:
        What of the metadata the file does not hold, in words.

    Raises:
        ValueError: if the suffix names no known format, or one that cannot hold the array's type, channels or size.
        OSError: if the file cannot be written; nothing is left behind, and a former file survives.
    """
    path = Path(path)
    check_format(path.suffix, array.shape, array.dtype, str(path))
    kept = kept_metadata(path.suffix, metadata or Metadata())
    encoded = encode(array, path.suffix, quality, kept)
    with atomic_file(path) as file:
        file.write(encoded)
    return kept.lost


def to_tensor(array: NDArray) -> Tensor:
    """Turn an image array into the tensor that nets take.

    Args:
        array: shape (H, W, C); uint8, uint16, or float32 in [0, 1].

    Returns:
        Shape (C, H, W), float32 in [0, 1], contiguous; a copy.

    Raises:
        TypeError: if the array has another pixel type.
        ValueError: if the array has not three dimensions.
    """
    white = _white(array.dtype)
    if array.ndim != 3:
        raise ValueError(f"array must have shape (H, W, C), got {array.shape}")
    planes = array.transpose(2, 0, 1).astype(_FLOAT32, order="C")
    return torch.from_numpy(planes).div_(white)


def to_array(tensor: Tensor, dtype: DTypeLike = np.uint8) -> NDArray:
    """Turn a net's output into an image array: clamp to [0, 1], scale to the type's white, round half to even.

    Args:
        tensor: shape (C, H, W), floating point, on any device.
        dtype: uint8, uint16 or float32 (which is not rounded).

    Returns:
        Shape (H, W, C), of that type, contiguous; `to_array(to_tensor(a), a.dtype)` is `a`.

    Raises:
        TypeError: if `dtype` is another type.
        ValueError: if the tensor has not three dimensions, or holds NaN.
    """
    white = _white(np.dtype(dtype))
    if tensor.ndim != 3:
        raise ValueError(f"tensor must have shape (C, H, W), got {tuple(tensor.shape)}")
    pixels = tensor.detach().to("cpu", torch.float32).clamp(0, 1).permute(1, 2, 0)
    if torch.isnan(pixels).any():
        raise ValueError("tensor must be an image, got NaN in it; the net that made it diverged or overflowed")
    if white != 1:
        pixels = (pixels * white).round_()
    return np.ascontiguousarray(pixels.numpy().astype(dtype))


def jpeg(array: NDArray, quality: int) -> NDArray:
    """Write an image as JPEG and read it again, in memory.

    Args:
        array: shape (H, W, C), grey or RGB, uint8.
        quality: 1 to 100; colour is stored at half the resolution.

    Returns:
        The shape of `array`, uint8.

    Raises:
        ValueError: if the quality is out of range, or the array cannot be a JPEG.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality ({quality}) must lie in [1, 100]; benchmarks use 10, 20, 30 and 40")
    if array.dtype != _UINT8 or array.ndim != 3 or array.shape[2] not in (1, 3):
        raise ValueError(f"array must be uint8, (H, W, 1) or (H, W, 3), got {array.dtype} {array.shape}; convert it")
    encoded = cv2.imencode(".jpg", swap_red_and_blue(array), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR if array.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)
    return swap_red_and_blue(np.asarray(decoded).reshape(array.shape))


def jpeg_library() -> str:
    """The JPEG library that OpenCV decodes with, as it describes it: other versions give other pixels."""
    found = re.search(r"^ *JPEG: *(.+?) *$", cv2.getBuildInformation(), re.MULTILINE)
    return found[1] if found else "none"


def convert_channels(array: NDArray, channels: int, *, studio: bool = False) -> NDArray:
    """Give an image the channels that a net takes: alpha is dropped, grey repeated, colour reduced to its luma.

    Args:
        array: shape (H, W, C) with C = 1, 3 or 4.
        channels: 1 (BT.601 luma of colour images) or 3.
        studio: make luma that of MATLAB's `rgb2ycbcr`, 16/255 to 235/255 of white, instead of the whole range.

    Returns:
        Shape (H, W, channels), dtype of `array`.
    """
    colours = array[..., :3]
    if channels == colours.shape[2]:
        return np.ascontiguousarray(colours)
    if channels == 3:
        return np.repeat(colours, 3, axis=2)
    if studio:
        white = _white(array.dtype)
        luma = 16 / 255 * white + (colours * np.array([65481.0, 128553.0, 24966.0])).sum(2, keepdims=True) / 255_000
        return (luma if white == 1 else np.floor(luma + 0.5)).astype(array.dtype)
    return cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2GRAY)[..., None]


def _white(dtype: np.dtype) -> int:
    if dtype not in _WHITE:
        raise TypeError(f"dtype of an image must be uint8, uint16 or float32, got {dtype}")
    return _WHITE[dtype]
