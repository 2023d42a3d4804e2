"""CASSI against the official outputs, and the algebra of its operators."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from datamodules.cassi import adjoint, initial_estimate, mask_energy, measure, separate_bands, shift, shift_back
from datamodules.files.cubes import read_cube, read_mask
from tests import goldens

DATA = Path(__file__).parents[2] / "../shared/data/spectral"
BANDS_STEPS = [(28, 2), (5, 1), (3, 7), (4, 0), (1, 2)]


@pytest.fixture(scope="module")
def golden():
    return goldens.load_tensors("cassi")[0]


def draw(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_every_operator_is_the_official_one(golden):
    x, mask = golden["in.x"], golden["in.mask2d"]
    measurement = measure(x, mask)
    assert_close(shift(x), golden["out.shift_x"], rtol=0, atol=0)
    assert_close(shift(x, 1), golden["out.shift_step1"], rtol=0, atol=0)
    dispersed_mask = shift(mask.expand_as(x))
    assert_close(dispersed_mask, golden["out.shift_mask"], rtol=0, atol=0)
    assert_close(measurement, golden["out.Y"])
    assert_close(measurement, golden["out.init_meas_Y"])
    assert_close(separate_bands(golden["out.Y"], 28), golden["out.shift_back_Y"], rtol=0, atol=0)
    assert_close(initial_estimate(measurement, 28), golden["out.init_meas_H"])
    assert_close(adjoint(measurement / 28 * 2, mask, 28), golden["out.init_meas_HM"])
    of_grey_mask = measure(x, golden["in.mask3d_gray"][0])
    assert_close(initial_estimate(of_grey_mask, 28), golden["out.init_meas_H_graymask"])
    assert_close(mask_energy(dispersed_mask), golden["out.Phi_s"], rtol=0, atol=0)


@pytest.mark.parametrize(("bands", "step"), BANDS_STEPS)
def test_shifting_back_undoes_shifting(bands, step):
    cube = draw(2, bands, 6, 9)
    dispersed = shift(cube, step)
    assert dispersed.shape == (2, bands, 6, 9 + step * (bands - 1))
    assert torch.equal(shift_back(dispersed, step), cube)
    assert_close(dispersed.sum(), cube.sum(), rtol=1e-10, atol=0)


@pytest.mark.parametrize(("bands", "step"), BANDS_STEPS)
@pytest.mark.parametrize("per_band", [False, True])
def test_the_adjoint_is_the_transpose(bands, step, per_band):
    cube, measurement = draw(2, bands, 6, 9), draw(2, 6, 9 + step * (bands - 1))
    mask = draw(bands, 6, 9) if per_band else draw(6, 9)
    forth = (measure(cube, mask, step) * measurement).sum()
    back = (cube * adjoint(measurement, mask, bands, step)).sum()
    assert_close(forth, back, rtol=1e-10, atol=0)


@pytest.mark.parametrize(("bands", "step"), BANDS_STEPS)
def test_the_energy_is_the_diagonal_of_measuring_what_was_sent_back(bands, step):
    mask = (draw(6, 9) > 0.5).double()
    energy = mask_energy(shift(mask.expand(bands, 6, 9), step))
    measurement = draw(6, 9 + step * (bands - 1))
    # ΦΦᵀ is diagonal for CASSI; where no light arrives it is 0, and the energy 1.
    through = measure(adjoint(measurement, mask, bands, step), mask, step)
    dark = measure(torch.ones(bands, 6, 9, dtype=torch.float64), mask, step) == 0
    assert_close(through, torch.where(dark, 0, energy * measurement), rtol=1e-10, atol=0)


def test_operators_without_a_batch_are_those_with_one():
    cube, mask = draw(5, 6, 9), draw(6, 9)
    assert torch.equal(measure(cube, mask), measure(cube[None], mask)[0])
    assert torch.equal(separate_bands(draw(6, 17), 5), separate_bands(draw(6, 17)[None], 5)[0])


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match=r"step \(-1\) must be at least 0"):
        shift(draw(3, 4, 4), -1)
    with pytest.raises(ValueError, match=r"width \(54\) must exceed the dispersion of 54 pixels: 28 bands, step 2"):
        separate_bands(draw(4, 54), 28)
    with pytest.raises(ValueError, match=r"mask \(shape \(1, 9\)\) must be of the cube's height and width \(6, 9\)"):
        measure(draw(3, 6, 9), draw(1, 9))


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real mask and scene in ../shared/data/spectral")
def test_a_real_scene_through_the_real_mask():
    scene = read_cube(DATA / "testMSI_1.mat")
    assert scene.shape == (150, 150, 31)
    assert 0 < scene.min() < scene.max() < 1
    mask = read_mask(DATA / "mask_sim_256.mat")
    assert mask.shape == (256, 256)
    cube = torch.from_numpy(scene.transpose(2, 0, 1).astype(np.float32))
    mask = torch.from_numpy(mask[:150, :150])
    measurement = measure(cube, mask)
    assert measurement.shape == (150, 150 + 2 * 30)
    assert 0 <= measurement.min() < measurement.max() < 31 * scene.max()
    # All the light that the mask lets through arrives.
    assert_close(measurement.double().sum(), (cube * mask).double().sum(), rtol=1e-6, atol=0)
    estimate = initial_estimate(measurement, 31)
    assert estimate.shape == cube.shape
    # Of the scene's magnitude, for this mask lets 56 % of the light through.
    ratio = (estimate.mean() / cube.mean()).item()
    print(f"measurement {measurement.min():.4f} to {measurement.max():.4f}, estimate / scene {ratio:.3f}")
    assert 0.7 < ratio < 1.3
