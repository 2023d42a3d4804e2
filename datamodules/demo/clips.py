"""Clips made of a bundled photograph: a camera moves over it, and what is near moves faster than what is far."""

import math
from functools import cache
from importlib.resources import as_file, files

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.demo.photographs import photograph

MARGIN = 16
"""Pixels of the photograph around a clip that the camera may move over."""

# What the farthest moves by, relative to the nearest.
_FAR = 0.3
# Pixels that the nearest moves by from frame to frame, at most.
_SLOWEST, _FASTEST = 0.5, 3.0


@cache
def photograph_with_depth(name: str) -> NDArray:
    """Read a bundled photograph with the nearness of every pixel as a fourth channel.

    That of `motorcycle` is measured: the disparity of the stereo pair it belongs to (Scharstein et al., GCPR 2014),
    which scikit-image bundles; gaps are filled from their surroundings. The others are taken for a ground that rises
    from the foot of the picture, where it is near, to its top.

    Args:
        name: as of `photograph`.

    Returns:
        Shape (H, W, 4), uint8: red, green, blue, and nearness from 0, far, to 255; shared and not writable.
    """
    image = photograph(name)
    height, width = image.shape[:2]
    near: NDArray = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width)).astype(np.uint8)
    disparities = files("skimage").joinpath("data/motorcycle_disp.npz")
    if name == "motorcycle" and disparities.is_file():
        with as_file(disparities) as path, np.load(path) as content:
            disparity = next(iter(content.values()))
        known = np.isfinite(disparity)
        low, high = disparity[known].min(), disparity[known].max()
        scaled = np.where(known, (disparity - low) / (high - low) * 255, 0).round().astype(np.uint8)
        near = cv2.inpaint(scaled, (~known).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    picture = np.dstack([image, near])
    picture.setflags(write=False)
    return picture


def moving_view(picture: NDArray, num_frames: int, rng: np.random.Generator, *, margin: int = MARGIN) -> NDArray:
    """Move a camera over a picture, along a smooth closed path that `rng` draws.

    A pixel moves by 0.3 (far) to 1 (near) times the camera's offset: parallax. What near things uncover is stretched
    from beside them. The nearest moves by 0.5 to 3 pixels from frame to frame.

    Args:
        picture: shape (H, W, 4), uint8, as `photograph_with_depth` gives it, or a part of it.
        num_frames: T.
        rng: draws the path.
        margin: pixels on each side that the camera may move over, at least 2.

    Returns:
        Shape (T, H − 2·margin, W − 2·margin, 3), uint8.
    """
    height, width = picture.shape[:2]
    reach = margin - 1.0
    speed, first, second, start = rng.uniform(_SLOWEST, _FASTEST), *rng.uniform(0, 2 * math.pi, 3)
    colours = np.ascontiguousarray(picture[..., :3])
    rows, columns = np.indices((height - 2 * margin, width - 2 * margin), np.float32) + np.float32(margin)
    weight = _FAR + (1 - _FAR) / 255 * picture[margin : height - margin, margin : width - margin, 3].astype(np.float32)
    frames = []
    for number in range(num_frames):
        phase = start + number * speed / reach
        down, right = (
            np.float32(reach * math.sin(factor * phase + own)) for factor, own in ((0.6, first), (1, second))
        )
        frames.append(
            cv2.remap(
                colours, columns + weight * right, rows + weight * down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            )
        )
    return np.stack(frames)


def demo_clip(name: str = "motorcycle", num_frames: int = 16, *, size: int = 256, seed: int = 0) -> NDArray:
    """Make a clip without a download: a camera moves over the middle of a bundled photograph, with parallax.

    Args:
        name: of the photograph: astronaut, chelsea, coffee, hopper, motorcycle or rocket; the depth of motorcycle is
            measured.
        num_frames: T, at least 1.
        size: largest side of the frames in pixels, at least 8.
        seed: of the camera's path, at least 0.

    Returns:
        Shape (T, H, W, 3), uint8, H and W multiples of 8.

    Examples:
        >>> from datamodules import demo_clip
        >>> demo_clip(num_frames=4, size=64).shape
        (4, 64, 64, 3)
    """
    if num_frames < 1 or size < 8:
        raise ValueError(f"num_frames ({num_frames}) must be at least 1 and size ({size}) at least 8")
    picture = photograph_with_depth(name)
    height, width = (min(size, side - 2 * MARGIN) // 8 * 8 + 2 * MARGIN for side in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    part = picture[top : top + height, left : left + width]
    return moving_view(part, num_frames, np.random.default_rng(seed))
