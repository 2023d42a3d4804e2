"""PSNR and SSIM of images that do not lie exactly over each other, after a homography has aligned them."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.metrics.base import PEAK, ImageMetric
from trainers.metrics.psnr_ssim import prepare
from trainers.metrics.similarity import RADIUS, SIDE, similarity

_ITERATIONS = 100
_SMOOTHING = 5


@dataclass(frozen=True)
class Aligned:
    """A pair of images over each other.

    Attributes:
        preds: levels of the restored image, matched in brightness and warped, 0 outside the mask, shape (C, H, W),
            float64.
        target: levels of the ground truth, 0 outside the mask, same shape.
        mask: 1 where the warped image has a pixel, 0 elsewhere, shape (H, W), float64.

    Examples:
        >>> import torch
        >>> from trainers.metrics import align
        >>> rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        >>> target = (0.5 + 0.2 * torch.sin(rows / 5) + 0.2 * torch.cos(columns / 7))[None, None]
        >>> aligned = align(255 * target[0, :, :, 4:], 255 * target[0, :, :, :-4])
        >>> type(aligned).__name__, aligned.preds.shape, aligned.mask.shape
        ('Aligned', torch.Size([1, 64, 60]), torch.Size([64, 60]))
    """

    preds: Tensor
    target: Tensor
    mask: Tensor


def align(preds: Tensor, target: Tensor) -> Aligned:
    """Lay a restored image over its ground truth, as the evaluation of RealBlur does.

    The image is scaled to the least squared error; a homography that maximises the correlation of both as grey images
    (ECC, 100 iterations; Evangelidis and Psarakis 2008) warps it, bicubic. The mask marks the pixels that it covers.

    Args:
        preds: levels of the restored image, shape (C, H, W), C = 1 or 3 (RGB).
        target: levels of the ground truth, same shape.

    Returns:
        Both over each other.

    Raises:
        ValueError: if they cannot be aligned, because one of them is uniform or they show different things.

    Examples:
        >>> import torch
        >>> from trainers.metrics import align
        >>> rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        >>> target = (0.5 + 0.2 * torch.sin(rows / 5) + 0.2 * torch.cos(columns / 7))[None, None]
        >>> aligned = align(255 * target[0, :, :, 4:], 255 * target[0, :, :, :-4])
        >>> bool(aligned.mask[:, :3].any()), bool(aligned.mask[5:-5, 6:-6].all())
        (False, True)
    """
    reference, image = (_picture(levels) for levels in (target, preds))
    # In float32, as the script: the last bits of the brightness move where the iterations end, by up to 1e-4 dB.
    energy = np.sum(image * image)
    if not energy:
        raise _unaligned("preds is black")
    image *= np.sum(reference * image) / energy
    warp = np.frombuffer(_homography(_grey(reference).tobytes(), _grey(image).tobytes(), image.shape[:2]), np.float32)
    height, width = image.shape[:2]

    def warped(picture: NDArray[np.float32], flags: int, border: int) -> Tensor:
        flags |= cv2.WARP_INVERSE_MAP
        moved = cv2.warpPerspective(picture, warp.reshape(3, 3), (width, height), flags=flags, borderMode=border)
        return torch.from_numpy(moved.reshape(height, width, -1)).permute(2, 0, 1).double()

    mask = warped(np.ones((height, width), np.float32), cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)[0]
    inner = mask[RADIUS:-RADIUS, RADIUS:-RADIUS]
    if not (mask.sum() and inner.sum()):
        raise _unaligned("the warped image lies outside the picture")
    moved = warped(image, cv2.INTER_CUBIC, cv2.BORDER_REFLECT) * PEAK
    return Aligned(moved * mask, target.cpu().double() * mask, mask)


def aligned_psnr(preds: Tensor, target: Tensor, *, quantise: bool = True) -> Tensor:
    """Measure the PSNR of each image after `align`, over the pixels that the warped image covers.

    Args:
        preds: restored images, shape (B, C, H, W) with C = 1 or 3; clamped to [0, 1].
        target: ground truth, same shape, in [0, 1].
        quantise: round to 8 bits first, as an image saved as PNG is.

    Returns:
        Decibels, shape (B,), float64; equal on different processors up to 1e-4 dB, the rounding of OpenCV's iterations,
        and between OpenCV 4 and 5 up to 0.2 dB.

    Raises:
        ValueError: as `psnr`, if the images are smaller than 11 × 11 pixels or cannot be aligned.

    Examples:
        >>> import torch
        >>> from trainers.metrics import aligned_psnr, psnr
        >>> rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        >>> target = (0.5 + 0.2 * torch.sin(rows / 5) + 0.2 * torch.cos(columns / 7))[None, None]
        >>> restored, target = target[..., 4:], target[..., :-4]
        >>> round(psnr(restored, target).item(), 1), round(aligned_psnr(restored, target).item(), 1)
        (21.6, 35.5)
    """
    values = []
    for pair in _aligned_pairs(preds, target, quantise):
        error = (pair.preds - pair.target).square().sum() / (pair.mask.sum() * len(pair.preds))
        values.append(10 * torch.log10(PEAK**2 / error))
    return torch.stack(values).to(preds.device)


def aligned_ssim(preds: Tensor, target: Tensor, *, quantise: bool = True) -> Tensor:
    """Measure the SSIM of each image after `align`, over the windows whose centre the warped image covers.

    The windows are those of `ssim`; what is not covered is black in both images.

    Args:
        preds: restored images, shape (B, C, H, W) with C = 1 or 3; clamped to [0, 1].
        target: ground truth, same shape, in [0, 1].
        quantise: round to 8 bits first.

    Returns:
        Shape (B,), float64, at most 1.

    Raises:
        ValueError: as `aligned_psnr`.

    Examples:
        >>> import torch
        >>> from trainers.metrics import aligned_ssim
        >>> rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        >>> target = (0.5 + 0.2 * torch.sin(rows / 5) + 0.2 * torch.cos(columns / 7))[None, None]
        >>> restored, target = target[..., 4:], target[..., :-4]
        >>> round(aligned_ssim(restored, target).item(), 3)
        0.999
    """
    values = []
    for pair in _aligned_pairs(preds, target, quantise):
        mask = pair.mask[RADIUS:-RADIUS, RADIUS:-RADIUS]
        values.append(((similarity(pair.preds[None], pair.target[None])[0] * mask).sum((1, 2)) / mask.sum()).mean())
    return torch.stack(values).to(preds.device)


class AlignedPSNR(ImageMetric):
    """Average the PSNR in decibels of aligned images (see `aligned_psnr`).

    Args:
        quantise: round to 8 bits first.

    Examples:
        >>> import torch
        >>> from trainers.metrics import AlignedPSNR
        >>> rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        >>> target = (0.5 + 0.2 * torch.sin(rows / 5) + 0.2 * torch.cos(columns / 7))[None, None]
        >>> metric = AlignedPSNR()
        >>> round(metric(target[..., 4:], target[..., :-4]).item(), 1)
        35.5
        >>> metric.protocol.startswith("PSNR on RGB within the mask of an ECC homography")
        True
    """

    higher_is_better = True

    def __init__(self, quantise: bool = True) -> None:
        super().__init__("PSNR-aligned", _protocol("PSNR", quantise))
        self.quantise = quantise

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the PSNR of each aligned image, shape (B,), float64."""
        return aligned_psnr(preds, target, quantise=self.quantise)


