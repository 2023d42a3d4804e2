"""Adoption of attention as the field writes it: equal to the network's own, at any size, and in the exact limit."""

import pytest
import torch

import nystra
from tests.nystra.adoption import map_hosts as on_maps
from tests.nystra.adoption import window_hosts as hosts

C = 8


def table(side, attention=hosts.TableAttention, masked=-100.0):
    return hosts.Windows(lambda: attention(C, 2, side), (side, side), (side // 2, side // 2), masked)


# Name → how to make the network, sides of the sample, the window, and the form of the bias that is found.
TAKEN = {
    "SwinIR, 6": (lambda: table(6), (18, 12), (6, 6), "table"),
    "SwinIR, 7": (lambda: table(7), (14, 21), (7, 7), "table"),
    "SwinIR, 8": (lambda: table(8), (16, 24), (8, 8), "table"),
    "SwinIR, 16": (lambda: table(16), (32, 32), (16, 16), "table"),
    "SwinIR, lowest mask": (lambda: table(8, masked=torch.finfo(torch.float32).min), (16, 24), (8, 8), "table"),
    "HAT, index as argument": (lambda: table(8, hosts.GivesIndex), (24, 16), (8, 8), "table"),
    "Swin2SR": (lambda: table(8, hosts.CosineAttention), (16, 24), (8, 8), "table"),
    "transformers' Swin": (lambda: table(8, hosts.AddedTogether), (16, 24), (8, 8), "table"),
    "FDAT": (lambda: table(6, hosts.PairBias), (12, 18), (6, 6), "dense"),
    "SCUNet": (lambda: table(8, hosts.HeadsFirst, -torch.inf), (16, 24), (8, 8), "table"),
    "LMLT": (lambda: hosts.Windows(lambda: hosts.OneHead(C), (8, 8), (4, 4)), (16, 24), (8, 8), "none"),
    "OmniSR": (lambda: hosts.GridAttention(C, 2, 8, bias=True), (16, 24), (8, 8), "table"),
    "MobileSR": (lambda: hosts.GridAttention(C, 2, 8, bias=False), (16, 24), (8, 8), "none"),
    "DAT": (lambda: hosts.Halves(C, 4, (4, 16)), (32, 48), (4, 16), "table"),
    "RGT": (lambda: hosts.Halves(C, 4, (8, 32)), (64, 32), (8, 32), "table"),
    "CRAFT": (lambda: hosts.Halves(C, 4, (4, 16), rolled=False), (16, 32), (4, 16), "table"),
    "UNet": (lambda: on_maps.Tokens(on_maps.Baddbmm(C, 2)), (8, 8), (8, 8), "none"),
    "autoencoder": (lambda: on_maps.TransposedWeights(C), (6, 9), (6, 9), "none"),
    "MultiheadAttention": (lambda: on_maps.Tokens(on_maps.MultiHead(C, 2)), (8, 8), (8, 8), "none"),
    "MultiheadAttention, no weights": (
        lambda: on_maps.Tokens(on_maps.MultiHead(C, 2, need_weights=False)),
        (8, 8),
        (8, 8),
        "none",
    ),
    "MultiheadAttention, weights by head": (
        lambda: on_maps.Tokens(on_maps.MultiHead(C, 2, average_attn_weights=False)),
        (8, 8),
        (8, 8),
        "none",
    ),
}
OTHER_KEYS = {
    "HAT's overlapping keys": (lambda: on_maps.OverlappingKeys(C, 2, 8), (16, 24)),
    "SRFormer": (lambda: on_maps.PermutedKeys(C, 2, 8), (16, 24)),
}
LEFT_ALONE = {
    "Restormer": (lambda: on_maps.ChannelAttention(C, 2), (16, 24)),
    "HiT-SR": (lambda: on_maps.Tokens(on_maps.NoSoftmax(C)), (16, 24)),
}


def run(net, image):
    with torch.no_grad():
        return net(image)


def assert_same(result, expected, tolerance=1e-5):
    torch.testing.assert_close(result, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def made(make, sides):
    """A network with sharp attention, a sample for it, and images of other sides and numbers."""
    torch.manual_seed(0)
    net = make().eval()
    shapes = (1, *sides), (1, 2 * sides[0], sides[1]), (3, *sides)
    return net, [3 * torch.randn(batch, C, height, width) for batch, height, width in shapes]


@pytest.mark.parametrize("name", TAKEN)
def test_attention_is_the_networks_own_at_any_size(name):
    make, sides, window, bias = TAKEN[name]
    net, images = made(make, sides)
    expected = [run(net, image) for image in images]
    report = nystra.adopt(net, images[0])
    assert report.rows
    assert not report.left_alone
    assert {row.window for row in report.rows} <= {window, window[::-1]}
    assert {row.bias for row in report.rows} == {bias}
    for image, result in zip(images, expected, strict=True):
        assert_same(run(net, image), result)
    assert not any(site.notes for site in nystra.find_sites(net).values())


@pytest.mark.parametrize("name", TAKEN)
def test_cells_of_single_tokens_are_exact_attention(name):
    make, sides, window, _ = TAKEN[name]
    net, images = made(make, sides)
    expected = [run(net, image) for image in images]
    nystra.adopt(net, images[0])
    nystra.substitute(net, nystra.LandmarkPooling(1, window[0] * window[1], "none"))
    assert_same(run(net, images[0]), expected[0], 5e-5)
    assert_same(run(net, images[2]), expected[2], 5e-5)
    assert not any(site.notes for site in nystra.find_sites(net).values())


@pytest.mark.parametrize("name", OTHER_KEYS)
def test_keys_of_other_tokens_give_the_networks_own_result(name):
    make, sides = OTHER_KEYS[name]
    net, images = made(make, sides)
    expected = [run(net, image) for image in images]
    assert len(nystra.adopt(net, images[0]).rows) == 1
    for image, result in zip(images, expected, strict=True):
        assert_same(run(net, image), result)


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_is_no_attention_of_tokens_is_left_alone(name):
    make, sides = LEFT_ALONE[name]
    net, images = made(make, sides)
    expected = run(net, images[0])
    classes = [type(module) for module in net.modules()]
    report = nystra.adopt(net, images[0])
    assert not report.taken
    assert [type(module) for module in net.modules()] == classes
    assert torch.equal(run(net, images[0]), expected)
