"""The content of an image file as pixels: which decoder reads what, and what it leaves undone."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.files.metadata import Metadata, metadata_of, orientation_of, turn_upright
from datamodules.files.opencv import silent_decoders, swap_red_and_blue
from datamodules.files.pillow import decode_by_pillow
from datamodules.files.tiff import decode_tiff

_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BMP = b"BM"
# Of a PNG without a profile, what sRGB is described by, in hundred-thousandths.
_SRGB_GAMMA = struct.pack(">I", 45455)
_SRGB_PRIMARIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def decode(data: bytes, path: Path) -> tuple[NDArray, Metadata]:
    """Decode an image file, upright, with straight alpha, without change of depth.

    Args:
        data: the whole file, which decides by what it is decoded.
        path: of the file, for messages.

    Returns:
        Shape (H, W, C) with C = 1 (grey), 3 (RGB) or 4 (RGBA), of the type that is stored; and what the file says
        beside.

    Raises:
        DataError: if the file is damaged, of no known format, holds several pictures or one of no known kind.
    """
    try:
        with silent_decoders():
            if data.startswith(_TIFF):
                pixels, profile = decode_tiff(data, path)
                return pixels, metadata_of(profile, data, pixels.shape[2])
            return _decode_other(data, path)
    except (DataError, MemoryError):
        raise
    except Exception as error:
        # Decoders raise exceptions of every kind, even on damaged files of a kind that they know.
        reason = getattr(error, "err", None) or error  # OpenCV's own text is shorter without its file and line
        raise DataError(
            f"image {path} must be a complete image file, got: {reason}; copy or download it again, or remove it "
            "together with its counterpart"
        ) from error


def _decode_other(data: bytes, path: Path) -> tuple[NDArray, Metadata]:
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if not (webp or data.startswith((_JPEG, _PNG, _BMP))):
        raise ValueError(f"{len(data)} bytes that are no image of a known format" if data else "an empty file")
    # OpenCV 4 decodes what is there of a truncated JPEG and fills the rest with grey.
    cut = data.startswith(_JPEG) and data.find(_JPEG_END, max(data.find(_JPEG_SCAN), 0)) < 0
    if cut or (webp and len(data) < int.from_bytes(data[4:8], "little")):
        raise ValueError(f"{len(data)} bytes that are truncated")
    chunks = _png_chunks(data) if data.startswith(_PNG) else {}
    if b"acTL" in chunks or (webp and data[12:16] == b"VP8X" and data[20] & 2):
        raise DataError(f"image {path} must hold one picture, got an animation; save each picture as a file")
    image, kinds, entries = cv2.imdecodeWithMetadata(np.frombuffer(data, np.uint8), flags=cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{len(data)} bytes that are corrupt, or more pixels than OpenCV decodes")
    said = {kind: bytes(entry) for kind, entry in zip(kinds, entries, strict=True)}
    profile, exif = said.get(cv2.IMAGE_METADATA_ICCP), said.get(cv2.IMAGE_METADATA_EXIF)
    if _is_cmyk(data) or (data.startswith(_BMP) and data[28] == 16):
        # OpenCV guesses which way ink is stored, and leaves the lowest bits of 16-bit pixels 0.
        pixels = decode_by_pillow(data, profile)
    else:
        pixels = swap_red_and_blue(image.reshape(*image.shape[:2], -1))
    if pixels.shape[2] == 1 and b"tRNS" in chunks:
        pixels = _transparent(pixels, chunks[b"tRNS"], depth=chunks[b"IHDR"][8])
    metadata = metadata_of(profile, exif, pixels.shape[2])
    unread = [] if profile else _unread_colours(data, chunks)
    return turn_upright(pixels, orientation_of(exif)), replace(metadata, lost=(*metadata.lost, *unread))


def _png_chunks(data: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG other than its pixels, by name; ValueError if one is damaged or missing.

    libpng goes on where it can, without the transparency or the palette that is damaged.
    """
    chunks: dict[bytes, bytes] = {}
    position, view = len(_PNG), memoryview(data)
    while b"IEND" not in chunks:
        if position + 12 > len(data):
            raise ValueError(f"{len(data)} bytes that are truncated")
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4], "big") or end + 4 > len(data):
            raise ValueError(f"{len(data)} bytes that are truncated or corrupt")
        chunks[name] = b"" if name == b"IDAT" else bytes(view[position + 8 : end])
        position = end + 4
    return chunks


def _unread_colours(data: bytes, chunks: dict[bytes, bytes]) -> list[str]:
    """What a file without a readable profile says of its colours and is not handed on, in words."""
    if data.startswith(_BMP):
        linked = len(data) > 138 and data[14] == 124 and data[70:74] in (b"DEBM", b"KNIL")
        return ["colour profile (of a .bmp)"] * linked
    if b"iCCP" in chunks:
        return ["colour profile (damaged)"]
    if b"cICP" in chunks:
        return ["colour space (cICP of a .png)"]
    standard = {b"gAMA": _SRGB_GAMMA, b"cHRM": _SRGB_PRIMARIES}
    unusual = any(chunks.get(name, usual) != usual for name, usual in standard.items())
    return ["colour space (gAMA, cHRM of a .png)"] * (unusual and b"sRGB" not in chunks)


def _transparent(grey: NDArray, level: bytes, depth: int) -> NDArray:
    """Give a grey PNG the alpha that OpenCV leaves out: one level of so many bits is transparent, all others opaque."""
    white = np.iinfo(grey.dtype).max
    transparent = int.from_bytes(level, "big") * (white // (2**depth - 1))
    alpha = np.where(grey == transparent, 0, white).astype(grey.dtype)
    return np.concatenate([grey, grey, grey, alpha], axis=2)


def _is_cmyk(data: bytes) -> bool:
    """Whether a file is a JPEG of four channels."""
    position = len(_JPEG) - 1
    while data.startswith(_JPEG) and position + 10 <= len(data):
        if data[position] != 0xFF or data[position + 1] in (0xFF, 0x01):
            position += 1  # bytes that fill up
            continue
        marker, length = struct.unpack_from(">BH", data, position + 1)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[position + 9] == 4
        position += 2 + length
    return False
