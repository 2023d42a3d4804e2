"""Hostile and unusual image files: every format, depth and layout, whole, damaged, cut short and lying."""

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tests.attack.inputs.attack import DONE, EITHER, REFUSED, Attack, Ended, Shared, Step, one_of
from tests.datamodules.files import picture_kinds
from tests.datamodules.files.pictures import Picture, by_tifffile, lying, png, retagged

BEGINNINGS = (
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffIDAT" * 9,
    b"\xff\xd8\xff\xd9",
    b"\xff\xd8\xff" + b"\xff" * 4000 + b"\xff\xd9",
    b"BM",
    b"RIFF\x04\0\0\0WEBP",
    b"RIFF\xff\xff\xff\xffWEBPVP8X",
    b"II*\0",
    b"II*\0\x08\0\0\0\0\0\0\0\0\0",
    b"MM\0*\xff\xff\xff\xff",
    b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0",
)
"""Files that begin as a format does and hold nothing."""
RESULTS = {".jpg": ".png", ".jpeg": ".png"}
"""Suffixes of results that are not those of their images."""


@functools.cache
def sound() -> Sequence[Picture]:
    """All pictures of the tests of `datamodules.files`."""
    return [*picture_kinds.tiffs(), *picture_kinds.pngs(), *picture_kinds.others()]


