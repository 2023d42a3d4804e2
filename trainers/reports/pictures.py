"""Pictures of results for TensorBoard and the disk: images side by side, bands of spectra, false colours."""

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

# Bands of a cube that are shown, evenly spaced.
_SHOWN_BANDS = 5
# A false colour's white is this quantile of its values, so that a highlight does not darken the rest.
_WHITE_QUANTILE = 0.995
_GAMMA = 2.2


def draw_triplet(image: Tensor, restored: Tensor, target: Tensor, *, name: str) -> NDArray[np.uint8]:
    """Set input, output and target side by side over captions that name the image and each PSNR (RGB, uint8).

    Args:
        image: shape (C, H, W), range [0, 1]; enlarged if the target is larger.
        restored: shape (C', H', W').
        target: shape (C', H', W').
        name: of the image.

    Returns:
        Shape (H″, W″, 3), each third between 192 and 512 pixels wide.
    """
    captions = [f"input {_decibels(image, target)}", f"output {_decibels(restored, target)}", name]
    height, width = target.shape[-2:]
    factor = min(max(1.0, _NARROWEST / width), _WIDEST / width)
    size = round(width * factor), max(1, round(height * factor))
    return np.concatenate(
        [_panel(panel, size, caption) for panel, caption in zip((image, restored, target), captions, strict=True)], 1
    )


def _panel(image: Tensor, size: tuple[int, int], caption: str) -> NDArray[np.uint8]:
    pixels = convert_channels(to_array(image), 3)
    # Pixels are shown as they are: enlarged without interpolation, averaged when made smaller.
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_NEAREST)
    strip = np.full((_CAPTION_HEIGHT, size[0], 3), 255, np.uint8)
    cv2.putText(strip, caption, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([resized, strip])


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
    factor = min(max(1.0, _NARROWEST / width), _WIDEST / width)
    size = round(width * factor), max(1, round(height * factor))
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
