"""Under autocast to bfloat16: what sums, normalises and takes exponentials does so in float32."""

import pytest
import torch

from glmha import GLMHA, ChannelAttention, PerformerChannelAttention, ReformerChannelAttention
from glmha.conventions.mst import MSTConvention
from glmha.conventions.restormer import RestormerConvention
from glmha.layers import LayerNorm
from nystra.functional import iterative_pseudo_inverse, transposed_over_norms


@pytest.mark.parametrize("convention", [RestormerConvention(), MSTConvention()], ids=["Restormer", "MST"])
@pytest.mark.parametrize("kind", [ChannelAttention, GLMHA, PerformerChannelAttention])
def test_attention_is_normalised_in_float32(kind, convention):
    torch.manual_seed(0)
    attention = kind(8, 2, convention=convention)
    image = torch.randn(2, 8, 16, 16)
    exact, _ = attention.attention(image)
    with torch.autocast("cpu", torch.bfloat16):
        found, value = attention.attention(image)
        result = attention(image)
    assert found.dtype == torch.float32
    assert value.dtype == torch.bfloat16
    # Of weights in bfloat16 the sums would be off by a thousandth and more.
    torch.testing.assert_close(found.sum(3), exact.sum(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.02)
    torch.testing.assert_close(result.float(), attention(image), rtol=0.05, atol=0.05)


def test_hashed_attention_runs_in_mixed_precision():
    torch.manual_seed(0)
    attention = ReformerChannelAttention(8, 2)
    with torch.autocast("cpu", torch.bfloat16):
        matrix, _ = attention.attention(torch.randn(2, 8, 16, 16))
    assert matrix.dtype == torch.float32
    torch.testing.assert_close(matrix.sum(3), torch.ones(2, 2, 4), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_norms_of_large_means_are_taken_in_float32(bias):
    torch.manual_seed(0)
    norm = LayerNorm(16, bias=bias)
    # Exact in bfloat16, whose sums of squares of these would have no digit left of their variance.
    image = (256 + torch.randint(0, 8, (1, 16, 4, 4)) * 2).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(image)
    torch.testing.assert_close(found.float(), norm(image.float()), rtol=0.01, atol=0.02)


def test_norms_of_channels_sum_in_float32():
    # A bfloat16 sum of squares stops growing at 256 ones.
    attention = ChannelAttention(2, 1)
    image = torch.ones(1, 2, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        cosines, _ = attention.convention.similarity(attention, image, None)
    assert cosines.dtype == torch.float32
    assert cosines.abs().max() <= 1.02


def test_the_pseudo_inverse_outside_autocast_is_exact():
    # Kernels leave autocast before they come here (`nystra.kernels`): in bfloat16 the iteration would not converge.
    torch.manual_seed(0)
    matrix = torch.softmax(3 * torch.randn(1, 2, 8, 8), -1)
    start = transposed_over_norms(matrix, whole_batch=False)
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
        inverse = iterative_pseudo_inverse(matrix, 20, start=start)
    torch.testing.assert_close(matrix @ inverse @ matrix, matrix, rtol=1e-3, atol=1e-4)