@functools.cache
def refused() -> Sequence[tuple[str, bytes]]:
    """Files that no reader of single pictures can return."""
    return [(name, data) for name, data, _ in picture_kinds.refused()]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A file with a few bytes changed, left out or put in, most of them where formats keep what they say of pixels."""
    changed = bytearray(data)
    way = chance.random()
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.randrange(min(len(changed), chance.choice((40, 200, len(changed)))))
        if way < 0.5:
            changed[place] = chance.choice((0, 1, 255, changed[place] ^ 1 << chance.randrange(8)))
        elif way < 0.7:
            del changed[place : place + chance.randrange(1, 9)]
        elif way < 0.8:
            changed[place:place] = chance.randbytes(chance.randrange(1, 9))
        else:
            changed[-chance.randrange(1, min(300, len(changed)))] = chance.randrange(256)
    return bytes(changed)


def random_pixels(chance: random.Random, channels: int, dtype: type) -> NDArray:
    """A picture of any small size, of noise or nearly even."""
    numbers = np.random.default_rng(chance.getrandbits(32))
    height, width = (chance.choice((1, 2, 7, 8, 16, 17, chance.randrange(1, 70))) for _ in range(2))
    if np.dtype(dtype).kind == "f":
        return numbers.random((height, width, channels)).astype(dtype)
    white = int(np.iinfo(dtype).max)
    return numbers.integers(0, chance.choice((2, 16, white)) + 1, (height, width, channels)).astype(dtype)


def random_png(chance: random.Random) -> Picture:
    """A PNG of 8 or 16 bits and any colour type, with chunks of other programs."""
    dtype = chance.choice((np.uint8, np.uint16))
    kind, channels = chance.choice(((0, 1), (2, 3), (6, 4)))
    array = random_pixels(chance, channels, dtype)
    texts = [(b"tEXt", b"Comment\0" + chance.randbytes(chance.randrange(40)))] * chance.randrange(3)
    if chance.random() < 0.3:
        texts.append((chance.choice((b"prVt", b"tIME", b"pHYs")), chance.randbytes(9)))
    return Picture("random.png", png(array, 8 * np.dtype(dtype).itemsize, kind, *texts), array)


def random_tiff(chance: random.Random) -> Picture:
    """A TIFF of any type, byte order, layout and lossless compression."""
    dtype = chance.choice((np.uint8, np.uint16, np.float32, np.float16))
    channels = chance.choice((1, 3, 4))
    array = random_pixels(chance, channels, dtype)
    right = array.astype(np.float32) if dtype == np.float16 else array
    separate = channels > 1 and chance.random() < 0.4
    orientation = chance.choice((1, 1, 2, 3, 4, 5, 6, 7, 8))
    stored = lying(array, orientation)
    compression = chance.choice((None, None, "zlib"))
    integers = np.dtype(dtype).kind == "u"
    options = {
        "photometric": "minisblack" if channels == 1 else "rgb",
        "planarconfig": ("separate" if separate else "contig") if channels > 1 else None,
        "byteorder": chance.choice("<>"),
        "compression": compression,
        "predictor": 2 if compression and integers and chance.random() < 0.5 else None,
        "rowsperstrip": chance.choice((None, 1, 3, 1000)),
        "extrasamples": ["unassalpha"] if channels == 4 else None,
        "bigtiff": chance.random() < 0.2,
        "extratags": [(0x0112, "H", 1, orientation, True)],
    }
    if chance.random() < 0.25:
        options |= {"tile": (16, chance.choice((16, 32))), "rowsperstrip": None}
    stored = np.moveaxis(stored, 2, 0) if separate else stored[..., 0] if channels == 1 else stored
    return Picture(
        "random.tif", by_tifffile(stored, **options), right, 0 if integers else 1e-3 if dtype == np.float16 else 1e-5
    )


def random_other(chance: random.Random) -> Picture:
    """A lossless WebP or a BMP."""
    array = random_pixels(chance, 3, np.uint8)
    buffer = io.BytesIO()
    kind = chance.choice(("WEBP", "BMP"))
    Image.fromarray(array).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return Picture(f"random.{kind.lower()}", buffer.getvalue(), array)


def any_sound(chance: random.Random) -> Picture:
    """A whole file of any kind."""
    draw = chance.choice((lambda chance: chance.choice(sound()), random_png, random_tiff, random_other))
    return draw(chance)


def read_independently(path: Path) -> NDArray:
    """Read a plain PNG, TIFF, WebP or BMP as (H, W, C) by its own library, without this package."""
    if path.suffix.lower() in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as file:
            array = file.pages.first.asarray()
        return array if array.ndim == 3 else array[..., None]
    array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    array = array[..., None] if array.ndim == 2 else array
    return array[..., [2, 1, 0, 3][: array.shape[2]]] if array.shape[2] > 1 else array


def differing(found: NDArray, expected: NDArray, tolerance: float) -> str | None:
    """What is not alike in two pictures, in words; None if nothing is."""
    if found.shape != expected.shape:
        return f"shape {found.shape}, expected {expected.shape}"
    if found.dtype != expected.dtype:
        return f"type {found.dtype}, expected {expected.dtype}"
    largest = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max(initial=0)
    return None if largest <= tolerance else f"pixels differ by up to {largest:g}, allowed {tolerance:g}"


def restoring(picture: Path, shared: Shared, *options: str, statuses: tuple[int, ...]) -> Step:
    """Restore a picture by the network that changes nothing."""
    return Step(["restore", picture, "--pretrained", shared.identity, "--output", "out", *options], statuses)


def result_of(folder: Path, name: str) -> Path:
    """The result of an image of the folder `in`."""
    suffix = Path(name).suffix
    return folder / "out" / f"{Path(name).stem}{RESULTS.get(suffix.lower(), suffix)}"


def is_picture(picture: Picture) -> Callable[[Path, Ended], str | None]:
    """A check that the result is the picture itself, if there is one."""

    def check(folder: Path, ended: Ended) -> str | None:
        result = result_of(folder, picture.name)
        if ended.status != 0:
            return f"{result.name} was written all the same" if result.exists() else None
        # Floats go through the network's arithmetic.
        tolerance = max(picture.tolerance, 1e-6) if picture.pixels.dtype.kind == "f" else picture.tolerance
        return differing(read_independently(result), picture.pixels, tolerance)

    return check


def _whole(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    picture = any_sound(chance)
    _write(folder / "in" / picture.name, picture.data)
    # However it is cut into tiles, the network changes nothing.
    tiling = chance.choice(([], ["--tile", "16", "--overlap", "8"], ["--tile", "null"]))
    step = restoring(Path("in") / picture.name, shared, *tiling, statuses=DONE)
    return Attack(f"whole {picture.name} {picture.pixels.shape}", [step], ("out/*",), check=is_picture(picture))


def _cut(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    picture = any_sound(chance)
    left = chance.choice((chance.randrange(len(picture.data)), len(picture.data) - chance.randrange(1, 12)))
    _write(folder / "in" / picture.name, picture.data[: max(left, 0)])
    step = restoring(Path("in") / picture.name, shared, statuses=EITHER)
    # What is missing may be no part of the pixels.
    return Attack(f"{left} bytes of {picture.name}", [step], ("out/*",), check=is_picture(picture))


def _damaged(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    picture = any_sound(chance)
    data = damaged(picture.data, chance)
    _write(folder / "in" / picture.name, data)
    step = restoring(Path("in") / picture.name, shared, statuses=EITHER)
    # Of all formats, PNG alone has checksums: what is read of others may be what the file says now.
    checked = picture.name.endswith(".png") and data.startswith(b"\x89PNG")
    check = is_picture(picture) if checked else _is_complete(picture.name)
    return Attack(f"damaged {picture.name}", [step], ("out/*",), check=check)


def _is_complete(name: str) -> Callable[[Path, Ended], str | None]:
    def check(folder: Path, ended: Ended) -> str | None:
        result = result_of(folder, name)
        if ended.status != 0:
            return f"{result.name} was written all the same" if result.exists() else None
        array = read_independently(result)
        return None if array.shape[2] in (1, 3, 4) and array.size else f"a picture of shape {array.shape}"

    return check


def _refused(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    suffix = chance.choice((".png", ".jpg", ".tif", ".webp", ".bmp"))
    kind = chance.randrange(4)
    if kind == 0:
        name, data = chance.choice(refused())
    elif kind == 1:
        name, data = f"beginning{suffix}", chance.choice(BEGINNINGS)
    elif kind == 2:
        name, data = f"noise{suffix}", chance.randbytes(chance.randrange(1, 3000))
    else:
        name, data = (
            "claims.tif",
            by_tifffile(random_pixels(chance, 3, np.uint8), photometric="rgb", rowsperstrip=chance.choice((None, 1))),
        )
        for tag in (256, 257):
            data = retagged(data, tag, chance.choice((2**16, 2**31 - 1, 2**32 - 1)))
    _write(folder / "in" / name, data)
    step = restoring(Path("in") / name, shared, statuses=REFUSED)
    return Attack(f"{name} that holds no picture", [step], check=_is_complete(name))


def _mixed(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A folder in which some pictures are whole and one is not."""
    pictures = {
        f"{number}-{picture.name}": picture for number, picture in enumerate(any_sound(chance) for _ in range(3))
    }
    for name, picture in pictures.items():
        _write(folder / "in" / name, picture.data)
    _write(folder / "in" / "broken.png", chance.choice(BEGINNINGS))

    def check(folder: Path, ended: Ended) -> str | None:
        if "broken.png" not in ended.err:
            return "the broken picture is not named"
        for name, picture in pictures.items():
            wrong = is_picture(picture._replace(name=name))(folder, ended._replace(status=0))
            if wrong:
                return f"{name}: {wrong}"
        return None

    step = restoring(Path("in"), shared, statuses=REFUSED)
    return Attack(f"{', '.join(pictures)} and one broken", [step], ("out/*",), check=check)


