"""What Pillow does right and OpenCV does not: CMYK, palettes and packed pixels, and JPEG with a large profile."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms

MOST_PIXELS = 2**30
"""As OpenCV's limit: a file of a few bytes may claim more pixels than any memory holds."""


def decode_by_pillow(data: bytes, profile: bytes | None) -> NDArray:
    """Decode a picture of at most 8 bits a channel; CMYK becomes sRGB, by its profile if there is one.

    Within `silent_decoders`, without which Pillow refuses large pictures.

    Args:
        data: the whole file.
        profile: ICC profile of the stored pixels; None if there is none.

    Returns:
        Shape (H, W, C) with C = 1, 3 or 4 (straight alpha), uint8.

    Raises:
        ValueError: if the picture is too large, or of another kind.
        Exception: of many types, if the file is damaged.
    """
    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width}×{image.height} pixels, more than {MOST_PIXELS}")
        image.load()
        pixels = np.asarray(_in_grey_or_rgb(image, profile))
    return pixels.reshape(*pixels.shape[:2], -1)


def encode_jpeg(pixels: NDArray, quality: int, profile: bytes | None, exif: bytes | None) -> bytes:
    """Encode a JPEG; OpenCV would refuse profiles over 64 KB.

    Args:
        pixels: shape (H, W, 1) or (H, W, 3), uint8.
        quality: 1 to 100; colour is stored at half the resolution.
        profile: ICC profile of the pixels.
        exif: without its leading mark.
    """
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels))
    image.save(buffer, "JPEG", quality=quality, icc_profile=profile, exif=b"Exif\0\0" + exif if exif else b"")
    return buffer.getvalue()


def _in_grey_or_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    match image.mode:
        case "1":
            return image.convert("L")
        case "L" | "RGB" | "RGBA":
            return image
        case "P":
            return image.convert("RGBA" if image.has_transparency_data else "RGB")
        case "LA" | "PA":
            return image.convert("RGBA")
        case "CMYK":
            if image.format == "JPEG" and "adobe" not in image.info:
                # Only Adobe's JPEG stores ink the other way round; Pillow turns every JPEG's over.
                image = ImageChops.invert(image)
            if profile:
                try:
                    return ImageCms.profileToProfile(  # type: ignore[return-value]  # an image, as it is not in place
                        image, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
                    )
                except ImageCms.PyCMSError:
                    # A damaged profile, or one of another kind of pixels, describes nothing.
                    pass
            return image.convert("RGB")
    raise ValueError(f"pixels of the kind {image.mode}")
