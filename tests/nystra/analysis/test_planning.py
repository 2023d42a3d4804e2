"""Plans: within their budget, never slower than exact attention, and the net left as it was."""

import dataclasses

import pytest
import torch
from torch import nn

import nystra
from nystra.analysis import planning
from nystra.analysis.planning import plan
from tests.nystra.sites.test_substitution import Attention


class Clock:
    """Time that passes by what kernels cost, in seconds."""

    now = 0.0

    @classmethod
    def work(cls, seconds):
        cls.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Times of a plan that do not depend on the machine: what the kernels say they cost."""
    attend = nystra.Softmax.attend

    def slowly(self, *inputs):
        Clock.work(0.02)
        return attend(self, *inputs)

    # Its native program would bypass the clock.
    monkeypatch.setattr(nystra.Softmax, "has_program", False)
    monkeypatch.setattr(nystra.Softmax, "attend", slowly)
    monkeypatch.setattr(planning.clock, "seconds", lambda device: Clock.now)


@dataclasses.dataclass(frozen=True)
class Slow(nystra.LandmarkPooling):
    """A kernel that nobody should choose."""

    def attend(self, *inputs):
        Clock.work(0.05)
        return super().attend(*inputs)


@dataclasses.dataclass(frozen=True)
class Cheap(nystra.Kernel):
    """A kernel that costs next to nothing and is wrong everywhere."""

    def cost(self, window, channels):
        return nystra.Softmax().cost(window, channels)

    def tables(self, kind, dtype):
        return None

    def attend(self, query, key, value, tables):
        Clock.work(0.001)
        return value


@dataclasses.dataclass(frozen=True)
class Refusing(Cheap):
    """A kernel that fits no window."""

    def cost(self, window, channels):
        raise ValueError("no window is right")


class TwoSites(nn.Module):
    """Two sites of windows of 16 by 16."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Attention(16, 2), Attention(16, 2)

    def forward(self, x):
        return x + self.second(x + self.first(x))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return TwoSites().eval()


def test_the_budget_is_kept_and_the_net_left_as_it_was(net):
    sample = torch.rand(1, 32, 32, 8)
    kernels = [net.first.kernel, net.second.kernel]
    exact = net(sample)
    result = plan(net, sample, budget_db=80, candidates=(Cheap(), Slow()), repeats=2)
    # One is too far off, the other too slow.
    assert result.kernels == {"first": nystra.Softmax(), "second": nystra.Softmax()}
    assert result.fidelity_db == float("inf")
    assert [net.first.kernel, net.second.kernel] == kernels
    assert torch.equal(net(sample), exact)


def test_a_faster_kernel_is_taken_within_the_budget(net):
    sample = torch.rand(1, 32, 32, 8)
    result = plan(net, sample, budget_db=1e-3, candidates=(Cheap(), Refusing()), peak=100, repeats=2)
    assert result.kernels == {"first": Cheap(), "second": Cheap()}
    assert result.seconds < result.exact_seconds
    report = nystra.substitute(net, result.kernels)
    assert len(report.sites) == 2
    assert "whole net" in str(result)
    assert "first" in str(result)


@dataclasses.dataclass(frozen=True)
class Nearly(Cheap):
    """Exact attention, but for an error as large as values are."""

    error: float = 0.0
    seconds: float = 0.0

    def tables(self, kind, dtype):
        return nystra.Softmax().tables(kind, dtype)

    def attend(self, query, key, value, tables):
        Clock.work(self.seconds)
        exact = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=tables, scale=1.0)
        return exact + self.error * value


@pytest.mark.parametrize(("scale", "coarsely"), [(1, 2), (2, 1), (30, 0)])
def test_kernels_that_err_less_are_chosen_where_another_image_needs_them(net, scale, coarsely):
    sample = torch.rand(1, 32, 32, 8)
    coarse, fine = Nearly(error=0.004, seconds=0.001), Nearly(error=1e-5, seconds=0.005)
    result = plan(net, sample, others=[scale * sample], budget_db=50, candidates=(coarse, fine), repeats=1)
    assert result.checked_db >= 50
    # The larger the other image, the larger the coarse kernel's errors on it.
    assert list(result.kernels.values()).count(coarse) == coarsely
    assert list(result.kernels.values()).count(fine) == 2 - coarsely


@pytest.mark.parametrize("arguments", [{"budget_db": 0}, {"budget_db": 40, "repeats": 0}, {"budget_db": 40, "peak": 0}])
def test_numbers_out_of_range_are_named(net, arguments):
    with pytest.raises(ValueError, match="budget_db"):
        plan(net, torch.rand(1, 32, 32, 8), **arguments)
