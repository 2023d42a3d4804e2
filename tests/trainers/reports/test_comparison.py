"""A comparison of variants: what its table leaves out."""

import math

import pytest
import torch
from rich.console import Console

from trainers.reports.comparison import RELEASED, Comparison, comparison_table, fidelity

FIGURES = {
    RELEASED: Comparison({"PSNR": 30.0, "SSIM": 0.9}, 0.0, math.inf, math.inf, 1.5, None),
    "other": Comparison({"PSNR": 28.5, "SSIM": 0.8}, 2.25, 41.0, 39.5, 0.75, None),
}


def printed(*arguments) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(comparison_table(*arguments))
    return capture.get()


def test_nothing_stands_where_nothing_was_measured():
    text = printed(FIGURES, ["PSNR", "SSIM"], 4)
    assert "4 images" in text
    assert "MiB" not in text
    released, other = (next(line for line in text.splitlines() if name in line).split() for name in FIGURES)
    # The released model's fidelity to itself is infinite.
    assert released == [RELEASED, "30.00", "0.9000", "0.00", "1.50"]
    assert other == ["other", "28.50", "0.8000", "2.25", "41.0", "39.5", "0.75"]


def test_a_part_of_the_images_is_told():
    assert "2 of 4 images" in printed(FIGURES, ["PSNR", "SSIM"], 2, 4)


def test_fidelity_is_psnr_without_rounding():
    image = torch.full((3, 8, 8), 0.5)
    assert fidelity(image + 1e-3, image) == pytest.approx(60, abs=1e-2)
