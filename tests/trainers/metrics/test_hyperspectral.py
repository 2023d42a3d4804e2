"""Metrics of cubes against recorded values of MST's and MST++'s scripts, their definitions, and zero labels."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import spectral_angle_mapper

from tests import goldens
from tests.reference import metrics as reference
from tests.trainers.metrics.test_psnr_ssim import random_pair
from trainers.metrics import (
    MRAE,
    RMSE,
    SAM,
    BandPSNR,
    BandSSIM,
    CubePSNR,
    band_psnr,
    band_ssim,
    cube_psnr,
    mrae,
    rmse,
    sam,
)

TENSORS, RECORD = goldens.load_tensors("metrics_hsi")
PROTOCOLS = {
    "mst_torch_psnr": band_psnr,
    "mst_torch_psnr_fp64in": band_psnr,
    "mst_torch_ssim": band_ssim,
    "mst_torch_ssim_fp64in": band_ssim,
    "mstpp_MRAE": mrae,
    "mstpp_RMSE": rmse,
    "mstpp_PSNR": cube_psnr,
    "mstpp_PSNR_range1": cube_psnr,
}
METRICS = [
    MRAE(),
    RMSE(border=2),
    CubePSNR(),
    SAM(),
    BandPSNR(),
    BandPSNR("matlab"),
    BandSSIM(),
    BandSSIM("matlab"),
]


def each_metric(function):
    return pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)(function)


def golden_cubes(pair):
    return TENSORS[f"{pair}.test"][None], TENSORS[f"{pair}.gt"][None]


@pytest.mark.parametrize("pair", RECORD["pairs"])
@pytest.mark.parametrize("key", PROTOCOLS)
def test_equals_the_papers_scripts(pair, key):
    value = PROTOCOLS[key](*golden_cubes(pair))
    assert value.dtype == torch.float64
    assert value.tolist() == pytest.approx([RECORD["pairs"][pair][key]], rel=0, abs=1e-5)


@pytest.mark.parametrize("pair", RECORD["pairs"])
def test_labels_of_zero_keep_the_error_finite(pair):
    preds, target = golden_cubes(pair)
    black = torch.zeros_like(target, dtype=torch.bool)
    black[..., ::7, ::5] = True
    holed = target.masked_fill(black, 0)
    expected = ((preds - target).abs() / target).double()[~black].mean()
    torch.testing.assert_close(mrae(preds, holed)[0], expected, rtol=1e-6, atol=0)
    recorded = RECORD["pairs"][pair]["mstpp_MRAE_custom_with_zeros"]
    # Recorded in float32.
    assert mrae(preds, holed, floor=1e-8).item() == pytest.approx(recorded, rel=1e-6)


def test_floor_divides_by_no_less():
    preds, target = torch.zeros(1, 4, 1, 2), torch.tensor([0.01, 0.4]).expand(1, 4, 1, 2)
    assert mrae(preds, target).item() == pytest.approx(1)
    assert mrae(preds, target, floor=0.1).item() == pytest.approx((0.1 + 1) / 2)


@pytest.mark.parametrize("function", [mrae, rmse, cube_psnr, sam])
def test_border_is_left_out(function):
    preds, target = random_pair(2, 5, 20, 24)
    inner = preds[..., 3:-3, 3:-3], target[..., 3:-3, 3:-3]
    assert torch.equal(function(preds, target, border=3), function(*inner))


@pytest.mark.parametrize(
    ("function", "clamped"),
    [(mrae, False), (rmse, False), (sam, False), (cube_psnr, True), (band_psnr, False), (band_ssim, False)],
)
def test_only_some_clamp(function, clamped):
    preds, target = random_pair(1, 5, 12, 12)
    preds = 2 * preds - 0.5
    assert torch.equal(function(preds, target), function(preds.clamp(0, 1), target)) == clamped


@pytest.mark.parametrize("function", [band_psnr, band_ssim])
def test_matlab_clamps_and_rounds_to_8_bits(function):
    preds, target = random_pair(1, 5, 12, 12)
    preds = 2 * preds - 0.5
    rounded = [(255 * cube.double()).add(0.5).floor().clamp(0, 255) for cube in (preds, target)]
    assert torch.equal(
        function(preds, target, script="matlab"), function(*(cube / 255 for cube in rounded), script="matlab")
    )
    single = {band_psnr: reference.psnr, band_ssim: reference.ssim}[function]
    bands = [single(*(cube[0, band].numpy() for cube in rounded)) for band in range(5)]
    assert function(preds, target, script="matlab").item() == pytest.approx(np.mean(bands), rel=1e-12)


def test_angles_equal_those_of_torchmetrics():
    preds, target = (cube.double() for cube in random_pair(2, 5, 6, 7))
    angles = spectral_angle_mapper(preds, target, reduction="none").rad2deg().mean((1, 2))
    torch.testing.assert_close(sam(preds, target), angles)


def test_angles_of_scaled_small_and_black_spectra():
    target = torch.rand(1, 5, 2, 2, generator=torch.Generator().manual_seed(0))
    # The arc cosine of a product in float64 knows no angle between 0 and 1e-6°.
    assert sam(0.3 * target.double(), target.double()).item() == pytest.approx(0, abs=1e-12)
    black = torch.zeros_like(target)
    assert sam(target, black).item() == pytest.approx(90)
    assert sam(black, target).item() == pytest.approx(90)
    assert sam(black, black).item() == 0
    assert sam(-target, target).item() == pytest.approx(180)


@each_metric
def test_average_does_not_depend_on_the_order_of_updates(metric):
    batches = [random_pair(2, 28, 16, 20), random_pair(1, 31, 15, 18)]
    values = torch.cat([metric.measure(*batch) for batch in batches])
    assert values.shape == (3,)
    assert values.dtype == torch.float64
    for order in (batches, batches[::-1]):
        metric.reset()
        for batch in order:
            metric.update(*batch)
        torch.testing.assert_close(metric.compute(), values.mean())


@each_metric
def test_identical_cubes_are_perfect(metric):
    cube = random_pair(1, 31, 16, 16)[0]
    perfect = (math.inf if "PSNR" in metric.name else 1) if metric.higher_is_better else 0
    assert metric.measure(cube, cube).item() == pytest.approx(perfect, abs=1e-12)


@each_metric
def test_half_precision_is_measured_in_double(metric):
    preds, target = random_pair(1, 4, 16, 16)
    preds = preds.bfloat16()
    assert torch.equal(metric.measure(preds, target), metric.measure(preds.double(), target.double()))


@each_metric
@pytest.mark.parametrize("channels", [1, 3])
def test_refuses_images(metric, channels):
    with pytest.raises(ValueError, match=r"must be hyperspectral cubes \(B, C, H, W\) of more than 3 bands"):
        metric.measure(*random_pair(1, channels, 16, 16))


@each_metric
@pytest.mark.parametrize(
    ("preds", "target", "message"),
    [
        (torch.rand(1, 31, 16, 16), torch.rand(1, 28, 16, 16), "must have the shape of target"),
        (torch.rand(31, 16, 16), torch.rand(31, 16, 16), r"must be images \(B, C, H, W\) with B at least 1"),
        (torch.rand(1, 4, 16, 16), 255 * torch.ones(1, 4, 16, 16), r"must lie in \[0, 1\], got 255 to 255"),
        (torch.full((1, 4, 16, 16), math.nan), torch.rand(1, 4, 16, 16), "preds must be finite"),
    ],
    ids=["shapes", "no-batch", "range", "nan"],
)
def test_refuses_what_is_no_pair_of_cubes(metric, preds, target, message):
    with pytest.raises(ValueError, match=message):
        metric.measure(preds, target)


def test_refuses_cubes_that_are_too_small():
    preds, target = random_pair(1, 4, 10, 20)
    assert band_ssim(preds, target).isfinite()
    with pytest.raises(ValueError, match="must leave at least 11 × 11 pixels"):
        band_ssim(preds, target, script="matlab")
    with pytest.raises(ValueError, match="must leave at least 1 × 1 pixels inside a border of 5"):
        mrae(preds, target, border=5)


def test_refuses_a_black_cube():
    preds, target = random_pair(2, 4, 4, 4)
    target[1] = 0
    with pytest.raises(ValueError, match="must have a value above 0 in each cube, got a black cube"):
        mrae(preds, target)
    assert mrae(preds, target, floor=1e-8).isfinite().all()


@pytest.mark.parametrize("metric_class", [MRAE, RMSE, CubePSNR, SAM])
def test_refuses_a_negative_border(metric_class):
    with pytest.raises(ValueError, match=r"border \(-1\) must be 0 or more"):
        metric_class(border=-1)


@pytest.mark.parametrize("floor", [-1.0, math.nan])
def test_refuses_a_negative_floor(floor):
    with pytest.raises(ValueError, match=r"floor \(.*\) must be 0 or more"):
        MRAE(floor=floor)


@pytest.mark.parametrize("metric_class", [BandPSNR, BandSSIM])
def test_refuses_an_unknown_script(metric_class):
    with pytest.raises(ValueError, match=r"script \('octave'\) must be one of python, matlab"):
        metric_class("octave")


def test_says_what_it_measured():
    assert [metric.name for metric in METRICS] == [
        "MRAE",
        "RMSE",
        "PSNR-cube",
        "SAM",
        "PSNR-bands",
        "PSNR-bands-uint8",
        "SSIM-bands",
        "SSIM-bands-uint8",
    ]
    assert MRAE(border=128).protocol == "MRAE of cubes, unclamped, without labels of zero, border 128"
    assert MRAE(floor=1e-8).protocol == "MRAE of cubes, unclamped, labels at least 1e-08, border 0"
    assert RMSE().protocol == "RMSE of cubes, unclamped, white is 1, border 0"
    assert CubePSNR(128).protocol == "PSNR over all bands of a cube at once, clamped, float, border 128"
    assert SAM().protocol == "spectral angle in degrees, mean over pixels, unclamped, float, border 0"
    python = "mean PSNR of the bands, as MST's Python, rounded to 256ths, white 255, unclamped"
    assert BandPSNR().protocol == python
    assert BandPSNR("matlab").protocol == "mean PSNR of the bands, as MST's MATLAB, clamped, uint8"
    assert BandSSIM().protocol == "mean SSIM (Gaussian 11, 1.5, zero-padded) of the bands, as MST's Python"
    assert "unpadded" in BandSSIM("matlab").protocol
