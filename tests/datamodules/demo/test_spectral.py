"""Measured spectra, and the scenes painted with them."""

import numpy as np
import pytest
import torch

from datamodules import SpectralDemoDataModule
from datamodules.demo import restoration as demo
from datamodules.demo.photographs import photograph
from datamodules.demo.spectra import daylight, reflectances
from datamodules.demo.spectral import Painter, photographed


def make(stage="fit", **kwargs):
    data = SpectralDemoDataModule(**{"patch_size": 16, "batch_size": 4, "epoch_length": 8, "eval_size": 32, **kwargs})
    data.setup(stage)
    return data


def test_a_scene_is_a_mixture_of_its_materials_under_daylight():
    painter = Painter("PMC", 5)
    cube = painter.paint(photograph("coffee")[:40, :40], np.random.default_rng(3))
    assert cube.shape == (40, 40, 31)
    drawn = np.stack(list(reflectances("PMC").values()))[np.random.default_rng(3).choice(30, 5, replace=False)]
    seen = (cube.reshape(-1, 31) / daylight() * daylight().max()).astype(np.float64)
    # Non-negative shares of the five, which sum up to the shade: at least the ambient fifth, at most all light.
    shares, residuals, rank, _ = np.linalg.lstsq(drawn.T, seen.T, rcond=None)
    assert rank == 5
    assert residuals.max() < 1e-9
    assert shares.min() > -1e-4
    assert 0.2 - 1e-4 < shares.sum(0).min() < shares.sum(0).max() < 1 + 1e-4


def test_the_camera_sees_white_paper_white_and_shadows_noisy():
    white = np.broadcast_to(daylight() / daylight().max(), (64, 64, 31))
    seen = photographed(white, np.random.default_rng(0)).astype(float)
    # Noise of 22.8 electrons of 500, of which half is cut off: a mean of 1 - σ / √(2π).
    np.testing.assert_allclose(seen.mean((0, 1)), 255 * (1 - 22.8 / 500 / np.sqrt(2 * np.pi)), atol=0.5)
    grey = photographed(0.2 * white, np.random.default_rng(0)).astype(float)
    np.testing.assert_allclose(grey.mean((0, 1)), 51, atol=0.3)
    # Shot noise of 100 electrons, read noise of 3, rounding to 255 levels.
    expected = np.sqrt((100 + 9) / 500**2 * 255**2 + 1 / 12)
    np.testing.assert_allclose(grey.std((0, 1)), expected, rtol=0.05)


def test_splits_share_neither_photographs_nor_reflectances():
    training, held_out = make().training_sample(), make().held_out_sample()
    assert {training.chart, held_out.chart} == {"ColorChecker", "PMC"}
    data = make()
    data.setup("test")
    names = {name.partition("-")[0] for batch in data.train_dataloader() for name in batch["name"]}
    assert names <= set(demo.TRAIN)
    assert data.val_set_names == ["spectral-demo-val"]
    assert data.test_set_names == ["spectral-demo-test"]
    tested = [batch["name"][0] for batch in data.test_dataloader()[0]]
    assert tested == ["chelsea-1", "chelsea-2", "coffee-1", "coffee-2"]


def test_batches_are_pairs_in_range():
    for batch in make().train_dataloader():
        assert batch["input"].shape == (4, 3, 16, 16)
        assert batch["target"].shape == (4, 31, 16, 16)
        assert batch["input"].dtype == batch["target"].dtype == torch.float32
        assert 0 < batch["target"].min() < batch["target"].max() <= 1
        # Labels that are nearly black would rule the relative error.
        assert batch["target"].min() > 2e-3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_scenes_depend_on_the_seed_and_their_number_alone(num_workers):
    first, again = (list(make(num_workers=workers).train_dataloader()) for workers in (0, num_workers))
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one["input"], two["input"])
        assert torch.equal(one["target"], two["target"])
    other = next(iter(make(seed=1).train_dataloader()))
    assert not torch.equal(other["target"], first[0]["target"])
    held_out = [next(iter(make("test").test_dataloader()[0]))["input"] for _ in range(2)]
    assert torch.equal(*held_out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"materials": 0}, r"materials \(0\) must be from 1 to 24"),
        ({"materials": 25}, r"materials \(25\) must be from 1 to 24"),
        ({"eval_size": 7}, r"eval_size \(7\) must be at least 8"),
        ({"seed": -1}, r"seed \(-1\) must be at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
