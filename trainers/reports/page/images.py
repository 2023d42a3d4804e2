"""Pictures of a page: their error maps, and files of them that fit into what the page may weigh."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from trainers.reports.page.content import Layer, Pixels, Scene
from trainers.reports.pictures import error_colours, error_scale

# From the best down: longest side in pixels (None: as it is), WebP's quality (None: PNG, without loss), and bytes that
# a pixel takes by experience.
_RUNGS: tuple[tuple[int | None, int | None, float], ...] = (
    (None, None, 2.2),
    (1024, 95, 0.4),
    (768, 90, 0.25),
    (640, 80, 0.15),
    (448, 75, 0.13),
)
_ERROR_BYTES = 0.2
_ERROR_QUALITY = 80


@dataclass(frozen=True)
class Encoded:
    """A layer as the page holds it.

    Attributes:
        label: see `Layer`.
        role: see `Layer`.
        source: address of the picture, which holds it whole.
        error: address of its error map; empty for a scene without a target, and for the target.
        decibels: PSNR to the target, from the pixels that are shown; empty if there is no target, or it is that.
    """

    label: str
    role: str
    source: str
    error: str
    decibels: str


@dataclass(frozen=True)
class Shown:
    """A scene as the page holds it.

    Attributes:
        name: see `Scene`.
        width: in pixels.
        height: in pixels.
        layers: in their order.
        scale: where the colours of its error maps end; 0 if it has none.
    """

    name: str
    width: int
    height: int
    layers: Sequence[Encoded]
    scale: float


@dataclass(frozen=True)
class Gallery:
    """Scenes within a limit of bytes.

    Attributes:
        scenes: as many of the first ones as fit.
        left_out: number of the others.
        loss: what was done to make them fit, in words; empty if nothing was.
    """

    scenes: Sequence[Shown]
    left_out: int
    loss: str


def fit(scenes: Sequence[Scene], limit: int) -> Gallery:
    """Encode scenes as well as a limit of bytes allows.

    Args:
        scenes: in the order of their importance.
        limit: bytes of all addresses together.
    """
    for side, quality, bytes_of_pixel in _RUNGS:
        if _estimate(scenes, side, bytes_of_pixel) > limit:
            continue
        shown = [_encode(scene, side, quality) for scene in scenes]
        if sum(map(_weight, shown)) <= limit:
            return Gallery(shown, 0, _loss(scenes, side, quality))
    side, quality, _ = _RUNGS[-1]
    return Gallery(*_as_many_as_fit(scenes, side, quality, limit), _loss(scenes, side, quality))


def _as_many_as_fit(
    scenes: Sequence[Scene], side: int | None, quality: int | None, limit: int
) -> tuple[list[Shown], int]:
    shown: list[Shown] = []
    for scene in scenes:
        encoded = _encode(scene, side, quality)
        limit -= _weight(encoded)
        if limit < 0:
            break
        shown.append(encoded)
    return shown, len(scenes) - len(shown)


def _loss(scenes: Sequence[Scene], side: int | None, quality: int | None) -> str:
    if quality is None:
        return ""
    smaller = any(max(layer.pixels.shape[:2]) > (side or 0) for scene in scenes for layer in scene.layers)
    size = f"reduced to {side} pixels and " if smaller else ""
    return f"Pictures are {size}compressed (WebP, quality {quality}) for this page."


def _estimate(scenes: Sequence[Scene], side: int | None, bytes_of_pixel: float) -> float:
    """Bytes that scenes take at most by experience, as text."""
    total = 0.0
    for scene in scenes:
        height, width = scene.layers[0].pixels.shape[:2]
        factor = min(1.0, (side or np.inf) / max(height, width))
        errors = _ERROR_BYTES * (len(scene.layers) - 1) if _target(scene) is not None else 0.0
        total += height * width * factor**2 * (bytes_of_pixel * len(scene.layers) + errors)
    # Half of that, because smooth pictures take less, and trying is what tells.
    return total * 4 / 3 * 0.5


def _weight(scene: Shown) -> int:
    return sum(len(layer.source) + len(layer.error) for layer in scene.layers)


def _target(scene: Scene) -> Pixels | None:
    return next((layer.pixels for layer in scene.layers if layer.role == "target"), None)


def _encode(scene: Scene, side: int | None, quality: int | None) -> Shown:
    target = _target(scene)
    errors = {} if target is None else dict(_errors(scene.layers, target))
    scale = error_scale(np.stack(list(errors.values()))) if errors else 0.0
    layers = []
    for index, layer in enumerate(scene.layers):
        error = errors.get(index)
        layers.append(
            Encoded(
                layer.label,
                layer.role,
                _address(_within(layer.pixels, side), quality),
                "" if error is None else _address(_within(error_colours(error, scale), side), _ERROR_QUALITY),
                "" if error is None or target is None else _decibels(layer.pixels, target),
            )
        )
    height, width = _within(scene.layers[0].pixels, side).shape[:2]
    return Shown(scene.name, width, height, layers, scale)


def _errors(layers: Sequence[Layer], target: Pixels) -> Iterator[tuple[int, np.ndarray]]:
    """Index → mean of the absolute error over the channels, shape (H, W), of all but the target."""
    for index, layer in enumerate(layers):
        if layer.role != "target" and layer.pixels.shape == target.shape:
            yield index, np.abs(layer.pixels.astype(np.float32) - target).mean(2) / 255


def _decibels(pixels: Pixels, target: Pixels) -> str:
    mean = float(np.square(pixels.astype(np.float32) - target).mean())
    return f"{10 * np.log10(255**2 / mean):.2f} dB" if mean else "identical"


def _within(pixels: Pixels, side: int | None) -> Pixels:
    height, width = pixels.shape[:2]
    if side is None or max(height, width) <= side:
        return pixels
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _address(pixels: Pixels, quality: int | None) -> str:
    kind: Literal["png", "webp"] = "png" if quality is None else "webp"
    options = [cv2.IMWRITE_PNG_COMPRESSION, 6] if quality is None else [cv2.IMWRITE_WEBP_QUALITY, quality]
    _, data = cv2.imencode(f".{kind}", np.ascontiguousarray(pixels[..., ::-1]), options)
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"
