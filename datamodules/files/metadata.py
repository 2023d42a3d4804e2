"""What an image file says beside its pixels: colour profile, EXIF, and which way is up."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from datamodules.files.opencv import silent_decoders

_MARK = b"Exif\0\0"
_ORIENTATION = 0x0112
# What Pillow raises on damaged EXIF, found by damaging some.
_DAMAGED = (SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, OSError, struct.error)
EXIF_FOLDERS = (0x8769, 0x8825)
"""Entries of a file's first folder that point to those of exposure and of place."""
# Of the first folder, what tells of the photograph: description, camera, software, date, artist, copyright. The other
# entries tell of a file's strips, planes and thumbnail, which are no longer true of another file.
_KEPT = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
# Of the folder of exposure, what a result would belie or not hold: width, height, pointers into the former file.
_UNTRUE = (0xA002, 0xA003, 0xA005)
# Colour spaces of ICC profiles, as their headers name them, and the numbers of channels that they describe.
_CHANNELS = {b"GRAY": (1,), b"RGB ": (3, 4)}


@dataclass(frozen=True)
class Metadata:
    """What an image file says beside its pixels, as far as it holds for the pixels as they were read.

    Attributes:
        profile: ICC colour profile; None if the file has none that describes the pixels.
        exif: description, camera, exposure, date, place and author, as EXIF without its leading mark; None if the file
            has none. Never an orientation or a size.
        lost: what the file said that does not describe the pixels as they were read, in words.
    """

    profile: bytes | None = None
    exif: bytes | None = None
    lost: tuple[str, ...] = ()


def metadata_of(profile: bytes | None, exif: bytes | None, channels: int) -> Metadata:
    """Keep what holds for the pixels of an image.

    Args:
        profile: as the file holds it; None if it has none.
        exif: as the file holds it; None if it has none. A whole TIFF file is EXIF, too.
        channels: of the image as it was read.
    """
    lost: tuple[str, ...] = ()
    if profile and channels not in _CHANNELS.get(profile[16:20], ()):
        lost = (f"colour profile (of {profile[16:20].decode('ascii', 'replace').strip()} pixels)",)
        profile = None
    return Metadata(profile or None, _photograph(exif) if exif else None, lost)


def orientation_of(exif: bytes | None) -> int:
    """The orientation that EXIF names, 1 (upright) to 8; 1 if it names none."""
    value = _load(exif).get(_ORIENTATION) if exif else 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turn_upright(pixels: NDArray, orientation: int) -> NDArray:
    """Turn and mirror an image, shape (H, W, C), as its orientation asks, so that it needs none."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def lay_out_folder(exif: bytes, pointer: int, offset: int) -> bytes:
    """Lay out a folder of EXIF as a little-endian TIFF file holds it; empty if there is no such folder.

    Args:
        exif: as in `Metadata`.
        pointer: which of `EXIF_FOLDERS`.
        offset: of the folder in the file, in bytes.
    """
    entries = _load(exif).get_ifd(pointer)
    if not entries:
        return b""
    folder = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\x08\0\0\0", group=pointer)
    for tag, value in entries.items():
        folder[tag] = _as_stored(value)
    return folder.tobytes(offset)


def texts_of(exif: bytes) -> dict[int, bytes]:
    """The texts of EXIF's first folder as they are stored, by the numbers that TIFF gives them, too."""
    return {tag: _as_stored(value).encode() for tag, value in _load(exif).items() if isinstance(value, str)}


class _StoredText(str):
    """A text of EXIF that is written as it was read.

    EXIF's texts are ASCII by its standard, but UTF-8 in many files. Pillow decodes them as Latin-1, which keeps every
    byte, and encodes them as ASCII, which makes a question mark of every other letter.
    """

    def encode(self, encoding: str = "latin-1", errors: str = "strict") -> bytes:
        return super().encode("latin-1")


def _photograph(exif: bytes) -> bytes | None:
    found = _load(exif)
    kept = Image.Exif()
    for tag in _KEPT:
        if isinstance(found.get(tag), str):
            kept[tag] = _as_stored(found[tag])
    for pointer in EXIF_FOLDERS:
        entries = {tag: _as_stored(value) for tag, value in found.get_ifd(pointer).items() if tag not in _UNTRUE}
        if entries:
            kept.get_ifd(pointer).update(entries)
            kept[pointer] = entries
    try:
        return kept.tobytes().removeprefix(_MARK) if len(kept) else None
    except _DAMAGED:
        return None


def _as_stored(value: Any) -> Any:
    return _StoredText(value) if isinstance(value, str) else value


def _load(exif: bytes) -> Image.Exif:
    found = Image.Exif()
    # Of damaged EXIF, Pillow reads what there is and warns.
    with silent_decoders():
        try:
            found.load(exif)
            for tag in list(found):
                found[tag]
            for pointer in EXIF_FOLDERS:
                found.get_ifd(pointer)
        except _DAMAGED:
            # Cameras write EXIF that no standard allows. The pixels are none the worse for it.
            return Image.Exif()
    return found
