"""Pictures of results: images side by side with their errors, bands of spectra, false colours."""

from itertools import pairwise

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.files.images import convert_channels, to_array
from trainers.metrics.psnr_ssim import psnr

# Panels are brought between these widths, so that captions are readable and event files small.
_NARROWEST, _WIDEST = 192, 512
_CAPTION_HEIGHT = 20
# The enlarged part is this fraction of each side; its frame is yellow.
_PART = 4
_MARK = (255, 255, 0)
# A colour scale of errors ends at one of these.
_ERROR_SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

# Bands of a cube that are shown, evenly spaced.
_SHOWN_BANDS = 5
# White in false colours is this quantile of the values, so that a highlight does not darken the rest.
_WHITE_QUANTILE = 0.995
_GAMMA = 2.2


def draw_triplet(image: Tensor, restored: Tensor, target: Tensor, *, name: str) -> NDArray[np.uint8]:
    """Draw input, output, target and the output's error, and below each the part where that error is largest.

    Captions name the image, each PSNR and the error's scale. The error of a pixel is the mean of |output - target|
    over its channels, on a perceptual scale from black over red to light yellow. The scale ends at the first of 0.01,
    0.02, 0.05, 0.1, 0.2, 0.5 and 1 that 99 % of the pixels do not exceed. The part, a quarter of each side, is marked
    in the pictures above and enlarged without interpolation.

    Args:
        image: shape (C, H, W), range [0, 1]; enlarged if the target is larger.
        restored: shape (C', H', W').
        target: shape (C', H', W').
        name: of the image.

    Returns:
        Shape (H″, W″, 3), RGB; each quarter of the width between 192 and 512 pixels.
    """
    image, restored, target = (each.detach().cpu().float() for each in (image, restored, target))
    height, width = target.shape[-2:]
    size = _panel_size(height, width)
    error = (restored - target).abs().mean(0).numpy()
    scale = error_scale(error)
    pictures = [convert_channels(to_array(each), 3) for each in (image, restored, target)]
    pictures.append(error_colours(error, scale))
    captions = [
        f"input {_decibels(image, target)}",
        f"output {_decibels(restored, target)}",
        name,
        f"|output - target|, 0 to {scale:g}",
    ]
    part = _largest_part(error)
    columns = []
    for picture, caption in zip(pictures, captions, strict=True):
        whole = _resized(picture, size)
        left, top, right, bottom = _within(part, size)
        cv2.rectangle(whole, (left, top), (right - 1, bottom - 1), _MARK, 1)
        left, top, right, bottom = _within(part, (picture.shape[1], picture.shape[0]))
        enlarged = _resized(picture[top:bottom, left:right], size)
        columns.append(np.concatenate([whole, enlarged, _caption(caption, size[0])]))
    return np.concatenate(columns, 1)


