"""What is shown of a run."""

import re
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from trainers.callbacks import draw_triplet


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
        "val/psnr",
        "val/ssim",
    } <= set(tags["scalars"])
    assert tags["images"] == ["val/val/val0"]
    [image] = events.Images("val/val/val0")
    # 32×24 pixels are enlarged sixfold, three stand side by side, with 20 rows for the captions.
    assert (image.width, image.height) == (3 * 192, 144 + 20)
    assert image.step == 4


def test_the_progress_bar_shows_epochs_loss_and_psnr(lowrank, recipe, capsys):
    assert lowrank("fit", "--config", recipe, "--trainer.enable_progress_bar", "true") == 0
    shown = capsys.readouterr().out
    assert "Epoch 2/2" in shown
    # The bar is drawn once where it cannot be redrawn; validations have a line of their own there.
    assert re.search(r"^step 4: train/loss [\d.]+, val/psnr [\d.]+$", shown, re.MULTILINE)
    assert "v_num" not in shown


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
