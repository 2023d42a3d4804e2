"""Coded aperture snapshot spectral imaging (CASSI): what the camera does to a cube, as pure tensor functions.

A mask codes the scene, a prism moves each band `step` pixels against the one before it, the detector adds all bands up
(Wagadarikar et al., Applied Optics 2008; the simulation of TSA-Net and MST). With bands i = 0 … N − 1:

    shift(x)_i[h, w + step · i] = x_i[h, w]        Y = Σ_i shift(mask ⊙ x)_i
"""

import torch
from torch import Tensor

DISPERSION = 2
"""Pixels between neighbouring bands in the simulations of the literature."""


def shift(cube: Tensor, step: int = DISPERSION) -> Tensor:
    """Disperse a cube: move band i by step · i pixels to the right; what it leaves is zero.

    Args:
        cube: shape (..., N, H, W).
        step: pixels between neighbouring bands, at least 0.

    Returns:
        Shape (..., N, H, W + step · (N − 1)).

    Raises:
        ValueError: if `step` is negative.

    Examples:
        >>> import torch
        >>> from datamodules.cassi import shift
        >>> cube = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
        >>> shift(cube, step=1).tolist()
        [[[1.0, 2.0, 0.0]], [[0.0, 3.0, 4.0]]]
    """
    _check_step(step)
    bands, width = cube.shape[-3], cube.shape[-1]
    shifted = cube.new_zeros(*cube.shape[:-1], width + step * (bands - 1))
    for band in range(bands):
        shifted[..., band, :, step * band : step * band + width] = cube[..., band, :, :]
    return shifted


def shift_back(dispersed: Tensor, step: int = DISPERSION) -> Tensor:
    """Undo `shift`: cut W pixels out of band i, from step · i on.

    Args:
        dispersed: shape (..., N, H, W + step · (N − 1)).
        step: pixels between neighbouring bands, at least 0.

    Returns:
        Shape (..., N, H, W).

    Raises:
        ValueError: if `step` is negative, or nothing is left of the width.

    Examples:
        >>> import torch
        >>> from datamodules.cassi import shift, shift_back
        >>> cube = torch.rand(28, 4, 6)
        >>> torch.equal(shift_back(shift(cube)), cube)
        True
    """
    bands = dispersed.shape[-3]
    width = _width(dispersed.shape[-1], bands, step)
    return torch.stack([dispersed[..., band, :, step * band : step * band + width] for band in range(bands)], dim=-3)


def measure(cube: Tensor, mask: Tensor, step: int = DISPERSION) -> Tensor:
    """Take the snapshot: Y = Σ shift(mask ⊙ cube).

    Args:
        cube: shape (..., N, H, W).
        mask: shape (H, W), or one for each band, (N, H, W).
        step: pixels between neighbouring bands, at least 0.

    Returns:
        Shape (..., H, W + step · (N − 1)), not scaled: up to N.

    Raises:
        ValueError: if `step` is negative, or the mask is of another size.

    Examples:
        >>> import torch
        >>> from datamodules.cassi import measure
        >>> cube = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
        >>> measure(cube, mask=torch.tensor([[1.0, 0.0]]), step=1)
        tensor([[1., 3., 0.]])
    """
    return shift(_masked(cube, mask), step).sum(-3)


def adjoint(measurement: Tensor, mask: Tensor, bands: int, step: int = DISPERSION) -> Tensor:
    """Apply the transpose of `measure`: mask ⊙ what each band saw.

    Args:
        measurement: shape (..., H, W + step · (bands − 1)).
        mask: shape (H, W) or (bands, H, W).
        bands: N.
        step: pixels between neighbouring bands, at least 0.

    Returns:
        Shape (..., bands, H, W).

    Raises:
        ValueError: if `step` is negative, nothing is left of the width, or the mask is of another size.

    Examples:
        >>> import torch
        >>> from datamodules.cassi import adjoint
        >>> measurement = torch.tensor([[1.0, 5.0, 4.0]])
        >>> adjoint(measurement, mask=torch.tensor([[1.0, 0.0]]), bands=2, step=1).tolist()
        [[[1.0, 0.0]], [[5.0, 0.0]]]
    """
    return _masked(separate_bands(measurement, bands, step), mask)


def separate_bands(measurement: Tensor, bands: int, step: int = DISPERSION) -> Tensor:
    """Give each band its part of a measurement: `shift_back` of the same image in every band.

    Args:
        measurement: shape (..., H, W + step · (bands − 1)).
        bands: N.
        step: pixels between neighbouring bands, at least 0.

    Returns:
        Shape (..., bands, H, W).

    Raises:
        ValueError: if `step` is negative, or nothing is left of the width.

    Examples:
        >>> import torch
        >>> from datamodules.cassi import separate_bands
        >>> separate_bands(torch.tensor([[1.0, 5.0, 4.0]]), bands=2, step=1).tolist()
        [[[1.0, 5.0]], [[5.0, 4.0]]]
    """
    everywhere = measurement.unsqueeze(-3).expand(*measurement.shape[:-2], bands, *measurement.shape[-2:])
    return shift_back(everywhere, step)


def initial_estimate(measurement: Tensor, bands: int, step: int = DISPERSION) -> Tensor:
    """Make the input of MST from a measurement: `separate_bands`, scaled by 2 / N so that it has the cube's magnitude.

    (A mask lets half of the light through.)

    Args:
        measurement: shape (..., H, W + step · (bands − 1)).
        bands: N.
        step: pixels between neighbouring bands, at least 0.

    Returns:
        Shape (..., bands, H, W).

    Raises:
        ValueError: if `step` is negative, or nothing is left of the width.

    Examples:
        >>> import torch
        >>> from datamodules.cassi import initial_estimate
        >>> initial_estimate(torch.tensor([[2.0, 4.0, 6.0, 8.0]]), bands=4, step=1).tolist()
        [[[1.0]], [[2.0]], [[3.0]], [[4.0]]]
    """
    return separate_bands(measurement / bands * 2, bands, step)


def mask_energy(dispersed_mask: Tensor) -> Tensor:
    """Sum the squares of a dispersed mask over its bands, the diagonal of ΦΦᵀ, with 1 where no light arrives.

    Args:
        dispersed_mask: shape (..., N, H, W').

    Returns:
        Shape (..., H, W').

    Examples:
        >>> import torch
        >>> from datamodules.cassi import mask_energy, shift
        >>> mask = torch.tensor([[1.0, 1.0, 0.0]])
        >>> mask_energy(shift(mask.expand(2, 1, 3), step=1))
        tensor([[1., 2., 1., 1.]])
    """
    energy = dispersed_mask.square().sum(-3)
    return torch.where(energy == 0, 1, energy)


def _masked(cube: Tensor, mask: Tensor) -> Tensor:
    # Broadcasting would accept a mask of one row.
    if mask.shape not in (cube.shape[-2:], cube.shape[-3:]):
        raise ValueError(
            f"mask (shape {tuple(mask.shape)}) must be of the cube's height and width {tuple(cube.shape[-2:])}, or of "
            f"all its bands {tuple(cube.shape[-3:])}: crop the mask"
        )
    return mask * cube


def _width(dispersed: int, bands: int, step: int) -> int:
    _check_step(step)
    width = dispersed - step * (bands - 1)
    if width < 1:
        raise ValueError(
            f"width ({dispersed}) must exceed the dispersion of {step * (bands - 1)} pixels: {bands} bands, step {step}"
        )
    return width


def _check_step(step: int) -> None:
    if step < 0:
        raise ValueError(f"step ({step}) must be at least 0 pixels; 2 is usual")
