"""Pixels as the content of an image file: what each format holds, and how it is written."""

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from datamodules.files.metadata import Metadata
from datamodules.files.opencv import silent_decoders, swap_red_and_blue
from datamodules.files.pillow import encode_jpeg
from datamodules.files.tiff import encode_tiff

_UINT8, _UINT16, _FLOAT32 = np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32)

# Pixel types, numbers of channels and largest side that each format can hold. OpenCV would convert pixels silently.
_FORMATS = {
    ".png": ((_UINT8, _UINT16), (1, 3, 4), 1_000_000),
    ".tif": ((_UINT8, _UINT16, _FLOAT32), (1, 3, 4), 2**31 - 1),
    ".tiff": ((_UINT8, _UINT16, _FLOAT32), (1, 3, 4), 2**31 - 1),
    ".bmp": ((_UINT8,), (1, 3, 4), 2**20),
    ".webp": ((_UINT8,), (3, 4), 16383),
    ".jpg": ((_UINT8,), (1, 3), 65500),
    ".jpeg": ((_UINT8,), (1, 3), 65500),
}
IMAGE_SUFFIXES = tuple(_FORMATS)
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp")
"""Formats that have a quality."""

_LARGEST_EXIF = 65_000
"""In a JPEG, in bytes: what one segment holds."""


def check_format(suffix: str, shape: tuple[int, ...], dtype: DTypeLike, name: str) -> None:
    """Check that a format can hold an image, before the image is made.

    Args:
        suffix: of the file, such as .png.
        shape: of the image, (H, W, C).
        dtype: of its pixels.
        name: of the file, for messages.

    Raises:
        ValueError: if the suffix names no known format, or one that cannot hold the pixels.
    """
    suffix, dtype = suffix.lower(), np.dtype(dtype)
    if suffix not in _FORMATS:
        raise ValueError(f"suffix of {name} must be one of {', '.join(IMAGE_SUFFIXES)}, got '{suffix}'")
    if len(shape) != 3:
        raise ValueError(f"array must have shape (H, W, C), got {shape}")
    dtypes, channels, largest = _FORMATS[suffix]
    if dtype not in dtypes:
        able = ", ".join(other for other, (types, _, _) in _FORMATS.items() if dtype in types)
        raise ValueError(
            f"a {suffix} file ({name}) must hold {' or '.join(map(str, dtypes))}, got {dtype}; "
            + (f"write {able}" if able else "convert the array")
        )
    if shape[2] not in channels:
        raise ValueError(
            f"a {suffix} file ({name}) must have {' or '.join(map(str, channels))} channels, got {shape[2]}; "
            "write .png or convert the array"
        )
    if not min(shape) >= 1 or max(shape[:2]) > largest:
        raise ValueError(
            f"a {suffix} file ({name}) must have sides of 1 to {largest} pixels, got {shape[1]}×{shape[0]}; "
            "write .png or .tif"
        )


def kept_metadata(suffix: str, metadata: Metadata) -> Metadata:
    """What of an image's metadata a format can hold; the rest is noted as lost."""
    suffix, lost = suffix.lower(), list(metadata.lost)
    profile, exif = metadata.profile, metadata.exif
    if profile and suffix == ".bmp":
        profile = None
        lost.append("colour profile (a .bmp holds none)")
    if exif and (suffix == ".bmp" or (suffix in (".jpg", ".jpeg") and len(exif) > _LARGEST_EXIF)):
        exif = None
        lost.append("EXIF (a .bmp holds none)" if suffix == ".bmp" else "EXIF (a .jpg holds 64 KB)")
    return Metadata(profile, exif, tuple(lost))


def encode(pixels: NDArray, suffix: str, quality: int | None, metadata: Metadata) -> bytes:
    """Encode an image.

    Args:
        pixels: shape (H, W, C), as `check_format` demands.
        suffix: of the format, such as .png.
        quality: 1 to 100, of JPEG (None: 95) and WebP (None: without loss); of no meaning to other formats.
        metadata: as `kept_metadata` returns it.

    Raises:
        ValueError: if the pixels cannot be encoded.
    """
    suffix = suffix.lower()
    if suffix in (".tif", ".tiff"):
        return encode_tiff(pixels, metadata)
    if suffix in (".jpg", ".jpeg"):
        return encode_jpeg(pixels, 95 if quality is None else quality, metadata.profile, metadata.exif)
    options = [] if quality is None or suffix != ".webp" else [cv2.IMWRITE_WEBP_QUALITY, quality]
    said = {cv2.IMAGE_METADATA_ICCP: metadata.profile, cv2.IMAGE_METADATA_EXIF: metadata.exif}
    entries = {kind: np.frombuffer(entry, np.uint8) for kind, entry in said.items() if entry}
    with silent_decoders():
        written, data = cv2.imencodeWithMetadata(
            suffix, swap_red_and_blue(pixels), list(entries), list(entries.values()), options
        )
    if not written:
        raise ValueError(f"an image of {pixels.shape[1]}×{pixels.shape[0]} pixels cannot be written as {suffix}")
    return bytes(data)