def triplet_panels(picture: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Cut input, output and target out of a picture that `draw_triplet` drew, each whole and without the frame.

    Args:
        picture: shape (H, W, 3).

    Returns:
        "input", "output" and "target" → shape (h, w, 3); empty if the sizes are not those of such a picture.
    """
    height, width = (picture.shape[0] - _CAPTION_HEIGHT) // 2, picture.shape[1] // 4
    if width < _NARROWEST or height < 1 or picture.shape[:2] != (2 * height + _CAPTION_HEIGHT, 4 * width):
        return {}
    # Above each other: the whole and the enlarged part.
    columns = [picture[: 2 * height, index * width : (index + 1) * width].copy() for index in range(3)]
    marked = np.all([(column[:height] == _MARK).all(2) for column in columns], 0)
    for column in columns:
        _remove_frame(column, marked)
    return {name: column[:height] for name, column in zip(("input", "output", "target"), columns, strict=True)}


def _remove_frame(column: NDArray[np.uint8], marked: NDArray[np.bool_]) -> None:
    """Put the pixels that the frame covers back from the enlarged part, where pixels have the frame's colour all along.

    Args:
        column: shape (2h, w, 3); its upper half is changed.
        marked: shape (h, w), whether a pixel has the frame's colour in all columns.
    """
    height, width = marked.shape
    rows, lines = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    if not len(rows):
        return
    (top, bottom), (left, right) = (rows[0], rows[-1] + 1), (lines[0], lines[-1] + 1)
    frame = marked[top:bottom, left:right]
    if not (frame[[0, -1]].all() and frame[:, [0, -1]].all()):
        # What is in the picture has that colour, too.
        return
    # The middle of what each pixel was enlarged to.
    down = ((np.arange(bottom - top) + 0.5) * height / (bottom - top)).astype(int)
    across = ((np.arange(right - left) + 0.5) * width / (right - left)).astype(int)
    column[top:bottom, left:right] = column[height:][down][:, across]


def _panel_size(height: int, width: int) -> tuple[int, int]:
    """Width and height of a panel, as OpenCV orders them."""
    factor = min(max(1.0, _NARROWEST / width), _WIDEST / width)
    return round(width * factor), max(1, round(height * factor))


def error_scale(errors: NDArray[np.float32]) -> float:
    """Choose where the colours of errors end: the first round value that 99 % of them do not exceed, 1 at most.

    Args:
        errors: of any shape, range [0, 1], at least one.
    """
    return next(end for end in _ERROR_SCALES if end >= min(float(np.quantile(errors, 0.99)), _ERROR_SCALES[-1]))


def error_colours(error: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    """Draw errors on a perceptual scale from black over red to light yellow.

    Args:
        error: shape (H, W), from 0.
        scale: the error at the scale's end.

    Returns:
        Shape (H, W, 3), RGB.
    """
    levels = (error / scale * 255).clip(0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1])


def _largest_part(error: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Find the part with the largest error: left, top, right and bottom as shares of the sides."""
    height, width = error.shape
    rows, columns = max(1, height // _PART), max(1, width // _PART)
    sums = cv2.integral(error)
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return left / width, top / height, (left + columns) / width, (top + rows) / height


def _within(part: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Pixels of a part, given as shares of the sides, in a picture of some width and height; at least one."""
    left, top = (round(share * side) for share, side in zip(part[:2], size, strict=True))
    right, bottom = (round(share * side) for share, side in zip(part[2:], size, strict=True))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _panel(image: Tensor, size: tuple[int, int], caption: str) -> NDArray[np.uint8]:
    return np.concatenate([_resized(convert_channels(to_array(image), 3), size), _caption(caption, size[0])])


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    # Pixels are shown as they are: enlarged without interpolation, averaged when made smaller.
    interpolation = cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_NEAREST
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=interpolation), dtype=np.uint8)


def _caption(text: str, width: int) -> NDArray[np.uint8]:
    strip = np.full((_CAPTION_HEIGHT, width, 3), 255, np.uint8)
    cv2.putText(strip, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def _decibels(image: Tensor, target: Tensor) -> str:
    return f"{psnr(image[None].to(target), target[None]).item():.2f} dB" if image.shape == target.shape else ""


def draw_bands(restored: Tensor, target: Tensor, *, name: str) -> NDArray[np.uint8]:
    """Draw a cube against its ground truth: false colours and some bands, output above target above their difference.

    Rows share their scale: white is the largest value of the target in that band, and in the last row a tenth of it.

    Args:
        restored: shape (bands, H, W).
        target: shape (bands, H, W).
        name: of the image.

    Returns:
        Shape (H″, W″, 3); a column for the false colours and one for each of five bands, or all if there are fewer.
    """
    restored, target = restored.detach().cpu().float(), target.detach().cpu().float()
    height, width = target.shape[-2:]
    size = _panel_size(height, width)
    white = _white(_thirds(target))
    difference = (restored - target).abs()
    columns = [
        [
            _panel(_coloured(restored, white), size, f"output of {name}"),
            _panel(_coloured(target, white), size, "target"),
            _panel(_coloured(difference, white / 10), size, "difference x 10"),
        ]
    ]
    chosen = torch.linspace(0, len(target) - 1, min(_SHOWN_BANDS, len(target))).round().int().tolist()
    for band in chosen:
        most = target[band].max().clamp(min=torch.finfo(target.dtype).tiny)
        rmse = difference[band].square().mean().sqrt().item()
        panels = [restored[band] / most, target[band] / most, difference[band] / most * 10]
        captions = [f"band {band + 1}", "target", f"RMSE {rmse:.4f}"]
        columns.append([_panel(panel[None], size, caption) for panel, caption in zip(panels, captions, strict=True)])
    return np.concatenate([np.concatenate(column) for column in columns], 1)


def false_colours(cube: Tensor) -> Tensor:
    """Show a cube as RGB: the means of its last, middle and first third of bands, which ascend in wavelength.

    Scaled so that all but the brightest 0.5 % fit, and given a display's gamma of 2.2: for the eye, not for measuring.

    Args:
        cube: shape (bands, H, W), at least one band.

    Returns:
        Shape (3, H, W), float32 in [0, 1].
    """
    cube = cube.detach().cpu().float()
    return _coloured(cube, _white(_thirds(cube)))


def _coloured(cube: Tensor, white: float) -> Tensor:
    return (_thirds(cube) / white).clamp(0, 1) ** (1 / _GAMMA)


def _thirds(cube: Tensor) -> Tensor:
    # Of fewer than three bands some count twice.
    edges = [round(index * len(cube) / 3) for index in range(4)]
    means = [cube[min(low, len(cube) - 1) : max(high, low + 1)].mean(0) for low, high in pairwise(edges)]
    return torch.stack(means[::-1])


def _white(colours: Tensor) -> float:
    # torch.quantile refuses more than 16 million values.
    return max(float(np.quantile(colours.numpy(), _WHITE_QUANTILE)), torch.finfo(torch.float32).tiny)
