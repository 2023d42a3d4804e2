"""Attentions and their algebra, in float64, against literal transcriptions."""

import functools

import pytest
import torch
import torch.nn.functional as F

import glmha
from glmha import functional
from glmha.conventions.restormer import RestormerConvention
from glmha.functional import random_directions
from glmha.layers import to_tokens
from tests.glmha.randomised import exactly, inputs, randomise
from tests.reference import glmha as reference


def features(batch: int = 2, channels: int = 8) -> torch.Tensor:
    return inputs([(batch, channels, 7, 6)], torch.float64)[0] - 0.5


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


@pytest.mark.parametrize("route", ["absorbed", "sequential"])
@pytest.mark.parametrize("biased", [False, True])
def test_both_output_routes_are_the_same_product(monkeypatch, route, biased):
    monkeypatch.setattr(functional, "output_route", lambda *shape: route)
    attention, value, weight = inputs([(2, 2, 4, 3), (2, 30, 6), (8, 8)], torch.float64)
    bias = torch.arange(8.0, dtype=torch.float64) if biased else None
    for batch in (1, 2):
        mixed = torch.einsum("bhij,bnhj->bnhi", attention[:batch], value[:batch].unflatten(2, (2, 3))).flatten(2)
        exactly(functional.attend(attention[:batch], value[:batch], weight, bias), F.linear(mixed, weight, bias))


def test_the_cost_model_follows_the_shapes():
    assert functional.output_route(65536, 48, 48, 24, 1) == "absorbed"
    assert functional.output_route(4, 48, 48, 48, 1) == "sequential"
    assert functional.similarity_route(65536, 31, 31, 1, query_needed=False) == "gram"
    assert functional.similarity_route(65536, 31, 8, 1, query_needed=True) == "direct"


def test_linformer_projects_keys_and_values():
    module = randomise(glmha.LinformerChannelAttention(8, 2, reduction=0.5).double())
    query, key, value = (
        t.unflatten(2, (2, 4)).permute(0, 2, 3, 1) for t in module.convention.tokens(module, features(), None)
    )
    key = module.key_projection @ F.normalize(key, dim=-1)
    scores = F.normalize(query, dim=-1) @ key.transpose(2, 3) * module.temperature
    mixed = scores.softmax(-1) @ (module.value_projection @ value)
    exactly(module(features()), module.project_out(mixed.flatten(1, 2).unflatten(2, (7, 6))))


def test_performer_tends_to_softmax_with_many_features():
    exact = randomise(glmha.ChannelAttention(8, 2).double())
    expected, _ = exact.attention(features())
    errors = []
    for count in (64, 65536):
        module = glmha.PerformerChannelAttention(8, 2, features=count).double()
        module.load_state_dict(exact.state_dict(), strict=True)
        attention, _ = module.attention(features())
        exactly(attention.sum(-1), torch.ones_like(attention.sum(-1)))
        errors.append((attention - expected).abs().max().item())
    assert errors[1] < 0.05
    assert errors[1] < errors[0] / 3


def test_reformer_sees_its_bucket_and_itself():
    exact = randomise(glmha.ChannelAttention(8, 2).double())
    module = glmha.ReformerChannelAttention(8, 2, buckets=2, rounds=1, seed=3).double()
    module.load_state_dict(exact.state_dict(), strict=True)
    attention, _ = module.attention(features())
    query, key, _ = module.convention.tokens(module, features(), None)
    directions = random_directions(42, 1, 3, torch.device("cpu")).double()
    left, right = ((t.transpose(1, 2) @ directions > 0).unflatten(1, (2, 4)) for t in (query, key))
    visible = (left == right.transpose(2, 3)) | torch.eye(4, dtype=torch.bool)
    cosines = functional.similarity(query, key, 2) * module.temperature
    exactly(attention, cosines.masked_fill(~visible, -torch.inf).softmax(-1))
    assert not visible.all()


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


def test_tokens_are_views_of_channels_last_images():
    image = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert to_tokens(image).data_ptr() == image.data_ptr()


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


def test_directions_made_in_inference_mode_can_be_trained_with():
    module = glmha.PerformerChannelAttention(8, 2, features=5)
    x = features(1).float()
    random_directions.cache_clear()
    with torch.inference_mode():
        module(x)
    module(x.requires_grad_()).sum().backward()
    assert x.grad is not None
