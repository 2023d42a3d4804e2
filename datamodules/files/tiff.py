"""TIFF files: the one format of many layouts, read as grey, RGB or RGBA, written as such."""

import io
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.files.metadata import EXIF_FOLDERS, Metadata, lay_out_folder, texts_of, turn_upright
from datamodules.files.opencv import swap_red_and_blue
from datamodules.files.pillow import MOST_PIXELS, decode_by_pillow

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_CHANNELS = {_MINISWHITE: 1, _MINISBLACK: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_ASSOCIATED, _UNASSOCIATED = 1, 2
_UNCOMPRESSED, _JPEG = 1, 7
# Without imagecodecs, tifffile decodes no compression, deflate under both of its numbers, PackBits and LZMA.
_DECODED = (_UNCOMPRESSED, 8, 32946, 32773, 34925)
_FLOATS = ("float16", "float32", "float64")
_REDUCED_OR_MASK = 1 | 4
_DESCRIPTION, _ORIENTATION, _PROFILE = 270, 274, 34675


def decode_tiff(data: bytes, path: Path) -> tuple[NDArray, bytes | None]:
    """Decode a TIFF file.

    Planes are put together, 0-is-white is turned over, alpha made straight, CMYK made sRGB (by the file's profile, if
    there is one), the orientation applied. Grey with alpha comes back as RGBA.

    Args:
        data: the whole file.
        path: of the file, for messages.

    Returns:
        Shape (H, W, C) with C = 1, 3 or 4, with the type that is stored; and the file's ICC profile.

    Raises:
        DataError: if the file holds several pictures, or one of another kind.
        Exception: of many types, if the file is damaged.
    """
    # Its import takes a third of a second, for which programs that read no TIFF should not wait.
    from tifffile import TiffFile

    with TiffFile(io.BytesIO(data)) as file:
        page = _only_page(file, path)
        alpha = _alpha_of(page, path)
        _check_kind(page, path)
        _check_segments(page, len(data))
        profile = page.tags.valueof(_PROFILE)
        orientation = page.tags.valueof(_ORIENTATION, 1)
        if page.bitspersample < 8 or page.compression == _JPEG or page.photometric in (_PALETTE, _CMYK):
            pixels = decode_by_pillow(_alone(data, page), profile)
        elif (page.compression in _DECODED and page.predictor in (1, 2)) or find_spec("imagecodecs"):
            planes = page.asarray(squeeze=False, maxworkers=1)[:, 0]
            stored = np.moveaxis(planes, 0, -1)[..., 0, :] if page.planarconfig == 2 else planes[0]
            pixels = _in_grey_or_rgb(stored, page.photometric == _MINISWHITE, alpha)
        elif page.bitspersample == 8:
            pixels = decode_by_pillow(_alone(data, page), profile)
        else:
            pixels = _in_grey_or_rgb(_decode_by_opencv(data, page, path), page.photometric == _MINISWHITE, alpha)
    if pixels.shape[:2] != (page.imagelength, page.imagewidth):
        raise ValueError(f"{pixels.shape[1]}×{pixels.shape[0]} pixels instead of {page.imagewidth}×{page.imagelength}")
    return turn_upright(pixels, orientation if orientation in range(1, 9) else 1), profile


def encode_tiff(pixels: NDArray, metadata: Metadata) -> bytes:
    """Encode an image as TIFF, without loss, with its profile and EXIF.

    Args:
        pixels: shape (H, W, C), grey, RGB or RGBA; uint8, uint16 or float32.
        metadata: what the file says beside them.
    """
    from tifffile import TiffFile, imwrite

    exif = metadata.exif or b""
    tags: list[Any] = [(tag, "s", 0, text, True) for tag, text in texts_of(exif).items()] if exif else []
    # Folders of EXIF are appended when the file's length is known. tifffile writes no pointers to such, so that their
    # places are kept by entries with the numbers before.
    pointers = [pointer for pointer in EXIF_FOLDERS if exif and lay_out_folder(exif, pointer, 0)]
    tags += [(pointer - 1, "I", 1, 0, True) for pointer in pointers]
    buffer = io.BytesIO()
    imwrite(
        buffer,
        pixels if pixels.shape[2] > 1 else pixels[..., 0],
        photometric="rgb" if pixels.shape[2] > 1 else "minisblack",
        extrasamples=["unassalpha"] if pixels.shape[2] == 4 else None,
        compression="zlib",
        predictor=pixels.dtype.kind == "u",  # that of floats needs imagecodecs
        iccprofile=metadata.profile,
        extratags=tags,
        byteorder="<",
        metadata=None,
        software=False,
        maxworkers=1,
    )
    data = bytearray(buffer.getvalue())
    buffer.seek(0)
    with TiffFile(buffer) as file:
        for pointer in pointers:
            place = file.pages.first.tags[pointer - 1]
            data += bytes(len(data) % 2)
            data[place.offset : place.offset + 2] = pointer.to_bytes(2, "little")
            data[place.valueoffset : place.valueoffset + 4] = len(data).to_bytes(4, "little")
            data += lay_out_folder(exif, pointer, len(data))
    return bytes(data)


def _only_page(file: "TiffFile", path: Path) -> "TiffPage":
    from tifffile import TiffPage

    pages: list[TiffPage] = []
    offsets: set[int] = set()
    for page in file.pages:
        if page.offset in offsets:
            # tifffile would follow a chain that bites its own tail for ever.
            raise ValueError("pages that follow each other in a circle")
        offsets.add(page.offset)
        if isinstance(page, TiffPage) and not page.subfiletype & _REDUCED_OR_MASK:
            pages.append(page)
    if not offsets:
        raise ValueError("no complete page")
    pictures = len(pages)
    if len(offsets) == pictures == 1 and file.series:
        # Some programs put many pictures under one entry.
        pictures = max(1, file.series[0].size // max(pages[0].size, 1))
    if pictures == 0:
        raise DataError(f"image {path} must hold a picture, got a preview only; develop the camera's own file instead")
    if pictures > 1:
        raise DataError(f"image {path} must hold one picture, got {pictures} pages; save each page as a file")
    return pages[0]


def _alpha_of(page: "TiffPage", path: Path) -> int | None:
    """Which kind of alpha a page has; None if it has none."""
    channels = _CHANNELS.get(page.photometric, page.samplesperpixel)
    extra = page.samplesperpixel - channels
    kinds = tuple(map(int, page.extrasamples or ()))
    # OpenCV, and so this package formerly, writes alpha without saying so.
    kinds = kinds or (_UNASSOCIATED,) * extra
    if extra == 0:
        return None
    if extra != 1 or kinds not in ((_ASSOCIATED,), (_UNASSOCIATED,)) or page.photometric in (_CMYK, _YCBCR):
        raise DataError(
            f"image {path} must have at most one channel beside its colours, marked as alpha, got {extra} of the "
            f"kinds {list(kinds)}; save it without extra channels"
        )
    return kinds[0]


def _check_kind(page: "TiffPage", path: Path) -> None:
    """Refuse pixels that cannot be read as they are meant."""
    known = page.photometric in _CHANNELS and (page.photometric != _YCBCR or page.compression == _JPEG)
    if page.photometric == _CMYK:
        known = page.tags.valueof(332, 1) == 1 and page.samplesperpixel == 4 and page.bitspersample == 8
    if not known:
        kind = getattr(page.photometric, "name", page.photometric)
        raise DataError(
            f"image {path} must be grey, RGB, of a palette or 8-bit CMYK, got {kind} of {page.bitspersample} bits; "
            "convert it"
        )
    if page.photometric == _PALETTE and page.bitspersample > 8:
        raise DataError(f"image {path} must have a palette of at most 256 colours, got more; convert it")
    whole = page.bitspersample in (1, 2, 4, 8, 16) and page.dtype is not None and page.dtype.kind in "ub"
    if not whole and str(page.dtype) not in _FLOATS:
        raise DataError(
            f"image {path} must hold 8- or 16-bit or float pixels, got {page.dtype} of {page.bitspersample} bits; "
            "convert it"
        )
    if not 0 < page.imagewidth * page.imagelength * page.imagedepth <= MOST_PIXELS or page.imagedepth != 1:
        raise DataError(
            f"image {path} must have at most {MOST_PIXELS} pixels in one layer, got {page.imagewidth}×"
            f"{page.imagelength}×{page.imagedepth}; cut it"
        )


def _check_segments(page: "TiffPage", size: int) -> None:
    """Raise ValueError if the file does not hold all strips or tiles; decoders fill up what is missing."""
    offsets, counts = page.dataoffsets, page.databytecounts
    complete = len(offsets) == len(counts) and all(
        offset > 0 and count > 0 and offset + count <= size for offset, count in zip(offsets, counts, strict=True)
    )
    if page.is_tiled:
        down, across = -(-page.imagelength // page.tilelength), -(-page.imagewidth // page.tilewidth)
    else:
        down, across = -(-page.imagelength // max(1, min(page.rowsperstrip, page.imagelength))), 1
    wanted = down * across * (page.samplesperpixel if page.planarconfig == 2 else 1)
    if not complete or len(offsets) < wanted:
        raise ValueError("truncated pixels")
    needed = page.imagelength * -(-page.imagewidth * page.samplesperpixel * page.bitspersample // 8)
    if page.compression == _UNCOMPRESSED and sum(counts) < needed:
        raise ValueError(f"{sum(counts)} bytes of pixels instead of {needed}")


def _in_grey_or_rgb(stored: NDArray, white_is_zero: bool, alpha: int | None) -> NDArray:
    """Bring (H, W, samples) to grey, RGB or RGBA."""
    if stored.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is refused with all that lies outside [0, 1]
            stored = stored.astype(np.float32)
    white = stored.dtype.type(1 if stored.dtype.kind == "f" else np.iinfo(stored.dtype).max)
    colours = stored if alpha is None else stored[..., :-1]
    if white_is_zero:
        colours = white - colours
    if alpha is None:
        return colours
    opacity = stored[..., -1:]
    if alpha == _ASSOCIATED:
        straight = colours.astype(np.float64) * white / np.maximum(opacity, np.finfo(np.float32).tiny)
        straight = np.where(opacity > 0, straight.clip(0, white), 0)
        colours = (straight if white == 1 else np.rint(straight)).astype(stored.dtype)
    if colours.shape[2] == 1:
        colours = np.repeat(colours, 3, axis=2)
    return np.concatenate([colours, opacity], axis=2)


def _decode_by_opencv(data: bytes, page: "TiffPage", path: Path) -> NDArray:
    """Decode deep pixels of a compression that tifffile does not know, as they are stored."""
    if page.planarconfig == 2 or page.samplesperpixel == 2:
        from tifffile import COMPRESSION

        kind = COMPRESSION(page.compression).name
        raise DataError(
            f"image {path} must be compressed by deflate or not at all, got {kind} of a rare layout; "
            "save it so, or: pip install imagecodecs"
        )
    # What the numbers mean is settled by the caller.
    plain = _overwritten(_alone(data, page), page, 262, _RGB if page.samplesperpixel > 1 else _MINISBLACK)
    stored = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != page.dtype or stored.size != page.size or len(stored) != page.imagelength:
        raise ValueError("pixels that OpenCV does not decode")
    stored = stored.reshape(page.imagelength, page.imagewidth, -1)
    return swap_red_and_blue(stored)


def _alone(data: bytes, page: "TiffPage") -> bytes:
    """A file that begins with a page and has no orientation: decoders read the first page, and some turn it."""
    changed = bytearray(_overwritten(data, page, _ORIENTATION, 1))
    start, length = (8, 8) if page.parent.is_bigtiff else (4, 4)
    changed[start : start + length] = page.offset.to_bytes(length, _byte_order(page))
    return bytes(changed)


def _overwritten(data: bytes, page: "TiffPage", tag: int, value: int) -> bytes:
    found = page.tags.get(tag)
    if found is None:
        return data
    changed = bytearray(data)
    changed[found.valueoffset : found.valueoffset + 2] = value.to_bytes(2, _byte_order(page))
    return bytes(changed)


def _byte_order(page: "TiffPage") -> Literal["little", "big"]:
    return "little" if page.parent.byteorder == "<" else "big"
