"""Class tokens and the like beside a map: exact where the kernel is, in one softmax with what the kernel makes."""

import math

import pytest
import torch
from torch.testing import assert_close

from nystra import (
    ContentPooling,
    Kernel,
    LandmarkPooling,
    Nystrom,
    Nystromformer,
    Performer,
    PrintedNystrom,
    PublishedNystrom,
    Softmax,
    WindowGeometry,
)
from nystra.kernels import Cost
from nystra.programs.cpu.library import load
from nystra.programs.operators import plain_torch
from nystra.windows.geometry import ExtraTokens
from nystra.windows.position_bias import DenseBias, TableBias
from tests.nystra.kernels.test_base import EXACT

WINDOW = (4, 6)
TOKENS = math.prod(WINDOW)
EXTRAS = [(1, 0), (0, 3), (2, 5)]


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def inputs(before, after, windows=2):
    return 0.7 * normal(3, windows, 2, before + TOKENS + after, 8)


def geometry_with(before, after, bias, strength=1.0):
    """Windows with a bias of offsets, or of pairs, and another bias from and to the tokens beside the map."""
    if bias is None:
        return WindowGeometry(WINDOW, extra=ExtraTokens(before, after))
    count = before + TOKENS + after
    if bias == "table":
        own = TableBias(strength * normal((2 * WINDOW[0] - 1) * (2 * WINDOW[1] - 1), 2, seed=1), WINDOW)
        pairs = next(kind for *_, kind in WindowGeometry(WINDOW, bias=own).kinds(torch.device("cpu"))).all_logits()
    else:
        pairs = normal(2, TOKENS, TOKENS, seed=1)
        own = DenseBias(pairs, WINDOW)
    dense = normal(2, count, count, seed=2)
    dense[:, before : before + TOKENS, before : before + TOKENS] = pairs
    return WindowGeometry(WINDOW, bias=own, extra=ExtraTokens(before, after, dense))


def exactly(query, key, value, geometry):
    logits = query @ key.mT
    if geometry.extra.bias is not None:
        logits = logits + geometry.extra.bias
    return logits.softmax(-1) @ value


@pytest.mark.parametrize("bias", [None, "table", "pairs"])
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("make", [lambda _: Softmax(), *EXACT])
def test_where_a_kernel_is_exact_so_is_the_whole_sequence(make, extra, bias):
    kernel, tokens, geometry = make(TOKENS), inputs(*extra), geometry_with(*extra, bias)
    tolerance = 1e-6 if isinstance(kernel, Nystromformer | PrintedNystrom) else 1e-10
    assert_close(kernel(*tokens, geometry), exactly(*tokens, geometry), rtol=tolerance, atol=tolerance)


ROUGH = [
    LandmarkPooling(4, 8, "none"),
    LandmarkPooling(4, 8, "cross"),
    ContentPooling(4, 8, 2),
    Nystrom(4, 8),
    Nystromformer(4, 40),
    PrintedNystrom(4, 40),
    PublishedNystrom(4),
    Performer(1024),
]


@pytest.mark.parametrize("bias", [None, "table"])
@pytest.mark.parametrize("kernel", ROUGH, ids=str)
def test_masses_are_those_of_the_keys(kernel, bias):
    """In smooth scenes every kernel is near; a mass that is off by the number of keys of a cell would show."""
    if bias and not kernel.sees_bias:
        pytest.skip("the kernel sees no bias")
    query, key, value = 0.3 * inputs(0, 0)
    ((*_, kind),) = geometry_with(0, 0, bias, 0.1).maps.kinds(query.device)
    logits = query @ key.mT + (kind.all_logits() if bias else 0)
    _, masses = kernel.attend_with_masses(query, key, value, kernel.tables(kind, query.dtype))
    assert_close(masses, logits.logsumexp(3, keepdim=True), rtol=0, atol=0.3)


