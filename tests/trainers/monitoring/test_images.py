"""What is shown of a run."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from trainers.reports.pictures import draw_bands, draw_triplet, false_colours


@pytest.fixture
def events(lowrank, recipe, tmp_path: Path) -> EventAccumulator:
    """TensorBoard's record of a short run that shows one image."""
    assert lowrank("fit", "--config", recipe, "--model.logged_images", 1) == 0
    accumulator = EventAccumulator(str(next(tmp_path.rglob("events.*"))))
    accumulator.Reload()
    return accumulator


def test_tensorboard_has_losses_rates_scores_and_image_triplets(events):
    tags = events.Tags()
    assert {
        "train/loss",
        "train/learning_rate",
        "train/gradient_norm",
        "train/samples_per_second",
        "train/data_wait",
        "train/memory_mib",
        "val/psnr",
        "val/ssim",
    } <= set(tags["scalars"])
    assert tags["images"] == ["val/val/val0"]
    [image] = events.Images("val/val/val0")
    # 32×24 pixels are enlarged sixfold, three stand side by side, with 20 rows for the captions.
    assert (image.width, image.height) == (3 * 192, 144 + 20)
    assert image.step == 4


def test_a_triplet_shows_the_pixels_and_the_psnr_below():
    target = torch.rand(3, 40, 200)
    sheet = draw_triplet(target.clone().fill_(0.5), target, target, name="photo")
    assert sheet.shape == (40 + 20, 600, 3)
    torch.testing.assert_close(torch.from_numpy(sheet[:40, :200]), torch.full((40, 200, 3), 128, dtype=torch.uint8))
    expected = (target * 255).round().byte().permute(1, 2, 0)
    torch.testing.assert_close(torch.from_numpy(sheet[:40, 200:400]), expected)
    # Dark letters on white.
    assert sheet[40:].min() < 64
    assert sheet[40:].max() == 255


def test_a_triplet_of_a_large_image_is_made_smaller():
    image = torch.rand(1, 600, 1200)
    assert draw_triplet(image, image, image, name="large").shape == (256 + 20, 3 * 512, 3)


def test_a_triplet_of_super_resolution_enlarges_the_input():
    target = torch.rand(3, 100, 200)
    small = nn.functional.avg_pool2d(target, 4)
    assert draw_triplet(small, target, target, name="x4").shape == (120, 600, 3)


def test_bands_stand_beside_false_colours_output_above_target_above_difference():
    target = torch.rand(31, 40, 200)
    restored = target.clone()
    restored[30] += 0.05
    sheet = draw_bands(restored, target, name="scene")
    assert sheet.shape == (3 * (40 + 20), 6 * 200, 3)
    first, last = sheet[:, 200:400], sheet[:, 1000:]
    torch.testing.assert_close(torch.from_numpy(first[:40]), torch.from_numpy(first[60:100]))
    assert (first[120:160] == 0).all()
    # Ten times 0.05 of a band whose largest value is nearly 1.
    assert abs(int(last[120, 0, 0]) - 127.5) < 2
    assert (last[:40] != last[60:100]).any()


@pytest.mark.parametrize("bands", [1, 2, 4])
def test_few_bands_are_all_shown(bands):
    cube = torch.rand(bands, 30, 250)
    assert draw_bands(cube, cube, name="scene").shape == (3 * (30 + 20), (1 + bands) * 250, 3)
    assert false_colours(cube).shape == (3, 30, 250)


def test_false_colours_are_red_for_long_and_blue_for_short_waves():
    cube = torch.zeros(31, 8, 8)
    cube[:10, :4], cube[21:, 4:] = 0.2, 0.2
    colours = false_colours(cube)
    blue, red = colours[:, 0, 0], colours[:, 7, 0]
    assert blue.argmax() == 2
    assert red.argmax() == 0
    assert (colours.min(), colours.max()) == (0, 1)
    torch.testing.assert_close(false_colours(cube / 7), colours)
    assert (false_colours(torch.zeros(31, 4, 4)) == 0).all()
