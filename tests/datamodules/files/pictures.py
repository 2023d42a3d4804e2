"""Image files of the kinds that photographs come in, made in memory, with the pixels that a reader must return."""

import functools
import io
import struct
import zlib
from typing import NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

HEIGHT, WIDTH = 34, 45


class Picture(NamedTuple):
    """One image file.

    Attributes:
        name: with the suffix of its format.
        data: the file.
        pixels: (H, W, C), upright, straight alpha, the file's own depth.
        tolerance: in levels, where the format or a conversion loses.
    """

    name: str
    data: bytes
    pixels: NDArray
    tolerance: float = 0


def pixels(channels: int = 3, dtype: type = np.uint8) -> NDArray:
    """A picture in which no two pixels, rows, channels or bytes are alike."""
    rows, columns, planes = np.meshgrid(*map(np.arange, (HEIGHT, WIDTH, channels)), indexing="ij")
    values = (rows * 5 + columns * 4 + planes * 60) % 256
    if np.dtype(dtype).kind == "f":
        return (values / 255 * 0.9 + columns / 900).astype(dtype)
    return (values * 257 ^ (columns * 3)).astype(dtype) if dtype == np.uint16 else values.astype(dtype)


def opacity(dtype: type = np.uint8) -> NDArray:
    """Alpha from nearly transparent to opaque."""
    levels = np.linspace(20, 255, WIDTH).astype(int) * (white_of(dtype) / 255)
    return np.tile(levels[None, :, None], (HEIGHT, 1, 1)).astype(dtype)


def white_of(dtype: type) -> int:
    """White of a pixel type."""
    return 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max


def lying(upright: NDArray, orientation: int) -> NDArray:
    """How a picture is stored whose orientation makes it upright."""
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }
    return np.ascontiguousarray(stored[orientation])


def exif(orientation: int | None = None, **texts: str) -> Image.Exif:
    """EXIF of a camera, lying or not."""
    made = Image.Exif()
    if orientation is not None:
        made[0x0112] = orientation
    made[0x010F] = texts.get("maker", "Maker")
    made[0x8769] = {0x9003: "2026:01:02 03:04:05", 0xA002: WIDTH}
    # Pillow writes folders into a TIFF only if it has read them.
    read = Image.Exif()
    read.load(made.tobytes())
    return read


@functools.cache  # it holds the time of its making
def srgb() -> bytes:
    """An ICC profile of RGB pixels."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile_of(space: bytes) -> bytes:
    """What names itself the profile of other pixels; only its header is ever looked at."""
    return srgb()[:16] + space + srgb()[20:]


def by_pillow(array: NDArray, kind: str, **options: object) -> bytes:
    """A file as Pillow writes it."""
    buffer = io.BytesIO()
    Image.fromarray(array if array.shape[-1] > 1 else array[..., 0]).save(buffer, kind, **options)
    return buffer.getvalue()


def saved(image: Image.Image, compression: str) -> bytes:
    """A TIFF as Pillow compresses it."""
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression=compression)
    return buffer.getvalue()


def by_tifffile(array: NDArray, **options: object) -> bytes:
    """A TIFF as tifffile writes it."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **({"metadata": None} | options))
    return buffer.getvalue()


def retagged(data: bytes, tag: int, value: int) -> bytes:
    """A TIFF with another value of one tag."""
    buffer = io.BytesIO(data)
    with tifffile.TiffFile(buffer, mode="r+") as file:
        file.pages.first.tags[tag].overwrite(value)
    return buffer.getvalue()


def text_entries(texts: dict[int, bytes], offset: int, pointer: int | None = None) -> bytes:
    """A little-endian folder of EXIF, at an offset of the file, with texts and a pointer to what follows it."""
    place = offset + 2 + 12 * (len(texts) + (pointer is not None)) + 4
    entries, bodies = b"", b""
    for tag, text in sorted(texts.items()):
        entries += struct.pack("<HHII", tag, 2, len(text) + 1, place + len(bodies))
        bodies += text + b"\0"
    if pointer is not None:
        entries += struct.pack("<HHII", pointer, 4, 1, place + len(bodies))
    return struct.pack("<H", len(entries) // 12) + entries + bytes(4) + bodies


def behind_a_preview(data: bytes) -> bytes:
    """A TIFF with a first page, as large and all grey, that is the preview of its picture."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    number, kind, count, start = ("Q", 16, "Q", 8) if big else ("I", 4, "H", 4)
    preview = bytes([128]) * (HEIGHT * WIDTH)
    place = len(data) + len(data) % 2
    sides = {256: WIDTH, 257: HEIGHT, 278: HEIGHT}
    tags = {254: 1, 258: 8, 259: 1, 262: 1, 273: place, 277: 1, 279: len(preview)} | sides
    page = struct.pack(f"{order}{count}", len(tags))
    for tag in sorted(tags):
        entry = struct.pack(f"{order}HH{number}", tag, kind, 1)
        page += entry + struct.pack(f"{order}{number}", tags[tag])
    page += data[start : 2 * start]
    first = struct.pack(f"{order}{number}", place + len(preview))
    return data[:start] + first + data[2 * start :] + bytes(len(data) % 2) + preview + page


def png(stored: NDArray, depth: int, kind: int, *chunks: tuple[bytes, bytes], late: tuple[bytes, bytes] = ()) -> bytes:
    """A PNG of a depth and a colour type, with chunks in front of the pixels and one behind."""
    height, width = stored.shape[:2]
    if depth >= 8:
        rows = stored.astype(f">u{depth // 8}").reshape(height, -1).view(np.uint8)
    else:
        bits = np.unpackbits(stored.reshape(height, -1, 1).astype(np.uint8), axis=2)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(height, -1), axis=1)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)),
            *(chunk(*one) for one in chunks),
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
            *([chunk(*late)] if late else []),
            chunk(b"IEND", b""),
        ]
    )


def bmp(bits: int, body: bytes, *, compression: int = 0, masks: bytes = b"", height: int = HEIGHT) -> bytes:
    """A BMP of packed or masked pixels."""
    header = 108 if len(masks) == 16 else 40
    info = struct.pack("<IiiHHIIiiII", header, WIDTH, height, 1, bits, compression, len(body), 2835, 2835, 0, 0) + masks
    info += bytes(max(0, header - len(info)))
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(body), 0, 0, 14 + len(info)) + info + body
