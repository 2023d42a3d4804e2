"""Training losses that torch does not have; L1 and mean squared error are `torch.nn.L1Loss` and `torch.nn.MSELoss`.

All work in float32 at least, also on the half-precision outputs of autocast, and return a scalar.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)


class Charbonnier(nn.Module):
    """Penalise each difference d by √(d² + ε²): quadratic near zero, linear far from it.

    Charbonnier et al. (1994); with Uformer's ε. (BasicSR's loss of that name adds its ε without squaring it.)

    Args:
        eps: ε > 0, in units of the image's range.

    Raises:
        ValueError: if `eps` is not positive.

    Examples:
        >>> import torch
        >>> from trainers.losses import Charbonnier
        >>> target = torch.full((1, 3, 8, 8), 0.5)
        >>> round(Charbonnier()(target + 0.1, target).item(), 4)
        0.1
    """

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        if eps <= 0:
            raise ValueError(f"eps ({eps}) must be positive, for example 1e-3")
        self.eps = eps

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the mean over all elements.

        Args:
            preds: restored images, shape (B, C, H, W).
            target: ground truth, same shape.

        Returns:
            A scalar, in the range's units.

        Raises:
            ValueError: if the shapes differ.
        """
        return (_difference(preds, target).square() + self.eps**2).sqrt().mean()


