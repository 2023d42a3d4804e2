"""The call in place of scaled_dot_product_attention."""

import pytest
import torch
import torch.nn.functional as F

from nystra import ContentPooling, LandmarkPooling, Performer, attend
from nystra.windows import WindowGeometry, WindowKind
from nystra.windows.position_bias import TableBias


def tokens(*shape):
    return torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).unbind()


def table_of(window, heads):
    return torch.randn((2 * window[0] - 1) * (2 * window[1] - 1), heads, generator=torch.Generator().manual_seed(1))


def laid_out(table, window):
    return WindowKind(window, (None, None), TableBias(table, window), torch.device("cpu")).all_logits()


def shift_masks(window, grid):
    geometry = WindowGeometry(window, grid, (window[0] // 2, window[1] // 2))
    masks = torch.zeros(*grid, window[0] * window[1], window[0] * window[1])
    for places, kind in geometry.kinds(masks.device):
        masks[places] = kind.all_logits()[0]
    return masks.flatten(0, 1)


@pytest.mark.parametrize("shape", [(5, 2, 64, 8), (2, 64, 8), (2, 3, 2, 64, 8), (5, 2, 30, 8)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_without_anything_it_is_torch_s_attention(shape, scale):
    query, key, value = tokens(*shape)
    expected = F.scaled_dot_product_attention(query, key, value, scale=scale)
    torch.testing.assert_close(attend(query, key, value, scale=scale), expected)


@pytest.mark.parametrize("window", [(8, 8), (4, 16), (7, 7)])
@pytest.mark.parametrize("laid", [True, False])
@pytest.mark.parametrize("exact", [True, False])
def test_bias_and_masks_of_shifted_windows_are_seen_by_every_kernel(window, laid, exact):
    count = window[0] * window[1]
    query, key, value = tokens(2 * 6, 3, count, 8)
    table, masks = table_of(window, 3), shift_masks(window, (2, 3))
    dense = laid_out(table, window)
    expected = F.scaled_dot_product_attention(query, key, value, dense + masks.repeat(2, 1, 1).unsqueeze(1))
    kernel = None if exact else LandmarkPooling(1, count, "none")
    attended = attend(
        query, key, value, window=window, bias=dense if laid else table, mask=masks.unsqueeze(1), kernel=kernel
    )
    torch.testing.assert_close(attended, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask", [torch.rand(64, 64) > 0.3, torch.randn(64, 64), torch.randn(12, 1, 64, 64)])
def test_masks_are_those_of_torch(mask):
    query, key, value = tokens(12, 2, 64, 8)
    expected = F.scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(attend(query, key, value, mask=mask), expected, rtol=1e-4, atol=1e-5)
    table = table_of((8, 8), 2)
    attended = attend(query, key, value, mask=mask, bias=table)
    expected = F.scaled_dot_product_attention(
        query, key, value, laid_out(table, (8, 8)) + (-300 * ~mask if mask.dtype == torch.bool else mask)
    )
    torch.testing.assert_close(attended, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("laid", [True, False])
@pytest.mark.parametrize("kernel", [None, LandmarkPooling(1, 64, "none")])
def test_gradients_reach_queries_and_biases(laid, kernel):
    query, key, value = (tensor.double().requires_grad_() for tensor in tokens(4, 2, 64, 4))
    bias = table_of((8, 8), 2).double()
    bias = (laid_out(bias, (8, 8)) if laid else bias).detach().requires_grad_()
    upper = torch.randn(4, 2, 64, 4, dtype=torch.float64)
    inputs = (query, key, value, bias)
    gradients = torch.autograd.grad((attend(query, key, value, bias=bias, kernel=kernel) * upper).sum(), inputs)
    dense = bias if laid else laid_out(bias, (8, 8))
    expected = torch.autograd.grad((F.scaled_dot_product_attention(query, key, value, dense) * upper).sum(), inputs)
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("extra", [(1, 0), (3, 2), (0, 4)])
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("kernel", [None, LandmarkPooling(1, 60, "none"), ContentPooling(4, 4, 4)])
def test_tokens_beside_the_map_are_attended_exactly(extra, pairs, kernel):
    count = 60 + sum(extra)
    query, key, value = tokens(3, 2, count, 8)
    bias = torch.randn(2, count, count) if pairs else None
    expected = F.scaled_dot_product_attention(query, key, value, bias)
    attended = attend(query, key, value, window=(6, 10), extra=extra, bias=bias, kernel=kernel)
    torch.testing.assert_close(attended, expected, rtol=1e-4, atol=1e-5)


def test_keys_of_another_number_are_attended_exactly():
    query, key, value = torch.randn(3, 2, 16, 8), torch.randn(3, 2, 36, 8), torch.randn(3, 2, 36, 8)
    bias = torch.randn(2, 16, 36)
    expected = F.scaled_dot_product_attention(query, key, value, bias)
    torch.testing.assert_close(attend(query, key, value, bias=bias), expected)
    with pytest.raises(ValueError, match="needs as many keys as queries"):
        attend(query, key, value, kernel=Performer(8))


def test_kernels_differ_from_exact_attention_and_keep_its_dtype():
    query, key, value = (tensor.bfloat16() for tensor in tokens(2, 2, 256, 8))
    pooled = attend(query, key, value, kernel=ContentPooling())
    assert pooled.dtype == torch.bfloat16
    assert not torch.equal(pooled, attend(query, key, value))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (4, 4)}, r"window \(4×4\) must hold the 64 tokens"),
        ({"window": (8, 8), "extra": (1, 0)}, r"window \(8×8 \+ 1\) must hold the 64 tokens"),
        ({"extra": (60, 4)}, r"extra \(60, 4\) must be numbers of tokens that leave some"),
        ({"extra": (1, 0), "bias": torch.zeros(225, 2)}, r"bias \(225, 2\) must be \(2, 64, 64\)"),
        ({"bias": torch.zeros(9, 2)}, r"bias \(9, 2\) must be \(\(2h - 1\)"),
        ({"bias": torch.zeros(3, 64, 64)}, r"bias \(3, 64, 64\) must be \(2, 64, 64\)"),
        ({"mask": torch.zeros(2, 64, 64)}, "may be of 2 heads or of 2 windows"),
        ({"mask": torch.zeros(63, 64)}, r"mask \(63, 64\) must be broadcast"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        attend(*tokens(4, 2, 64, 8), **options)
