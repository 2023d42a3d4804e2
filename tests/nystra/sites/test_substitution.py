"""Substitution: sites found, all validated before any is changed, costs reported; keys and weights stay."""

import copy
import dataclasses
import pickle

import pytest
import torch
from torch import nn

import nystra
from nystra.kernels import Cost
from nystra.sites.site import WindowAttention
from nystra.sites.substitution import find_sites
from nystra.windows import Cut
from nystra.windows.position_bias import TableBias


class Attention(WindowAttention):
    """A small window attention of its own."""

    def __init__(self, window: int, heads: int) -> None:
        super().__init__((window, window), heads)
        self.qkv = nn.Linear(8, 24)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))

    @property
    def head_channels(self) -> int:
        return 8 // self.num_heads

    def position_bias(self, window: tuple[int, int] | None = None) -> TableBias:
        return TableBias(self.table, self.trained_window_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cut = Cut(tuple(x.shape[1:3]), self.window_size)
        query, key, value = self.qkv(x).unflatten(3, (3, self.num_heads, -1)).unbind(3)
        query = query * self.head_channels**-0.5
        return self.kernel.over_maps(query, key, value, self.geometry(cut.grid), cut).flatten(3)


@dataclasses.dataclass(frozen=True)
class LargeWindows(nystra.Softmax):
    """A kernel that refuses windows of less than 8×8."""

    def cost(self, window: tuple[int, int], channels: int) -> Cost:
        if min(window) < 8:
            raise ValueError("large windows only")
        return super().cost(window, channels)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Attention(8, 2), Attention(4, 1), nn.Linear(8, 8)).eval()


def test_all_sites_are_swapped_and_reported(net):
    keys = set(net.state_dict())
    x = torch.randn(1, 16, 16, 8)
    exact = net(x)
    report = nystra.substitute(net, nystra.LandmarkPooling(4, 16))
    assert [site.name for site in report.sites] == ["0", "1"]
    assert [site.tokens for site in report.sites] == [64, 16]
    assert report.sites[0].macs_before == 2 * 2 * 64 * 4
    assert report.sites[0].macs_after < report.sites[0].macs_before
    assert "LandmarkPooling(landmarks=4" in str(report)
    sizes = [site.kernel for site in nystra.substitute(net, nystra.ContentPooling()).sites]
    assert sizes == [nystra.ContentPooling(16, 16, 4), nystra.ContentPooling(16, 8, 8)]
    assert set(net.state_dict()) == keys
    assert not torch.equal(net(x), exact)
    nystra.substitute(net, nystra.Softmax())
    assert torch.equal(net(x), exact)


def test_tables_live_no_longer_than_their_kernel_and_are_not_copied(net):
    with torch.no_grad():
        net(torch.randn(1, 16, 16, 8))
        whole = pickle.dumps(net)
        nystra.substitute(net, nystra.Nystrom(4, 4))
        assert len(pickle.dumps(net)) == pytest.approx(len(whole), abs=200)
        assert not net[0]._tables
        net(torch.randn(1, 16, 16, 8))
    assert net[0]._tables
    assert not copy.deepcopy(net)[0]._tables


def test_kernels_may_differ_by_site(net):
    kernels = {"0": nystra.Nystrom(4, 8), "*": nystra.Softmax()}
    report = nystra.substitute(net, kernels)
    assert [type(site.kernel) for site in report.sites] == [nystra.Nystrom, nystra.Softmax]
    report = nystra.substitute(net, nystra.Nystromformer(4), sites=lambda _, site: site.num_heads == 1)
    assert [site.name for site in report.sites] == ["1"]
    assert isinstance(net[0].kernel, nystra.Nystrom)


@pytest.mark.parametrize(
    ("kernel", "sites", "error", "message"),
    [
        (
            LargeWindows(),
            None,
            ValueError,
            r"kernel \(LargeWindows\(\)\) must fit every site, got at 1: large windows only",
        ),
        (nystra.Softmax(), "2", ValueError, r"sites \(2\) must match a window attention"),
        (nystra.Softmax(), lambda *_: False, ValueError, "sites must choose at least one"),
        (nystra.Softmax, None, TypeError, "kernel must be a nystra.Kernel"),
        ({"5": nystra.Softmax()}, None, ValueError, r"sites \(5\)"),
        ({"0": nystra.Softmax()}, "1", ValueError, "at least one window attention in common"),
    ],
)
def test_what_does_not_fit_leaves_the_net_untouched(net, kernel, sites, error, message):
    before = [site.kernel for site in find_sites(net).values()]
    with pytest.raises(error, match=message):
        nystra.substitute(net, kernel, sites=sites)
    assert [site.kernel for site in find_sites(net).values()] == before


def test_a_net_without_window_attention_is_refused():
    with pytest.raises(ValueError, match=r"net \(Linear\) must have attention whose kernel can be exchanged"):
        nystra.substitute(nn.Linear(2, 2), nystra.Softmax())