class PSNRLoss(nn.Module):
    """Maximise the PSNR: the mean over images of (10 / ln 10) · ln(MSE + 1e-8), MSE the mean over one image.

    It is minus the PSNR in decibels for images in [0, 1], bounded at -80. BasicSR's loss, as NAFNet uses it.

    Examples:
        >>> import torch
        >>> from trainers.losses import PSNRLoss
        >>> target = torch.full((1, 3, 8, 8), 0.5)
        >>> round(PSNRLoss()(target + 0.1, target).item(), 4)
        -20.0
    """

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the mean over images.

        Args:
            preds: restored images, shape (B, C, H, W), values around [0, 1].
            target: ground truth, same shape.

        Returns:
            A scalar, in decibels; lower is better.

        Raises:
            ValueError: if the shapes differ.
        """
        error = _difference(preds, target).square().flatten(1).mean(1)
        return 10 / math.log(10) * (error + 1e-8).log().mean()


class FourierL1(nn.Module):
    """Add to the L1 loss the L1 loss of the spectrum, which asks for the high frequencies that blur removes.

    mean |d| + weight · mean(|Re F d|, |Im F d|), F the unnormalised 2-d Fourier transform of each channel, the mean
    over all frequencies. MIMO-UNet's loss at one scale, with its weight 0.1; later deblurring networks use the same.

    The transform is not normalised, so that for noise of a given strength the second term grows with √(HW): a weight
    belongs to a crop size (MIMO-UNet's is 256).

    Args:
        weight: of the spectrum's term, 0 or more.

    Raises:
        ValueError: if `weight` is negative.

    Examples:
        >>> import torch
        >>> from trainers.losses import FourierL1
        >>> target = torch.full((1, 3, 8, 8), 0.5)
        >>> round(FourierL1()(target + 0.1, target).item(), 4)
        0.105
    """

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight ({weight}) must be 0 or more, for example 0.1")
        self.weight = weight

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the weighted sum of both terms.

        Args:
            preds: restored images, shape (B, C, H, W).
            target: ground truth, same shape.

        Returns:
            A scalar.

        Raises:
            ValueError: if the shapes differ.
        """
        difference = _difference(preds, target)
        # Both halves of the spectrum, redundant as they are: the mean over one half weighs frequencies differently.
        spectrum = torch.view_as_real(torch.fft.fft2(difference))
        return difference.abs().mean() + self.weight * spectrum.abs().mean()


class SSIMLoss(nn.Module):
    """1 − SSIM, the structural similarity in Gaussian windows of 11 pixels with σ 1.5, mean over images and channels.

    Wang et al. (2004), as torchmetrics computes it, with mirrored borders. Mixed with L1 it is usual for perceived
    quality; alone it does not hold colours.

    Args:
        l1: weight of an L1 loss that is added, 0 or more.

    Raises:
        ValueError: if `l1` is negative.

    Examples:
        >>> import torch
        >>> from trainers.losses import SSIMLoss
        >>> target = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> SSIMLoss()(target, target).item(), round(SSIMLoss(l1=1)(target.flip(3), target).item(), 2)
        (0.0, 1.38)
    """

    def __init__(self, l1: float = 0.0) -> None:
        super().__init__()
        if l1 < 0:
            raise ValueError(f"l1 ({l1}) must be 0 or more, for example 0.16")
        self.l1 = l1

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            preds: restored images, shape (B, C, H, W), values around [0, 1]; sides of 6 pixels or more.
            target: ground truth, same shape.

        Returns:
            A scalar.

        Raises:
            ValueError: if the shapes differ, or a side is too short.
        """
        difference = _difference(preds, target)
        similarity = _similarity(structural_similarity_index_measure, preds, target, 6)
        return 1 - similarity + self.l1 * difference.abs().mean()


class MSSSIMLoss(SSIMLoss):
    """1 − MS-SSIM, the structural similarity at five scales, each half of the one before.

    Wang et al. (2003); mixed with L1 it is the loss of Zhao et al. (2017), 0.84 of this and 0.16 of L1: l1 = 0.19.

    Args:
        l1: weight of an L1 loss that is added, 0 or more.

    Raises:
        ValueError: if `l1` is negative.

    Examples:
        >>> import torch
        >>> from trainers.losses import MSSSIMLoss
        >>> target = torch.rand(1, 1, 176, 176, generator=torch.Generator().manual_seed(0))
        >>> MSSSIMLoss()(target, target).item()
        0.0
    """

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            preds: restored images, shape (B, C, H, W), values around [0, 1]; sides of 176 pixels or more.
            target: ground truth, same shape.

        Returns:
            A scalar.

        Raises:
            ValueError: if the shapes differ, or a side is too short.
        """
        difference = _difference(preds, target)
        similarity = _similarity(multiscale_structural_similarity_index_measure, preds, target, 176)
        return 1 - similarity + self.l1 * difference.abs().mean()


class FocalFrequencyLoss(nn.Module):
    """Weigh each frequency's squared error by how large it is, so that what the network cannot do yet counts most.

    mean(w · |F d|²), F the orthonormal 2-d Fourier transform of each channel, w = |F d|^α over its largest value in the
    channel, through which no gradient flows. Jiang et al. (ICCV 2021), Eq. (8), on whole images.

    Args:
        alpha: α, 0 or more; 0 is the mean squared error.

    Raises:
        ValueError: if `alpha` is negative.

    Examples:
        >>> import torch
        >>> from trainers.losses import FocalFrequencyLoss
        >>> target = torch.full((1, 3, 8, 8), 0.5)
        >>> round(FocalFrequencyLoss()(target + 0.1, target).item(), 4)
        0.01
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        if alpha < 0:
            raise ValueError(f"alpha ({alpha}) must be 0 or more, for example 1")
        self.alpha = alpha

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the mean over all frequencies.

        Args:
            preds: restored images, shape (B, C, H, W).
            target: ground truth, same shape.

        Returns:
            A scalar, in the range's units, squared.

        Raises:
            ValueError: if the shapes differ.
        """
        spectrum = torch.view_as_real(torch.fft.fft2(_difference(preds, target), norm="ortho"))
        squared = spectrum.square().sum(-1)
        weights = squared.detach() ** (self.alpha / 2)
        largest = weights.amax((-2, -1), keepdim=True)
        return (torch.where(largest > 0, weights / largest, 0) * squared).mean()


class MRAELoss(nn.Module):
    """Mean relative absolute error, mean(|d| / target): the loss of MST++ and the score of the NTIRE 2022 challenge.

    Where the target is 0 no error is relative to it: such elements are left out of the mean. (Upstream divides by them,
    and one of them makes its loss infinite or NaN.)

    Examples:
        >>> import torch
        >>> from trainers.losses import MRAELoss
        >>> target = torch.full((1, 3, 8, 8), 0.5)
        >>> round(MRAELoss()(target + 0.1, target).item(), 4)
        0.2
    """

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return the mean over all elements with a target above 0.

        Args:
            preds: reconstructed cubes, shape (B, C, H, W).
            target: ground truth, same shape, 0 or more.

        Returns:
            A scalar, without unit; 0 if no target is above 0.

        Raises:
            ValueError: if the shapes differ.
        """
        difference = _difference(preds, target).abs()
        lit = target > 0
        relative = torch.where(lit, difference / target.to(difference.dtype).where(lit, 1), 0)
        return relative.sum() / lit.sum().clamp(min=1)


class RootMSELoss(nn.Module):
    """Root of the mean squared error over the whole batch, the loss of MST for CASSI.

    Examples:
        >>> import torch
        >>> from trainers.losses import RootMSELoss
        >>> target = torch.full((1, 3, 8, 8), 0.5)
        >>> round(RootMSELoss()(target + 0.1, target).item(), 4)
        0.1
    """

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return √(mean of d²) over all elements.

        Args:
            preds: reconstructed cubes, shape (B, C, H, W).
            target: ground truth, same shape.

        Returns:
            A scalar, in the range's units.

        Raises:
            ValueError: if the shapes differ.
        """
        error = _difference(preds, target).square().mean()
        # The root's slope is infinite at 0, where there is nothing to learn.
        return error.clamp(min=torch.finfo(error.dtype).tiny).sqrt()


def _difference(preds: Tensor, target: Tensor) -> Tensor:
    """Subtract in float32 or better, refusing to broadcast."""
    if preds.shape != target.shape:
        raise ValueError(
            f"preds (shape {tuple(preds.shape)}) must have the shape of target, got {tuple(target.shape)}: "
            "check the network's scale and channels against the data"
        )
    dtype = torch.promote_types(torch.promote_types(preds.dtype, target.dtype), torch.float32)
    return preds.to(dtype) - target.to(dtype)


def _similarity(measure: Callable[..., Any], preds: Tensor, target: Tensor, smallest: int) -> Tensor:
    """Mean similarity of images in [0, 1], in float32 or better."""
    if min(preds.shape[-2:]) < smallest:
        raise ValueError(
            f"preds (shape {tuple(preds.shape)}) must have sides of {smallest} pixels or more for this loss: raise "
            "--data.patch_size, or choose another loss"
        )
    dtype = torch.promote_types(preds.dtype, torch.float32)
    # Autocast would smooth in half precision, in which variances are lost.
    with torch.autocast(preds.device.type, enabled=False):
        similarity: Tensor = measure(preds.to(dtype), target.to(dtype), data_range=1.0)
    return similarity
