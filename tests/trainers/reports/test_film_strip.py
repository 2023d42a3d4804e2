"""The film strip of a comparison."""

import cv2
import torch

from trainers.reports.film_strip import draw_strip


def test_every_variant_has_a_row(tmp_path):
    clip = torch.rand(3, 3, 24, 32)
    sample = {"input": torch.rand(3, 4, 6, 8), "target": clip}
    sizes = []
    for count in (1, 3):
        path = tmp_path / f"{count}.png"
        draw_strip(path, {f"kernel {number}": [clip] for number in range(count)}, sample)
        sizes.append(cv2.imread(str(path)).shape)
    assert sizes[1][0] > 1.5 * sizes[0][0]
    assert sizes[1][1] == sizes[0][1]
