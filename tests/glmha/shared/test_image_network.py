"""What networks demand of images, read from their attributes."""

import dataclasses

import pytest
from torch import nn

from glmha import MST, RGBMST, MSTPlusPlus, Restormer
from glmha.shared.image_network import ImageRules, image_rules
from nystra.hosts.dehazeformer.network import DehazeFormer
from nystra.hosts.swinir.network import SwinIR
from nystra.hosts.uformer.network import Uformer

SMALL = {"dim": 8, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1}


def test_a_network_that_states_nothing_takes_every_image():
    rules = image_rules(nn.Conv2d(3, 3, 3, padding=1))
    assert rules == ImageRules(size_multiple=1, scale=1, value_range=(0.0, 1.0), takes=None)
    assert all(rules.fits(side) for side in range(1, 9))


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (Restormer(**SMALL), ImageRules(size_multiple=8)),
        (MST(dim=4, stage=2, num_blocks=(1, 1, 1)), ImageRules(size_multiple=4)),
        (RGBMST(dim=4, stage=1, num_blocks=(1, 1)), ImageRules(size_multiple=8)),
        (MSTPlusPlus(n_feat=4, out_channels=4, stage=1), ImageRules(size_multiple=8)),
        (
            SwinIR(img_size=16, embed_dim=8, depths=[1], num_heads=[1], upscale=2, upsampler="pixelshuffledirect"),
            ImageRules(scale=2),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_hosts_state_their_demands(net, expected):
    found = image_rules(net)
    assert dataclasses.replace(found, takes=None) == expected
    multiple = expected.size_multiple
    assert [side for side in range(1, 40) if found.fits(side)] == list(range(multiple, 40, multiple))


def test_a_network_may_take_fewer_sizes_than_multiples():
    net = Uformer(embed_dim=4, num_heads=(1,) * 9, win_size=2)
    assert [side for side in range(1, 200) if image_rules(net).fits(side)] == list(range(32, 200, 32))
    net.set_window(16)
    assert [side for side in range(1, 200) if image_rules(net).fits(side)] == [32, 64, 128]


def test_a_network_may_state_a_range_and_take_no_small_images():
    found = image_rules(DehazeFormer(depths=[1] * 5))
    assert dataclasses.replace(found, takes=None) == ImageRules(value_range=(-1.0, 1.0))
    taken = [side for side in range(1, 80) if found.fits(side)]
    assert taken == list(range(taken[0], 80))
    assert taken[0] > 1


def test_sizes_must_be_multiples_and_be_taken():
    rules = ImageRules(size_multiple=4, takes=lambda side: side > 5)
    assert [side for side in range(1, 20) if rules.fits(side)] == [8, 12, 16]