@pytest.mark.parametrize("bias", [None, "table"])
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("kernel", ROUGH, ids=str)
def test_tokens_beside_the_map_are_attended_exactly(kernel, extra, bias):
    (before, after), geometry = extra, geometry_with(*extra, bias)
    query, key, value = inputs(*extra)
    exact = exactly(query, key, value, geometry)
    result = kernel(query, key, value, geometry)
    inside = slice(before, before + TOKENS)
    outside = torch.ones(before + TOKENS + after, dtype=torch.bool)
    outside[inside] = False
    assert_close(result[:, :, outside], exact[:, :, outside])
    assert result.shape == exact.shape
    assert not torch.allclose(result[:, :, inside], exact[:, :, inside], atol=1e-4)
    # Keys beside the map that outweigh all others leave nothing to the kernel.
    key[:, :, outside] = 10 * query.mean(2, keepdim=True).sign()
    query = query.abs() * query.mean(2, keepdim=True).sign()
    if bias is None:
        assert_close(kernel(query, key, value, geometry), exactly(query, key, value, geometry), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kernel", [kernel for kernel in ROUGH if not isinstance(kernel, ContentPooling)], ids=str)
def test_gradients_are_those_of_differences(kernel):
    geometry = geometry_with(1, 2, None)
    tokens = [tensor.clone().requires_grad_() for tensor in inputs(1, 2, windows=1)[:, :, :1]]
    assert torch.autograd.gradcheck(lambda *given: kernel(*given, geometry), tokens, fast_mode=True)


def test_gradients_reach_the_bias_of_tokens_beside_the_map():
    dense = geometry_with(1, 2, "pairs").extra.bias.requires_grad_()
    tokens, gradients = inputs(1, 2), []
    inside = slice(1, 1 + TOKENS)
    geometry = WindowGeometry(WINDOW, bias=DenseBias(dense[:, inside, inside], WINDOW), extra=ExtraTokens(1, 2, dense))
    for kernel in (Softmax(), LandmarkPooling(4, TOKENS, "none")):
        gradients.append(torch.autograd.grad(kernel(*tokens, geometry).square().sum(), dense)[0])
    gradients.append(torch.autograd.grad(exactly(*tokens, geometry).square().sum(), dense)[0])
    assert_close(gradients[0], gradients[2])
    assert_close(gradients[1], gradients[2])


@pytest.mark.skipif(load() is None, reason="no native programs are built for this processor")
@pytest.mark.parametrize("bias", [None, "table", "pairs"])
@pytest.mark.parametrize("channels", [4, 8, 17])
@pytest.mark.parametrize("kernel", [kernel for kernel in ROUGH if kernel.has_program], ids=str)
def test_native_masses_are_those_of_plain_torch(kernel, channels, bias):
    geometry = geometry_with(2, 3, bias).maps
    tokens = 0.7 * normal(3, 3, 2, TOKENS, channels)
    attended, masses = kernel._attend_with_masses(*tokens.float(), geometry)
    with plain_torch():
        expected = kernel._attend_with_masses(*tokens, geometry)
    assert_close((attended.double(), masses.double()), expected, rtol=1e-4, atol=1e-5)
    assert_close(attended, kernel(*tokens.float(), geometry))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", [Softmax(), *ROUGH], ids=str)
def test_lower_precision_is_near(kernel, dtype):
    geometry = geometry_with(1, 2, "table" if kernel.sees_bias else None)
    tokens = inputs(1, 2)
    exact = kernel(*tokens, geometry)
    result = kernel(*tokens.to(dtype), geometry)
    assert result.dtype == dtype
    assert (result.double() - exact).norm() < (1e-4 if dtype == torch.float32 else 0.1) * exact.norm()


def test_a_kernel_without_masses_is_refused():
    class Mean(Kernel):
        def cost(self, window, channels):
            return Cost(channels, channels)

        def tables(self, kind, dtype):
            return None

        def attend(self, query, key, value, tables):
            return value.mean(2, keepdim=True).expand_as(value)

    class Halved(LandmarkPooling):
        def attend(self, query, key, value, tables):
            return super().attend(query, key, value, tables) / 2

    for kernel in (Mean(), Halved()):
        with pytest.raises(ValueError, match="must tell the masses of keys"):
            kernel(*inputs(1, 0), geometry_with(1, 0, None))


def test_rolled_maps_have_no_tokens_beside_them():
    with pytest.raises(ValueError, match=r"shift \(\(2, 3\)\) must be \(0, 0\)"):
        WindowGeometry(WINDOW, (2, 2), (2, 3), extra=ExtraTokens(1, 0))
