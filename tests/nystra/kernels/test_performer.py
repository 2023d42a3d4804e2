"""Performer: its recorded random features, and its limit of many of them."""

from torch.testing import assert_close

from nystra import Performer, Softmax, WindowGeometry
from nystra.functional import random_features
from tests import goldens
from tests.nystra.kernels.scenes import Scene


def test_random_features_are_performers():
    tensors, _ = goldens.load_tensors("pnp_attn_N64_h2_d8_m16_i3")
    directions = tensors["smooth.performer.projection"]
    for part, keys in (("q", False), ("k", True)):
        features = random_features(tensors[f"smooth.{part}"] * 8**-0.25, directions, keys=keys)
        assert_close(features, tensors[f"smooth.performer.{part}_prime"])


def test_performer_approaches_exact_attention():
    scene = Scene(shift=(4, 4))
    query, key, value = scene.tokens(scale=0.3)
    geometry = scene.geometry()
    exact = Softmax()(query, key, value, geometry)
    errors = [(Performer(count)(query, key, value, geometry) - exact).norm() / exact.norm() for count in (16, 4096)]
    assert errors[1] < 0.1
    assert errors[1] < errors[0] / 2
    free = WindowGeometry(scene.window)
    exact = Softmax()(query, key, value, free)
    assert (Performer(4096)(query, key, value, free) - exact).norm() < 0.1 * exact.norm()
