"""Hand-written gradients against the plain expressions, in float64."""

import pytest
import torch
import torch.nn.functional as F

from glmha import functional
from glmha.cpu import gradients
from glmha.cpu import row_bands as streaming


@pytest.fixture(autouse=True)
def small_bands(monkeypatch):
    monkeypatch.setattr(streaming, "BAND_BYTES", 2048)


def image(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(*shape, dtype=torch.float64, generator=generator)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def test_gate_is_gelu_times_value():
    x = image(2, 6, 5, 4)
    torch.testing.assert_close(gradients.gate(x), F.gelu(x[:, :3]) * x[:, 3:], rtol=1e-10, atol=0)
    assert torch.autograd.gradcheck(gradients.gate, x)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("biased", [False, True])
def test_depthwise_convolution_over_several_bands(kernel, biased):
    x = image(2, 3, 11, 6)
    weight = torch.randn(3, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True) if biased else None
    assert len(list(streaming.bands(x, 3, kernel // 2))) > 1
    expected = F.conv2d(x, weight, bias, padding=kernel // 2, groups=3)
    torch.testing.assert_close(gradients.depthwise_convolution(x, weight, bias), expected, rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(gradients.depthwise_convolution, (x, weight, bias))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("key_channels", [2, 4])
def test_similarity(heads, key_channels):
    tokens = torch.randn(2, 5, 4 + key_channels, dtype=torch.float64, requires_grad=True)

    def call(tokens: torch.Tensor, function=gradients.similarity) -> torch.Tensor:
        return function(tokens[:, :, :4], tokens[:, :, 4:], heads)

    torch.testing.assert_close(call(tokens), call(tokens, functional.similarity), rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(call, tokens)


def small(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


TWICE = {
    "gate": (gradients.gate, [(1, 4, 2, 3)]),
    "depthwise": (gradients.depthwise_convolution, [(1, 2, 4, 3), (2, 1, 3, 3)]),
    "depthwise with bias": (gradients.depthwise_convolution, [(1, 2, 4, 3), (2, 1, 3, 3), (2,)]),
    "similarity": (lambda query, key: gradients.similarity(query, key, 2), [(1, 5, 4), (1, 5, 2)]),
}


@pytest.mark.parametrize(("function", "shapes"), TWICE.values(), ids=TWICE)
def test_second_derivatives(function, shapes):
    inputs = [small(*shape) for shape in shapes]
    assert torch.autograd.gradgradcheck(function, inputs)
    # The commonest use, a penalty of the gradient of a sum, whose own gradient is constant.
    (first,) = torch.autograd.grad(function(*inputs).square().sum(), inputs[0], create_graph=True)
    assert torch.autograd.grad(first.square().sum(), inputs[0])[0].abs().max() > 0


def test_a_gradient_of_a_constant_gradient_is_not_left_out():
    x = small(1, 4, 2, 3)

    def penalty(function) -> torch.Tensor:
        (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    plain = penalty(lambda x: F.gelu(x[:, :2]) * x[:, 2:])
    torch.testing.assert_close(penalty(gradients.gate), plain, rtol=1e-10, atol=1e-12)


def test_a_channel_of_zeros_has_finite_gradients():
    query = torch.randn(1, 5, 4)
    query[:, :, 1] = 0
    query.requires_grad_()
    gradients.similarity(query, torch.randn(1, 5, 4), 2).sum().backward()
    assert query.grad is not None
    assert query.grad.isfinite().all()
