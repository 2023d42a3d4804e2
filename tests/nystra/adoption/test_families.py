"""Adoption of attention as the field writes it: equal to the network's own, at any size, and in the exact limit."""

import pytest
import torch

import nystra
from nystra.adoption.product import Product
from nystra.adoption.site import as_host, fused
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
    "a dictionary": (lambda: on_maps.Tokens(on_maps.Dictionary(C, 12, used=False)), (8, 8)),
}
LEFT_ALONE = {
    "Restormer": (lambda: on_maps.ChannelAttention(C, 2), (16, 24)),
    "ATD's dictionary": (lambda: on_maps.Tokens(on_maps.Dictionary(C, 12, used=True)), (16, 24)),
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
def test_keys_of_other_tokens_are_attended_exactly_without_the_weights(name, monkeypatch):
    make, sides = OTHER_KEYS[name]
    net, images = made(make, sides)
    expected = [run(net, image) for image in images]
    report = nystra.adopt(net, images[0])
    (row,) = report.exact
    assert row.reason.endswith("queries")
    assert str(report).splitlines()[1].split()[2 if row.name else 3] == "exact"
    monkeypatch.setattr(Product, "compute", lambda self: pytest.fail("the weights are computed"))
    for image, result in zip(images, expected, strict=True):
        assert_same(run(net, image), result)
    with pytest.raises(ValueError, match="must have attention whose kernel can be exchanged"):
        nystra.substitute(net, nystra.ContentPooling())
    monkeypatch.undo()
    with as_host(net):
        assert torch.equal(run(net, images[0]), expected[0])


@pytest.mark.parametrize("name", OTHER_KEYS)
def test_gradients_by_keys_of_other_tokens_are_the_networks_own(name):
    make, sides = OTHER_KEYS[name]
    net, (image, *_) = made(make, sides)
    parameters = list(net.parameters())
    expected = torch.autograd.grad(net(image).square().sum(), parameters)
    assert nystra.adopt(net, image).exact
    found = torch.autograd.grad(net(image).square().sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    nystra.release(net)
    assert_same(net(image), run(net, image))


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


@pytest.mark.parametrize(
    ("lead", "terms"),
    [
        ((6, 2), [((6, 2), (2, 5, 7)), ((3, 2, 2), (2, 1, 5, 7))]),
        ((6, 2), [((6, 2), (1, 2, 5, 7)), ((3, 2, 2), (1, 2, 1, 5, 7))]),
        ((12,), [((12,), (5, 7)), ((12,), (12, 5, 7)), ((6, 2), (2, 5, 7))]),
        ((2, 3, 2), [((2, 3, 2), (1, 3, 1, 5, 7)), ((2, 3, 2), (2, 5, 7)), ((6, 2), (1, 2, 5, 1))]),
        ((2, 6), [((2, 6), (2, 1, 5, 7)), ((2, 2, 3), (2, 2, 1, 5, 7))]),
        ((6, 1), [((6, 1), (5, 7)), ((3, 2, 1), (2, 1, 5, 7))]),
        ((4, 2), [((8,), (8, 5, 7))]),
        ((4, 2), []),
    ],
)
def test_terms_of_all_views_enter_fused_attention(lead, terms):
    query, key, value = (torch.randn(*lead, count, 4, dtype=torch.float64) for count in (5, 7, 7))
    product = Product(query, key, None)
    for at, shape in terms:
        product.add(at, torch.randn(shape, dtype=torch.float64))
    expected = product.copy().compute().softmax(-1) @ value
    torch.testing.assert_close(fused(product, value), expected)
