"""Losses against their formulas, their gradients, and their precision under autocast."""

import math

import pytest
import torch
from jsonargparse import auto_cli
from torch import nn

from trainers.losses import (
    Charbonnier,
    FocalFrequencyLoss,
    FourierL1,
    MRAELoss,
    MSSSIMLoss,
    PSNRLoss,
    RootMSELoss,
    SSIMLoss,
)
from trainers.metrics.similarity import similarity

LOSSES = [Charbonnier(), Charbonnier(eps=0.1), PSNRLoss(), FourierL1(), FourierL1(weight=2.0)]
LOSSES += [MRAELoss(), RootMSELoss()]
IDS = ["charbonnier", "charbonnier-wide", "psnr", "fourier", "fourier-heavy", "mrae", "root-mse"]


def random_pair(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator, dtype=dtype), torch.rand(shape, generator=generator, dtype=dtype)


def test_charbonnier_by_hand():
    preds = torch.tensor([[[[0.0, 3e-3, 0.5]]]], dtype=torch.float64)
    target = torch.tensor([[[[0.0, 7e-3, 0.2]]]], dtype=torch.float64)
    expected = (1e-3 + math.sqrt(16e-6 + 1e-6) + math.sqrt(0.09 + 1e-6)) / 3
    assert Charbonnier()(preds, target).item() == pytest.approx(expected, rel=1e-12)


def test_psnr_loss_is_minus_the_mean_psnr():
    preds, target = random_pair(2, 3, 4, 5, dtype=torch.float64)
    preds[1] = target[1] + 0.1
    errors = [(preds[0] - target[0]).square().mean().item(), 0.01]
    expected = sum(10 * math.log10(error + 1e-8) for error in errors) / 2
    assert PSNRLoss()(preds, target).item() == pytest.approx(expected, rel=1e-12)
    assert PSNRLoss()(target, target).item() == pytest.approx(-80)


def test_fourier_l1_by_hand():
    # A difference of cos(2π y / 4) for y = 0 … 3: its transform is 2 at frequencies (1, 0) and (3, 0).
    preds = torch.tensor([1.0, 0.0, -1.0, 0.0], dtype=torch.float64).view(1, 1, 4, 1)
    loss = FourierL1(weight=0.5)(preds, torch.zeros_like(preds))
    assert loss.item() == pytest.approx((1 + 0 + 1 + 0) / 4 + 0.5 * (2 + 2) / 8)


@pytest.mark.parametrize("shape", [(2, 3, 6, 5), (1, 1, 3, 4)])
def test_fourier_l1_equals_the_transform_written_out(shape):
    preds, target = random_pair(*shape, dtype=torch.float64)
    height, width = shape[-2:]
    rows, columns = (
        torch.exp(-2j * math.pi * torch.outer(torch.arange(n), torch.arange(n)).double() / n) for n in (height, width)
    )
    difference = preds - target
    spectrum = rows @ difference.to(torch.complex128) @ columns
    expected = difference.abs().mean() + 0.1 * (spectrum.real.abs().mean() + spectrum.imag.abs().mean()) / 2
    torch.testing.assert_close(FourierL1()(preds, target), expected, rtol=1e-10, atol=0)


def test_fourier_l1_without_its_second_term_is_l1():
    preds, target = random_pair(2, 3, 8, 8)
    assert FourierL1(weight=0.0)(preds, target) == nn.L1Loss()(preds, target)


def test_mrae_by_hand_leaves_out_targets_of_zero():
    preds = torch.tensor([[[[0.2, 0.5, 0.3, 0.1]]]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[[[0.1, 0.4, 0.0, 0.2]]]], dtype=torch.float64)
    loss = MRAELoss()(preds, target)
    assert loss.item() == pytest.approx((1 + 0.25 + 0.5) / 3, rel=1e-12)
    loss.backward()
    torch.testing.assert_close(preds.grad.flatten() * 3, torch.tensor([10, 2.5, 0, -5], dtype=torch.float64))
    assert MRAELoss()(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)) == 0


