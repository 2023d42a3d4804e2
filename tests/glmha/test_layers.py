"""Views of channels-last images, and channels repeated, left out and moved."""

import torch

from glmha.layers import channels_read, shift_back, take_channels, to_tokens
from tests.glmha.randomised import inputs
from tests.reference import glmha as reference_glmha


def test_tokens_are_views_of_channels_last_images():
    image = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert to_tokens(image).data_ptr() == image.data_ptr()


def test_channels_are_repeated_and_left_out_evenly():
    assert channels_read(12, 4) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert channels_read(6, 4) == reference_glmha.position_sources(channels=6, reduced=4, heads=2) == [0, 0, 1, 2, 2, 3]
    assert channels_read(4, 12) == [0, 3, 6, 9]
    (x,) = inputs([(2, 4, 3, 5)])
    for count in (2, 4, 7):
        assert torch.equal(take_channels(x, count), x[:, channels_read(count, 4)])


def test_shift_back_moves_channels_by_their_own_index():
    (x,) = inputs([(1, 3, 256, 270)])
    out = shift_back(x, [0, 2, 5])
    for index, shift in enumerate((0, 4, 10)):
        assert torch.equal(out[:, index], x[:, index, :, shift : shift + 256])