class AlignedSSIM(ImageMetric):
    """Average the structural similarity of aligned images (see `aligned_ssim`).

    Args:
        quantise: round to 8 bits first.

    Examples:
        >>> import torch
        >>> from trainers.metrics import AlignedSSIM
        >>> rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        >>> target = (0.5 + 0.2 * torch.sin(rows / 5) + 0.2 * torch.cos(columns / 7))[None, None]
        >>> metric = AlignedSSIM()
        >>> round(metric(target[..., 4:], target[..., :-4]).item(), 3)
        0.999
        >>> metric.protocol.startswith("SSIM (Gaussian 11, 1.5, unpadded) on RGB within the mask of an ECC homography")
        True
    """

    higher_is_better = True

    def __init__(self, quantise: bool = True) -> None:
        super().__init__("SSIM-aligned", _protocol("SSIM (Gaussian 11, 1.5, unpadded)", quantise))
        self.quantise = quantise

    def measure(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the SSIM of each aligned image, shape (B,), float64."""
        return aligned_ssim(preds, target, quantise=self.quantise)


def _protocol(quantity: str, quantise: bool) -> str:
    # Version 5 warps at exact places, version 4 at 32nds of a pixel, in the iterations too: up to 0.2 dB lie between.
    release = cv2.__version__.partition(".")[0]
    levels = "uint8" if quantise else "float"
    return f"{quantity} on RGB within the mask of an ECC homography, {levels}, by OpenCV {release}"


def _aligned_pairs(preds: Tensor, target: Tensor, quantise: bool) -> list[Aligned]:
    images, truths = prepare(preds, target, quantise=quantise, smallest=SIDE)
    return [align(image, truth) for image, truth in zip(images, truths, strict=True)]


def _picture(levels: Tensor) -> NDArray[np.float32]:
    """Levels (C, H, W) → values in [0, 1], (H, W, C), the type that OpenCV aligns."""
    return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy().astype(np.float32) / np.float32(PEAK))


def _grey(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = picture[..., 0] if picture.shape[2] == 1 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.asarray(grey, np.float32)


# PSNR and SSIM ask for the same pair's one after the other, and it takes seconds at RealBlur's size.
@lru_cache(maxsize=1)
def _homography(reference: bytes, image: bytes, shape: tuple[int, int]) -> bytes:
    """Find the warp from grey pictures as bytes of float32, (H, W), to one of (3, 3)."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, 0)
    first, second = (np.frombuffer(picture, np.float32).reshape(shape) for picture in (reference, image))
    start = np.eye(3, dtype=np.float32)
    try:
        # No mask: every pixel counts. OpenCV's stubs forget that this is allowed where a filter's size is given.
        _, warp = cv2.findTransformECC(first, second, start, cv2.MOTION_HOMOGRAPHY, criteria, None, _SMOOTHING)  # type: ignore[call-overload]
    except cv2.error as error:
        raise _unaligned(error.err) from error
    return np.asarray(warp, np.float32).tobytes()


def _unaligned(reason: str) -> ValueError:
    return ValueError(
        f"preds must show what target shows, to be aligned with it, got a pair without an alignment ({reason}): check "
        "the pairs, or measure them unaligned with trainers.metrics.PSNR and SSIM"
    )