def test_root_mse_is_of_the_whole_batch():
    preds, target = random_pair(2, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(RootMSELoss()(preds, target), nn.MSELoss()(preds, target).sqrt(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_gradients(loss):
    preds, target = random_pair(2, 2, 4, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(loss, (preds.requires_grad_(), target))


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_gradients_are_finite_for_a_perfect_image(loss):
    preds, _ = random_pair(1, 3, 8, 8)
    loss(preds.requires_grad_(), preds.detach().clone()).backward()
    assert preds.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    preds, target = random_pair(2, 3, 8, 8)
    preds = preds.to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(preds, target)
    assert value.dtype == torch.float32
    assert value == loss(preds.float(), target)


@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_refuses_shapes_that_differ(loss):
    with pytest.raises(ValueError, match=r"preds \(shape \(1, 3, 8, 8\)\) must have the shape of target, got \(1, 1,"):
        loss(torch.rand(1, 3, 8, 8), torch.rand(1, 1, 8, 8))


def test_charbonnier_refuses_no_eps():
    with pytest.raises(ValueError, match=r"eps \(0\) must be positive"):
        Charbonnier(eps=0)


def test_fourier_l1_refuses_a_negative_weight():
    with pytest.raises(ValueError, match=r"weight \(-0.1\) must be 0 or more"):
        FourierL1(weight=-0.1)


def test_is_written_in_a_configuration_file(tmp_path):
    def task(loss: nn.Module):
        return loss

    (tmp_path / "config.yaml").write_text(
        "loss:\n  class_path: trainers.losses.FourierL1\n  init_args: {weight: 0.2}\n"
    )
    loss = auto_cli(task, args=["--config", str(tmp_path / "config.yaml")])
    assert isinstance(loss, FourierL1)
    assert loss.weight == 0.2


def test_ssim_loss_is_one_minus_the_similarity_of_the_metrics():
    preds, target = random_pair(2, 3, 24, 20, dtype=torch.float64)
    expected = 1 - similarity(preds, target, peak=1.0).mean()
    # torchmetrics mirrors the border, where the metrics' windows do not go.
    assert SSIMLoss()(preds, target).item() == pytest.approx(expected.item(), abs=0.02)
    assert SSIMLoss(l1=2)(preds, target) == SSIMLoss()(preds, target) + 2 * (preds - target).abs().mean()
    assert SSIMLoss()(target, target).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("loss", "side"), [(SSIMLoss(), 6), (MSSSIMLoss(), 176)])
def test_similarities_need_images_of_a_size(loss, side):
    preds, target = random_pair(1, 1, side, side)
    assert 0 < loss(preds, target).item() < 2
    with pytest.raises(ValueError, match=f"must have sides of {side} pixels or more"):
        loss(preds[..., 1:], target[..., 1:])


def test_ms_ssim_loss_has_gradients_and_an_l1_part():
    preds, target = random_pair(1, 1, 176, 180)
    preds.requires_grad_()
    MSSSIMLoss(l1=0.19)(preds, target).backward()
    assert preds.grad.isfinite().all()
    assert preds.grad.abs().max() > 0


def test_focal_frequency_loss_by_hand():
    # Spectrum of the difference: 2 at one frequency, 1 at another (orthonormal); weights 1 and 1/2.
    spectrum = torch.zeros(1, 1, 4, 4, dtype=torch.complex128)
    spectrum[0, 0, 0, 0], spectrum[0, 0, 2, 0] = 2, 1
    preds = torch.fft.ifft2(spectrum, norm="ortho").real
    assert FocalFrequencyLoss()(preds, torch.zeros_like(preds)).item() == pytest.approx((4 + 0.5) / 16)
    squared = preds.square().mean().item()
    assert FocalFrequencyLoss(alpha=0)(preds, torch.zeros_like(preds)).item() == pytest.approx(squared)
    assert FocalFrequencyLoss()(preds, preds).item() == 0


@pytest.mark.parametrize("kind", [SSIMLoss, MSSSIMLoss, FocalFrequencyLoss])
def test_weights_of_similarities_and_frequencies_are_validated(kind):
    with pytest.raises(ValueError, match="must be 0 or more"):
        kind(-1)


@pytest.mark.parametrize("loss", [SSIMLoss(l1=1), FocalFrequencyLoss()])
def test_similarities_and_frequencies_work_in_float32_under_autocast(loss):
    preds, target = random_pair(2, 3, 16, 16)
    half = preds.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(half, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(half.float(), target))
    value.backward()
    assert half.grad.isfinite().all()
    with pytest.raises(ValueError, match="must have the shape of target"):
        loss(preds[:1], target)
