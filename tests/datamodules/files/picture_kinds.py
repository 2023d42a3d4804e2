"""All kinds of image files that are read right or refused, one generator for each format."""

import io
import struct
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image, ImageCms

from tests.datamodules.files.pictures import (
    HEIGHT,
    WIDTH,
    Picture,
    behind_a_preview,
    bmp,
    by_pillow,
    by_tifffile,
    exif,
    lying,
    opacity,
    pixels,
    png,
    retagged,
    saved,
    white_of,
)


def tiffs() -> Iterator[Picture]:
    """TIFF files: types, planes, compressions, alpha, byte orders, orientations."""
    for dtype in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        right = pixels(3, dtype).astype(np.float32 if np.dtype(dtype).kind == "f" else dtype)
        array, name = pixels(3, dtype), np.dtype(dtype).name
        for order in "<>":
            for compression in (None, "zlib", "lzma"):
                if compression == "lzma" and order == ">":
                    continue
                for planes in ("contig", "separate"):
                    stored = np.moveaxis(array, 2, 0) if planes == "separate" else array
                    data = by_tifffile(
                        stored, photometric="rgb", planarconfig=planes, byteorder=order, compression=compression,
                        predictor=2 if compression == "zlib" and name.startswith("u") else None,
                    )  # fmt: skip
                    yield Picture(
                        f"rgb_{name}_{planes}_{compression}_{'le' if order == '<' else 'be'}.tif", data, right
                    )
        grey = pixels(1, dtype)
        turned = by_tifffile((white_of(dtype) - grey)[..., 0].astype(dtype), photometric="miniswhite")
        yield Picture(
            f"white_is_zero_{name}.tif", turned, grey.astype(right.dtype), 0 if name.startswith("u") else 1e-3
        )
        if name == "float16":
            continue
        alpha = opacity(dtype)
        for channels in (1, 3):
            colours = pixels(channels, dtype)
            right = np.dstack([*[colours] * (3 // channels), alpha]).astype(right.dtype)
            photometric = "rgb" if channels == 3 else "minisblack"
            for planes in ("contig", "separate"):
                straight = np.dstack([colours, alpha])
                white = white_of(dtype)
                multiplied = colours / white * alpha
                multiplied = np.dstack([(multiplied if white == 1 else np.rint(multiplied)).astype(dtype), alpha])
                for kind, stored in (("unassalpha", straight), ("assocalpha", multiplied)):
                    data = by_tifffile(
                        np.moveaxis(stored, 2, 0) if planes == "separate" else stored,
                        photometric=photometric, planarconfig=planes, extrasamples=[kind],
                    )  # fmt: skip
                    # Of what is nearly transparent, 8 bits keep few levels.
                    tolerance = 0 if kind == "unassalpha" else 7 if white > 1 else 1e-6
                    yield Picture(f"{photometric}_{kind}_{planes}_{name}.tif", data, right, tolerance)
    yield Picture(
        "tiles.tif", by_tifffile(pixels(3, np.uint16), tile=(16, 32), photometric="rgb"), pixels(3, np.uint16)
    )
    yield Picture("big.tif", by_tifffile(pixels(3, np.uint16), bigtiff=True, photometric="rgb"), pixels(3, np.uint16))
    for picture in packed_tiffs():
        yield picture
        yield picture._replace(name=f"behind_a_preview_{picture.name}", data=behind_a_preview(picture.data))
    for orientation in range(1, 9):
        for channels, dtype in ((1, np.uint8), (3, np.uint16), (4, np.uint8)):
            tag = (0x0112, "H", 1, orientation, True)
            data = by_tifffile(
                lying(pixels(channels, dtype), orientation).squeeze(), extratags=[tag],
                photometric="rgb" if channels > 1 else "minisblack",
                extrasamples=["unassalpha"] if channels == 4 else None,
            )  # fmt: skip
            yield Picture(f"orientation{orientation}_{channels}.tif", data, pixels(channels, dtype))
        lzw = by_pillow(lying(pixels(), orientation), "TIFF", compression="tiff_lzw", tiffinfo={274: orientation})
        yield Picture(f"orientation{orientation}_lzw.tif", lzw, pixels())


def packed_tiffs() -> Iterator[Picture]:
    """TIFF files of few bits, of palettes, of inks, and of compressions that come from fax machines and cameras."""
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "tiff_jpeg", "group4"):
        if compression != "tiff_jpeg":
            bits = pixels(1) > 127
            one = by_pillow(bits[..., 0], "TIFF", compression=compression)
            yield Picture(f"one_bit_{compression}.tif", one, bits.astype(np.uint8) * 255)
        if compression == "group4":
            continue
        for channels in (1, 3, 4):
            if compression == "tiff_jpeg" and channels == 4:
                continue
            right = np.dstack([pixels(), opacity()]) if channels == 4 else pixels(channels)
            data = by_pillow(right, "TIFF", compression=compression)
            yield Picture(f"{channels}_{compression}.tif", data, right, 90 if compression == "tiff_jpeg" else 0)
    yield Picture("big_lzw.tif", by_pillow(pixels(), "TIFF", compression="tiff_lzw", big_tiff=True), pixels())
    indexed = Image.fromarray(pixels()).quantize(40)
    for compression in ("raw", "tiff_lzw"):
        yield Picture(f"palette_{compression}.tif", saved(indexed, compression), np.asarray(indexed.convert("RGB")))
        inks = Image.fromarray(pixels()).convert("CMYK")
        yield Picture(f"inks_{compression}.tif", saved(inks, compression), np.asarray(inks.convert("RGB")), 2)
    for dtype in (np.uint16, np.float32):
        for channels in (1, 3, 4):
            array = np.dstack([pixels(3, dtype), opacity(dtype)]) if channels == 4 else pixels(channels, dtype)
            stored = array if channels == 1 else np.ascontiguousarray(array[..., [2, 1, 0, 3][:channels]])
            for number in (5, 8):
                data = cv2.imencode(".tif", stored, [cv2.IMWRITE_TIFF_COMPRESSION, number])[1].tobytes()
                yield Picture(f"opencv_{np.dtype(dtype).name}_{channels}_{number}.tif", data, array)
    white_is_zero = retagged(cv2.imencode(".tif", pixels(1, np.uint16))[1].tobytes(), 262, 0)
    yield Picture("white_is_zero_lzw.tif", white_is_zero, 65535 - pixels(1, np.uint16))


def pngs() -> Iterator[Picture]:
    """PNG files: every depth and colour type, with and without transparency, and orientation in front or behind."""
    for depth in (1, 2, 4, 8, 16):
        dtype = np.uint16 if depth == 16 else np.uint8
        levels = pixels(1, dtype) >> (0 if depth == 16 else 8 - depth)
        grey = (levels * (white_of(dtype) // (2**depth - 1))).astype(dtype)
        yield Picture(f"grey{depth}.png", png(levels, depth, 0), grey)
        level = int(levels[0, 3, 0])
        alpha = np.where(levels == level, 0, white_of(dtype)).astype(dtype)
        transparent = png(levels, depth, 0, (b"tRNS", struct.pack(">H", level)))
        yield Picture(f"grey{depth}_transparent.png", transparent, np.dstack([grey, grey, grey, alpha]))
        if depth == 16:
            continue
        palette = np.random.default_rng(0).integers(0, 256, (2**depth, 3), np.uint8)
        colours = palette[levels[..., 0]]
        yield Picture(f"palette{depth}.png", png(levels, depth, 3, (b"PLTE", palette.tobytes())), colours)
        shades = np.append(np.array([0, 99], np.uint8), np.full(254, 255, np.uint8))[levels]
        data = png(levels, depth, 3, (b"PLTE", palette.tobytes()), (b"tRNS", bytes([0, 99])))
        yield Picture(f"palette{depth}_transparent.png", data, np.dstack([colours, shades]))
    for depth, dtype in ((8, np.uint8), (16, np.uint16)):
        array, alpha = pixels(3, dtype), opacity(dtype)
        yield Picture(f"rgb{depth}.png", png(array, depth, 2), array)
        key = (array == array[2, 2]).all(2, keepdims=True)
        keyed = np.dstack([array, np.where(key, 0, white_of(dtype)).astype(dtype)])
        data = png(array, depth, 2, (b"tRNS", struct.pack(">HHH", *map(int, array[2, 2]))))
        yield Picture(f"rgb{depth}_transparent.png", data, keyed)
        yield Picture(f"rgba{depth}.png", png(np.dstack([array, alpha]), depth, 6), np.dstack([array, alpha]))
        grey = array[..., :1]
        right = np.dstack([grey, grey, grey, alpha])
        yield Picture(f"grey_alpha{depth}.png", png(np.dstack([grey, alpha]), depth, 4), right)
        for orientation in range(1, 9):
            said = exif(orientation).tobytes().removeprefix(b"Exif\0\0")
            stored = lying(array, orientation)
            yield Picture(f"orientation{orientation}_{depth}.png", png(stored, depth, 2, (b"eXIf", said)), array)
            behind = png(stored, depth, 2, late=(b"eXIf", said))
            yield Picture(f"orientation{orientation}_{depth}_behind.png", behind, array)


def others() -> Iterator[Picture]:
    """JPEG, WebP and BMP files."""
    smooth = cv2.GaussianBlur(pixels(), (0, 0), 4)
    rgba = np.dstack([pixels(), opacity()])
    for orientation in range(1, 9):
        said = exif(orientation)
        best = {"quality": 100, "subsampling": 0, "exif": said}
        yield Picture(f"orientation{orientation}.jpg", by_pillow(lying(smooth, orientation), "JPEG", **best), smooth, 4)
        grey = by_pillow(lying(smooth[..., :1], orientation), "JPEG", quality=100, exif=said)
        yield Picture(f"orientation{orientation}_grey.jpg", grey, smooth[..., :1], 4)
        data = by_pillow(lying(rgba, orientation), "WEBP", lossless=True, exact=True, exif=said)
        yield Picture(f"orientation{orientation}.webp", data, rgba)
    inks = Image.fromarray(smooth).convert("CMYK")
    buffer = io.BytesIO()
    inks.save(buffer, "JPEG", quality=100, subsampling=0)
    yield Picture("inks.jpg", buffer.getvalue(), np.asarray(inks.convert("RGB")), 6)
    plain = buffer.getvalue()
    start = plain.index(b"\xff\xee")  # without Adobe's mark, ink is stored the other way round
    plain = plain[:start] + plain[start + 2 + int.from_bytes(plain[start + 2 : start + 4], "big") :]
    turned = Image.fromarray(255 - np.asarray(inks), "CMYK")
    yield Picture("inks_plain.jpg", plain, np.asarray(turned.convert("RGB")), 6)
    for channels in (1, 3):
        yield Picture(f"plain{channels}.bmp", by_pillow(pixels(channels), "BMP"), pixels(channels))
    bgra = rgba[::-1, :, [2, 1, 0, 3]].tobytes()
    yield Picture("filled.bmp", bmp(32, bgra), pixels())
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    yield Picture("masked.bmp", bmp(32, bgra, compression=3, masks=masks), rgba)
    yield Picture("from_the_top.bmp", bmp(32, rgba[..., [2, 1, 0, 3]].tobytes(), height=-HEIGHT), pixels())
    five = pixels() >> 3
    words = (five[..., 0].astype("<u2") << 10) | (five[..., 1].astype("<u2") << 5) | five[..., 2]
    rows = np.pad(words[::-1], ((0, 0), (0, WIDTH % 2)))
    yield Picture(
        "five_bits.bmp", bmp(16, rows.astype("<u2").tobytes()), np.rint(five * (255 / 31)).astype(np.uint8), 1
    )


def refused() -> Iterator[tuple[str, bytes, str]]:
    """Files that no reader of single grey or RGB images can return, each with a word of the reason."""
    two = [Image.fromarray(pixels()), Image.fromarray(255 - pixels())]
    for kind, suffix, options in (("TIFF", "tif", {}), ("WEBP", "webp", {"lossless": True}), ("PNG", "png", {})):
        buffer = io.BytesIO()
        two[0].save(buffer, kind, save_all=True, append_images=two[1:], **options)
        yield f"two.{suffix}", buffer.getvalue(), "must hold one picture"
    yield "stack.tif", by_tifffile(pixels(5).transpose(2, 0, 1), photometric="minisblack"), "must hold one picture"
    stack = by_tifffile(pixels(5).transpose(2, 0, 1), photometric="minisblack", truncate=True, metadata={})
    yield "truncated_stack.tif", stack, "must hold one picture"
    yield "preview.tif", by_tifffile(pixels(), photometric="rgb", subfiletype=1), "must hold a picture"
    buffer = io.BytesIO()
    lab = ImageCms.profileToProfile(
        two[0], ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    lab.save(buffer, "TIFF")
    yield "lab.tif", buffer.getvalue(), "got CIELAB"
    yield "lab16.tif", by_tifffile(pixels(3, np.uint16), photometric="cielab"), "got CIELAB"
    yield "inks16.tif", by_tifffile(pixels(4, np.uint16), photometric="separated"), "got SEPARATED of 16 bits"
    yield "mosaic.tif", by_tifffile(pixels(1)[..., 0], photometric=32803), "got CFA"
    yield "ycbcr.tif", by_tifffile(pixels(), photometric="ycbcr"), "got YCBCR"
    for kinds in (["unspecified"], ["unassalpha", "unspecified"]):
        data = by_tifffile(pixels(3 + len(kinds)), photometric="rgb", extrasamples=kinds)
        yield f"extra{len(kinds)}.tif", data, "at most one channel beside its colours"
    for dtype in (np.int8, np.int16, np.uint32, np.int32, np.uint64, np.complex64):
        data = by_tifffile(pixels(1).astype(dtype)[..., 0], photometric="minisblack")
        yield f"{np.dtype(dtype).name}.tif", data, "8- or 16-bit or float pixels"
    planes = np.moveaxis(pixels(3, np.uint16), 2, 0)
    relabelled = retagged(by_tifffile(planes, photometric="rgb", planarconfig="separate", compression="zlib"), 259, 5)
    yield "separate_lzw.tif", relabelled, "deflate or not at all"
    for suffix, kind in (("gif", "GIF"), ("jp2", "JPEG2000"), ("ppm", "PPM"), ("tga", "TGA"), ("avif", "AVIF")):
        buffer = io.BytesIO()
        two[0].save(buffer, kind)
        yield f"{suffix}.png", buffer.getvalue(), "no image of a known format"
    claimed = retagged(retagged(by_tifffile(pixels(), photometric="rgb"), 256, 2**16), 257, 2**16)
    yield "claims_terabytes.tif", claimed, "at most 1073741824 pixels"
