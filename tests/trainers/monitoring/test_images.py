"""Pictures and curves of a run in TensorBoard."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from trainers.reports import pictures
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
    # 32×24 pixels are enlarged sixfold: four stand side by side, their parts below, then 20 rows for the captions.
    assert (image.width, image.height) == (4 * 192, 2 * 144 + 20)
    assert image.step == 4


def test_tensorboard_opens_on_training_and_validation(events):
    scalars = sorted(events.Tags()["scalars"])
    groups = list(dict.fromkeys(tag.split("/")[0] for tag in scalars))
    assert groups == ["train", "val", "watch"]
    # Half the rank is all that GLMHA has here: the energy in it would be a flat line.
    assert not [tag for tag in scalars if tag.startswith("watch/energy/")]


def test_a_picture_shows_the_pixels_the_error_and_the_part_where_it_is_largest():
    target = torch.rand(3, 40, 200)
    restored = target.clone()
    # A quarter of each side, off by 0.5, is what is enlarged.
    restored[:, 20:30, 100:150] = (target[:, 20:30, 100:150] + 0.5) % 1
    sheet = torch.from_numpy(draw_triplet(target.clone().fill_(0.5), restored, target, name="photo"))
    assert sheet.shape == (2 * 40 + 20, 4 * 200, 3)
    pixels = (target * 255).round().byte().permute(1, 2, 0)
    whole, part = sheet[:40, 400:600], sheet[40:80, 400:600]
    torch.testing.assert_close(whole[:20], pixels[:20])
    assert (sheet[:20, :200] == 128).all()
    torch.testing.assert_close(part[::4, ::4], pixels[20:30, 100:150])
    # The part is framed in every picture.
    for column in range(4):
        assert sheet[20, 200 * column + 100].tolist() == [255, 255, 0]
    # The error is black where there is none, and at the light end of the scale where it is 0.5.
    assert sheet[:20, 600:].max() < 8
    assert sheet[41:80, 601:].float().mean() > 140
    # Dark letters on white.
    assert sheet[80:].min() < 64
    assert sheet[80:].max() == 255


@pytest.mark.parametrize(("error", "scale"), [(0.004, "0.01"), (0.03, "0.05"), (0.7, "1")])
def test_the_scale_of_errors_fits_the_image_and_is_stated(error, scale, monkeypatch):
    captions: list[str] = []
    monkeypatch.setattr(pictures, "_caption", lambda text, width: captions.append(text) or np.zeros((20, width, 3)))
    target = torch.zeros(3, 16, 16)
    draw_triplet(target, target + error, target, name="photo")
    assert captions[3] == f"|output - target|, 0 to {scale}"


def test_a_large_image_is_made_smaller():
    image = torch.rand(1, 600, 1200)
    assert draw_triplet(image, image, image, name="large").shape == (2 * 256 + 20, 4 * 512, 3)


def test_super_resolution_s_input_is_enlarged_and_shows_the_same_part():
    target = torch.zeros(3, 100, 200)
    target[:, :25, 150:] = 1
    small = nn.functional.avg_pool2d(target, 4)
    sheet = torch.from_numpy(draw_triplet(small, torch.zeros_like(target), target, name="x4"))
    assert sheet.shape == (2 * 100 + 20, 4 * 200, 3)
    assert (sheet[100:200, :200] >= 254).float().mean() > 0.9
    assert (sheet[100:200, 400:600] == 255).all()


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