def _scored(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A picture scored against itself with a known error."""
    levels = chance.choice((1, 2, 5, 10))
    numbers = np.random.default_rng(chance.getrandbits(32))
    clean = numbers.integers(20, 200, (chance.randrange(12, 40), chance.randrange(12, 40), 3)).astype(np.uint8)
    name = f"{chance.choice('abc')}.png"
    for kind, array in (("restored", clean + np.uint8(levels)), ("target", clean)):
        _write(folder / kind / name, png(array, 8, 2))
    step = Step(["score", "restored", "target", "--metrics", "[trainers.metrics.PSNR]", "--output", "out"], DONE)
    expected = 20 * np.log10(255 / levels)

    def check(folder: Path, ended: Ended) -> str | None:
        return None if f"{expected:.2f}" in ended.out else f"PSNR is {expected:.2f}, got {ended.out!r}"

    return Attack(f"{levels} levels of error", [step], ("out/*",), check=check)


def _lying_header(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """A PNG whose checksums fit, but whose header claims another picture than its pixels make."""
    array = random_pixels(chance, 3, np.uint8)
    data = bytearray(png(array, 8, 2))
    height, width = array.shape[:2]
    sides = chance.choice(
        (
            (width, height + chance.choice((1, 9, 60_000))),
            (width + 1, height),
            (2**31 - 1, height),
            (0, height),
            (width, 0),
        )
    )
    struct.pack_into(">II", data, 16, *sides)
    if chance.random() < 0.3:
        data[24] = chance.choice((1, 2, 4, 16, 7))
    struct.pack_into(">I", data, 29, zlib.crc32(bytes(data[12:29])))
    _write(folder / "in/a.png", bytes(data))
    step = restoring(Path("in/a.png"), shared, statuses=REFUSED)
    return Attack(
        f"a PNG of {width}×{height} that claims {sides}, depth {data[24]}", [step], check=_is_complete("a.png")
    )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


MAKERS = ((8, _whole), (5, _cut), (8, _damaged), (3, _refused), (2, _mixed), (1, _scored), (2, _lying_header))


def make(chance: random.Random, folder: Path, shared: Shared) -> Attack:
    """Write pictures and restore them by a network that changes nothing."""
    return one_of(chance, MAKERS, folder, shared)
