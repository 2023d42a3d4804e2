"""GLMHA in float64 against a literal transcription of its equations, and in half precision."""

import functools

import pytest
import torch

import glmha
from glmha.conventions.restormer import RestormerConvention
from tests.glmha.randomised import exactly, features, randomise
from tests.reference import glmha as reference


def published(module: glmha.GLMHA, x: torch.Tensor) -> torch.Tensor:
    """The transcription on a module's weights."""
    sizes = [module.channels, module.key_channels, module.key_channels]
    weights, biases = {"temperature": module.temperature, "project_out": module.project_out.weight}, {}
    for suffix, source in (("", module.qkv), ("_dwconv", module.qkv_dwconv)):
        for name, weight in zip("qkv", source.weight.split(sizes), strict=True):
            weights[name + suffix] = weight
        if source.bias is not None:
            biases |= {name + suffix: bias for name, bias in zip("qkv", source.bias.split(sizes), strict=True)}
    if module.project_out.bias is not None:
        biases["project_out"] = module.project_out.bias
    weights |= {
        "calibration_dwconv": module.calibration.pool.weight,
        "calibration_linear": module.calibration.mix.weight,
    }
    return reference.restormer_glmha(x, weights, biases, alpha=module.alpha)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("reduction", [0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("bias", [False, True])
def test_glmha_is_its_equations(heads, reduction, bias):
    convention = RestormerConvention(bias=bias)
    module = randomise(glmha.GLMHA(8, heads, reduction=reduction, alpha=0.6, convention=convention).double())
    for batch in (1, 3):
        x = features(batch)
        exactly(module(x), published(module, x))
        with torch.inference_mode():
            exactly(module(x), published(module, x))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_glmha_without_reduction_and_calibration_is_exact_attention(heads):
    dense = randomise(glmha.ChannelAttention(8, heads).double())
    low_rank = glmha.GLMHA(8, heads, reduction=0, alpha=0).double()
    low_rank.load_state_dict(dense.state_dict(), strict=True)
    exactly(low_rank(features()), dense(features()))


def test_half_precision_keeps_scores_in_float32():
    module = randomise(glmha.GLMHA(8, 2)).bfloat16()
    attention, value = module.attention(features().bfloat16())
    assert attention.dtype == torch.float32
    assert value.dtype == torch.bfloat16
    assert module(features().bfloat16()).dtype == torch.bfloat16


def test_images_do_not_depend_on_their_batch():
    module = randomise(glmha.GLMHA(8, 2).double())
    x = features(3)
    exactly(module(x)[1:2], module(x[1:2]))


def test_a_black_image_stays_finite():
    x = torch.zeros(1, 8, 7, 6, requires_grad=True)
    output = glmha.GLMHA(8, 2)(x)
    output.sum().backward()
    assert output.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("attention", [glmha.ChannelAttention, functools.partial(glmha.GLMHA, alpha=0.6)])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_sums_beyond_float16_are_not_formed(attention, mode):
    torch.manual_seed(0)
    module = attention(8, 2)
    x = 40 + 10 * torch.rand(1, 8, 64, 64)
    exact = module(x)
    half = module.half()
    with mode():
        # Unnormalised, q kᵀ would pass 65504 here.
        assert exact.isfinite().all()
        error = (half(x.half()).float() - exact).norm() / exact.norm()
        assert error < 0.02
