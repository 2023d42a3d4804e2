"""Options of `nystra.adopt`, their errors, and what it reports."""

import copy
import types

import pytest
import torch
from torch import nn

import nystra
from nystra.adoption.site import as_host
from tests.nystra.adoption import map_hosts, window_hosts
from tests.nystra.adoption.arithmetic import TOKENS
from tests.nystra.adoption.test_unforeseen import Any

C = 8


def network():
    """Windows with a table, whole maps without any bias, and channel attention."""
    torch.manual_seed(0)
    table = window_hosts.Windows(lambda: window_hosts.TableAttention(C, 2, 4), (4, 4), (2, 2))
    maps = map_hosts.Tokens(map_hosts.Baddbmm(C, 2))
    return nn.ModuleDict({"windows": table, "maps": maps, "channels": map_hosts.ChannelAttention(C, 2)}).eval()


class Chain(nn.Module):
    """Attentions one after the other."""

    def __init__(self):
        super().__init__()
        self.parts = network()

    def forward(self, image):
        for part in self.parts.values():
            image = part(image)
        return image


IMAGE = torch.randn(1, C, 8, 12)


def test_the_report_names_every_attention_in_order_and_why_it_was_left_alone():
    net = Chain()
    report = nystra.adopt(net, IMAGE)
    names = ["parts.windows.plain", "parts.windows.rolled", "parts.maps.inner", "parts.channels"]
    assert [row.name for row in report.rows] == names
    assert [row.taken for row in report.rows] == [True, True, True, False]
    assert [row.kinds for row in report.rows] == [1, 1, 1, 0]
    lines = str(report).splitlines()
    assert lines[0].split() == ["module", "class", "window", "heads", "bias"]
    assert lines[1].split() == ["parts.windows.plain", "TableAttention", "4×4", "2×4", "table"]
    assert lines[3].split() == ["parts.maps.inner", "Baddbmm", "8×12", "1×4", "none"]
    assert "left alone" in lines[4]
    assert "4 tokens of 96 channels" in lines[4]


def test_a_network_without_attention_is_said_to_have_none():
    net = nn.Sequential(nn.Conv2d(C, C, 3), nn.ReLU())
    assert str(nystra.adopt(net, IMAGE)) == "no softmax attention was found; nothing was changed"


@pytest.mark.parametrize("exclude", ["parts.windows", "parts.w*", ["parts.windows.plain", "*.rolled"]])
def test_what_is_excluded_is_left_alone_with_all_in_it(exclude):
    net = Chain()
    expected = net(IMAGE)
    report = nystra.adopt(net, IMAGE, exclude=exclude)
    assert [row.name for row in report.taken] == ["parts.maps.inner"]
    assert report.rows[0].reason == "excluded"
    torch.testing.assert_close(net(IMAGE), expected, rtol=1e-4, atol=1e-5)


def test_everything_may_be_excluded():
    net = Chain()
    classes = [type(module) for module in net.modules()]
    assert not nystra.adopt(net, IMAGE, exclude="*").taken
    assert [type(module) for module in net.modules()] == classes


@pytest.mark.parametrize("pattern", ["parts.maps", "*.inner"])
def test_windows_are_told_where_nothing_else_tells(pattern):
    net = Chain()
    assert nystra.adopt(net, IMAGE, windows={pattern: (4, 24)}).rows[2].window == (4, 24)
    assert nystra.adopt(net, IMAGE, windows={"*": (4, 24)}).rows[0].window == (4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exclude": "no.such"}, "exclude (no.such) must match a module"),
        ({"windows": {"no.such": (8, 12)}}, "windows (no.such) must match a module"),
        ({"windows": {"parts.maps": (8, 8)}}, "got attentions of 96 tokens"),
        ({"windows": {"parts.windows.plain.qkv": (8, 8)}}, "got attentions of no tokens"),
        ({"windows": {"parts.maps": (96,)}}, "height and width in tokens"),
        ({"windows": {"parts.maps": (0, 8)}}, "height and width in tokens"),
    ],
)
def test_options_that_fit_nothing_are_refused_and_nothing_is_changed(options, message):
    net = Chain()
    classes = [type(module) for module in net.modules()]
    with pytest.raises(ValueError, match=r".") as error:
        nystra.adopt(net, IMAGE, **options)
    assert message in str(error.value)
    assert [type(module) for module in net.modules()] == classes


def test_adopting_twice_and_releasing():
    net = Chain()
    host = copy.deepcopy(net)
    expected, classes = net(IMAGE), [type(module) for module in net.modules()]
    first = nystra.adopt(net, IMAGE)
    nystra.substitute(net, nystra.LandmarkPooling(1, 4, "none"))
    assert nystra.adopt(net, IMAGE) == first
    torch.testing.assert_close(net(IMAGE), expected, rtol=1e-4, atol=1e-5)
    nystra.release(net)
    assert [type(module) for module in net.modules()] == classes
    assert [vars(module).keys() for module in net.modules()] == [vars(module).keys() for module in host.modules()]
    assert torch.equal(net(IMAGE), expected)


def test_releasing_after_another_library_exchanged_the_class():
    net = Any().eval()
    x = torch.randn(1, TOKENS, C)
    nystra.adopt(net, x)
    nystra.substitute(net, nystra.LandmarkPooling(1, 4, "none"))
    nn.utils.parametrize.register_parametrization(net, "gate", nn.Identity())
    rough = net(x)
    nystra.release(net)
    assert not torch.allclose(net(x), rough, atol=1e-4)
    nn.utils.parametrize.remove_parametrizations(net, "gate")
    torch.testing.assert_close(nystra.adopt(net, x).rows[0].window, (4, 4))


def test_the_networks_own_arithmetic_within_a_context():
    net = Chain()
    expected = net(IMAGE)
    nystra.adopt(net, IMAGE)
    nystra.substitute(net, nystra.LandmarkPooling(1, 4, "none"))
    rough = net(IMAGE)
    with as_host(net):
        assert torch.equal(net(IMAGE), expected)
    assert torch.equal(net(IMAGE), rough)
    assert not torch.equal(rough, expected)


def test_weights_that_are_used_otherwise_are_reported():
    net = Any(lambda m, q, k, v: ((q @ k.mT).softmax(-1) * m.gate) @ v).eval()
    (row,) = nystra.adopt(net, torch.randn(1, TOKENS, C)).rows
    assert not row.taken
    assert row.reason == "mul of the weights is computed"


def test_a_forward_that_was_exchanged_already_is_left_alone():
    net, x = Any().eval(), torch.randn(1, TOKENS, C)
    net.forward = types.MethodType(lambda self, x: 2 * Any.forward(self, x), net)
    expected = net(x)
    (row,) = nystra.adopt(net, x).rows
    assert row.reason == "its forward was exchanged already, by another library"
    torch.testing.assert_close(net(x), expected)
