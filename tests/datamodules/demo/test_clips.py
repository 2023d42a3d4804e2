"""Clips of bundled photographs: what is near moves faster."""

import numpy as np
import pytest

from datamodules.demo.clips import demo_clip, moving_view, photograph_with_depth


def test_near_things_move_faster_than_far_ones():
    rng = np.random.default_rng(0)
    picture = np.empty((80, 160, 4), np.uint8)
    columns = 128 + 100 * np.sin(np.arange(160) / 6)
    picture[..., :3] = columns[None, :, None]
    picture[:40, :, 3], picture[40:, :, 3] = 0, 255
    clip = moving_view(picture, 5, rng).astype(float)
    changes = np.abs(np.diff(clip, axis=0)).mean((0, 2, 3))
    assert changes[30:].mean() > 1.5 * changes[:18].mean()


def test_the_depth_of_the_motorcycle_is_measured():
    near = photograph_with_depth("motorcycle")[..., 3]
    rows = photograph_with_depth("rocket")[..., 3]
    assert (rows == rows[:, :1]).all()
    assert near.std(1).mean() > 20


@pytest.mark.parametrize("options", [{"num_frames": 0}, {"size": 4}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        demo_clip(**options)
