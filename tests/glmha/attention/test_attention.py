"""Properties of every channel attention: gradients, and arguments that are refused."""

import functools

import pytest
import torch

import glmha
from tests.glmha.randomised import inputs, randomise


@pytest.mark.parametrize(
    "factory",
    [
        glmha.ChannelAttention,
        glmha.GLMHA,
        functools.partial(glmha.GLMHA, reduction=0.25, kernel_size=1),
        glmha.LinformerChannelAttention,
        glmha.PerformerChannelAttention,
    ],
)
def test_gradients(factory):
    module = randomise(factory(4, 2).double())
    x = (inputs([(2, 4, 4, 3)], torch.float64)[0] - 0.5).requires_grad_()
    assert torch.autograd.gradcheck(module, x)
    parameters = dict(module.named_parameters())

    def of_parameters(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, dict(zip(parameters, values, strict=True)), (x.detach(),))

    assert torch.autograd.gradcheck(of_parameters, tuple(parameters.values()))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: glmha.ChannelAttention(8, 3), r"heads \(3\) must divide channels \(8\)"),
        (lambda: glmha.GLMHA(8, 2, reduction=1), r"reduction \(1\) must be at least 0 and below 1"),
        (lambda: glmha.GLMHA(8, 2, alpha=-1), r"alpha \(-1\)"),
        (lambda: glmha.GLMHA(8, 2, kernel_size=0), r"kernel_size \(0\)"),
        (lambda: glmha.LinformerChannelAttention(8, 2, reduction=1), r"reduction \(1\)"),
        (lambda: glmha.PerformerChannelAttention(8, 2, features=0), r"features \(0\)"),
        (lambda: glmha.ReformerChannelAttention(8, 2, buckets=3), r"buckets \(3\)"),
        (lambda: glmha.ReformerChannelAttention(8, 2, rounds=0), r"rounds \(0\)"),
        (lambda: glmha.ChannelAttention(8, 2)(torch.rand(1, 8, 4, 4), torch.rand(1, 8, 4, 4)), "mask must be None"),
    ],
)
def test_what_cannot_be_is_named(factory, message):
    with pytest.raises(ValueError, match=message):
        factory()
