"""The 3-D SSIM, the pooled SSIM and PSNR-B against recorded values and their definitions."""

import math

import pytest
import torch

from tests.reference import metrics as reference
from tests.trainers.metrics.test_psnr_ssim import PAIRS, golden_pair, golden_values, random_pair
from trainers.metrics import PSNRB, SSIM3D, PooledSSIM, pooled_ssim, psnr, psnr_b, ssim, ssim_3d

METRICS = [SSIM3D(), SSIM3D(quantise=False), PooledSSIM(), PSNRB(), PSNRB("y", border=4)]


@pytest.mark.parametrize("pair", PAIRS)
def test_ssim_3d_of_floats_equals_the_recorded_values(pair):
    value = ssim_3d(*golden_pair(pair), quantise=False).item()
    # Recorded in float32 of the unit range, which alone moves pair0 by 8e-5 from its value in float64.
    tolerance = 1e-4 if pair == "pair0" else 1e-5
    assert value == pytest.approx(golden_values()[pair]["restormer_train_ssim3d_unit_range_float"], abs=tolerance)
    assert value == pytest.approx(golden_values()[pair]["restormer_train_ssim3d_bgr"], abs=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_3d_equals_the_definition(channels):
    preds, target = random_pair(1, channels, 7, 12)
    volumes = [255 * image[0].permute(1, 2, 0).double().numpy() for image in (preds, target)]
    assert ssim_3d(preds, target, quantise=False).item() == pytest.approx(reference.ssim_volume(*volumes), rel=1e-12)


@pytest.mark.parametrize(("height", "width", "ratio"), [(64, 400, 1), (383, 390, 1), (500, 530, 2), (640, 642, 2)])
def test_pooled_ssim_is_that_of_the_image_averaged_down(height, width, ratio):
    # 640 / 256 = 2.5 is rounded to even, as Python's `round` does in the script.
    target = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0))
    preds = target.sqrt()
    cells = [image.unfold(2, ratio, ratio).unfold(3, ratio, ratio).mean((4, 5)) for image in (preds, target)]
    assert pooled_ssim(preds, target).item() == pytest.approx(ssim(*cells, quantise=False).item(), abs=1e-6)


def test_pooled_ssim_of_floats_is_clamped():
    preds, target = random_pair(1, 3, 16, 16)
    assert torch.equal(pooled_ssim(2 * preds - 0.5, target), pooled_ssim((2 * preds - 0.5).clamp(0, 1), target))


def test_psnr_b_without_blocks_is_the_mean_psnr_of_channels():
    target = torch.linspace(0, 0.5, 32).expand(1, 3, 24, 32)
    preds = target + torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    channels = [psnr(preds[:, [c]], target[:, [c]]) for c in range(3)]
    assert psnr_b(preds, target).item() == pytest.approx(sum(channels).item() / 3)


def test_psnr_b_counts_steps_between_blocks():
    preds, target = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    preds[..., 8:] = 0.2
    # 51² on half of the image; 16 of the 32 steps between blocks are 51, none within; η = 3/4.
    expected = 10 * math.log10(255**2 / (51**2 * (1 / 2 + 3 / 4 * 1 / 2)))
    assert psnr_b(preds, target).item() == pytest.approx(expected)
    preds = preds.roll(3, -1)
    preds[..., :3] = 0
    assert psnr_b(preds, target).item() == pytest.approx(psnr(preds, target).item())


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_average_does_not_depend_on_the_order_of_updates(metric):
    batches = [random_pair(2, 3, 32, 40), random_pair(1, 3, 31, 28), random_pair(3, 3, 25, 60)]
    values = torch.cat([metric.measure(*batch) for batch in batches])
    assert values.shape == (6,)
    for order in (batches, batches[::-1]):
        metric.reset()
        for batch in order:
            metric.update(*batch)
        torch.testing.assert_close(metric.compute(), values.mean())


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_identical_images_are_perfect(metric):
    image = torch.full((1, 3, 32, 32), 0.5)
    assert metric.measure(image, image).item() == pytest.approx(math.inf if isinstance(metric, PSNRB) else 1)
    assert metric.higher_is_better


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("channels", [2, 31])
def test_refuses_cubes(metric, channels):
    with pytest.raises(ValueError, match=r"must be images .*measure cubes of more bands with trainers.metrics.MRAE"):
        metric.measure(*random_pair(1, channels, 32, 32))


@pytest.mark.parametrize(("function", "smallest"), [(ssim_3d, 1), (pooled_ssim, 11), (psnr_b, 16)])
def test_refuses_images_that_are_too_small(function, smallest):
    function(*random_pair(1, 1, smallest, 30))
    with pytest.raises(ValueError, match=f"must leave at least {smallest} × {smallest} pixels"):
        function(*random_pair(1, 1, smallest - 1, 30))


def test_says_what_it_measured():
    assert [metric.name for metric in METRICS] == ["SSIM-3D", "SSIM-3D", "SSIM-pooled", "PSNR-B", "PSNR-B-Y"]
    assert METRICS[0].protocol == "SSIM as MATLAB's on RGB volumes (Gaussian 11, 1.5, continued borders), uint8"
    assert METRICS[1].protocol.endswith(", float")
    assert "round(min(H, W) / 256), float" in METRICS[2].protocol
    assert METRICS[4].protocol == "PSNR-B (blocks of 8) on BasicSR's unrounded Y, uint8, border 4"


def test_psnr_b_refuses_an_unknown_protocol():
    with pytest.raises(ValueError, match=r"space \('lab'\) must be one of"):
        PSNRB("lab")
