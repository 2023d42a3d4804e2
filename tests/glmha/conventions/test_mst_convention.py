"""Attention in MST's convention against GLMHA's slow transcription; its routes and masks."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from glmha import functional
from glmha.attention.base import ChannelAttention
from glmha.conventions.mst import MSTConvention
from glmha.low_rank.glmha import GLMHA
from tests.glmha.randomised import exactly, inputs, randomise
from tests.reference import glmha as reference_glmha
from tests.reference import mst as reference


def transcribed_glmha(attention, x, mask=None):
    """GLMHA's transcription in MST's convention, with the weights of a module: (B, C, H, W) → same."""
    names = ["to_q.weight", "to_k.weight", "to_v.weight", "proj.weight", "pos_emb.0.weight", "pos_emb.2.weight"]
    weights = {name.removesuffix(".weight"): attention.get_parameter(name) for name in names}
    weights |= {"rescale": attention.rescale, "proj_bias": attention.proj.bias}
    calibration = attention.calibration or GLMHA(attention.channels, attention.heads).calibration.double()
    weights |= {"calibration_dwconv": calibration.pool.weight, "calibration_linear": calibration.mix.weight}
    mask_attention = None
    if mask is not None:
        mask_attention = transcribed_mask_attention(attention.mm, mask)[:1].permute(0, 2, 3, 1)
    out = reference_glmha.mst_glmha(
        x.permute(0, 2, 3, 1), weights, alpha=attention.alpha, mask_attention=mask_attention
    )
    return out.permute(0, 3, 1, 2)


def transcribed_mask_attention(guidance, mask):
    """All channels' attention by the transcription, then those that the values stand for."""
    channels, kept = mask.shape[1], guidance.conv2.out_channels
    slow = (reference.DispersedMaskAttention if guidance.dispersed else reference.MaskAttention)(channels).double()
    read = [i * channels // kept for i in range(kept)]
    with torch.no_grad():
        slow.conv1.load_state_dict(guidance.conv1.state_dict())
        for layer, full in ((guidance.conv2, slow.conv2), (guidance.depth_conv, slow.depth_conv)):
            full.weight[read], full.bias[read] = layer.weight, layer.bias
    return slow(mask)[:, read]


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("reduction", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(("channels", "heads"), [(7, 1), (12, 2), (20, 4)])
@pytest.mark.parametrize("size", [(9, 12), (3, 3)], ids=["gram", "direct"])
def test_glmha_equals_the_transcription(channels, heads, reduction, alpha, size):
    attention = GLMHA(channels, heads, reduction=reduction, alpha=alpha, convention=MSTConvention())
    attention = randomise(attention.double())
    (x,) = inputs([(2, channels, *size)], torch.float64)
    exactly(attention(x), transcribed_glmha(attention, x))


@pytest.mark.parametrize("dispersed", [True, False])
@pytest.mark.parametrize(("channels", "heads", "reduction"), [(8, 1, 0.5), (12, 2, 0.25), (12, 4, 0.0)])
def test_mask_guided_glmha_equals_the_transcription(channels, heads, reduction, dispersed):
    convention = MSTConvention(mask_guided=True, dispersed=dispersed)
    attention = randomise(GLMHA(channels, heads, reduction=reduction, convention=convention).double())
    # 128 rows: there the last channels move by several pixels.
    x, mask = inputs([(2, channels, 128, 128), (2, channels, 128, 140 if dispersed else 128)], torch.float64)
    with torch.no_grad():
        exactly(attention(x, mask), transcribed_glmha(attention, x, mask))


@pytest.mark.parametrize("attention", [ChannelAttention, partial(GLMHA, reduction=0.25)])
@pytest.mark.parametrize("batch", [1, 2])
def test_gram_route_equals_direct_route(attention, batch, monkeypatch):
    module = randomise(attention(12, 2, convention=MSTConvention()).double())
    (x,) = inputs([(batch, 12, 10, 14)], torch.float64)
    results = []
    for route in ("gram", "direct"):
        monkeypatch.setattr(functional, "similarity_route", lambda *_, route=route, **__: route)
        module.zero_grad()
        image = x.clone().requires_grad_()
        out = module(image)
        out.square().sum().backward()
        results.append([out, image.grad, *(parameter.grad for parameter in module.parameters())])
    for gram, direct in zip(*results, strict=True):
        exactly(gram, direct)


@pytest.mark.parametrize(
    ("attention", "size", "dtype", "expected"),
    [
        (ChannelAttention, (64, 64), torch.float32, "gram_similarity"),
        (ChannelAttention, (2, 2), torch.float32, "similarity"),
        (ChannelAttention, (64, 64), torch.bfloat16, "similarity"),
        (partial(GLMHA, reduction=0.0), (64, 64), torch.float32, "gram_similarity"),
        (partial(GLMHA, reduction=0.9), (64, 64), torch.float32, "similarity"),
    ],
)
def test_the_cheaper_route_is_taken(attention, size, dtype, expected, monkeypatch):
    taken = []
    for name in ("gram_similarity", "similarity"):
        original = getattr(functional, name)
        monkeypatch.setattr(
            functional, name, lambda *args, name=name, original=original: taken.append(name) or original(*args)
        )
    (x,) = inputs([(1, 12, *size)], dtype)
    # Training has the direct route's gradients written by hand, under another name.
    with torch.no_grad():
        attention(12, 1, convention=MSTConvention()).to(dtype)(x)
    assert taken == [expected]


def test_autocast_takes_the_direct_route(monkeypatch):
    monkeypatch.setattr(functional, "gram_similarity", lambda *_: pytest.fail("Gram matrix in half precision"))
    (x,) = inputs([(1, 12, 64, 64)])
    module = ChannelAttention(12, 1, convention=MSTConvention())
    with torch.autocast("cpu", torch.bfloat16):
        low = module(x)
    monkeypatch.undo()
    # bfloat16 keeps eight bits.
    assert_close(low.float(), module(x), rtol=0, atol=0.03)


@pytest.mark.parametrize("mask_guided", [True, False])
def test_attention_is_given_a_mask_exactly_if_it_is_mask_guided(mask_guided):
    attention = ChannelAttention(6, 1, convention=MSTConvention(mask_guided=mask_guided, dispersed=False))
    (x,) = inputs([(1, 6, 8, 8)])
    with pytest.raises(ValueError, match=f"mask must be {'given' if mask_guided else 'None'}"):
        attention(x, None if mask_guided else x)


def test_mask_of_another_size():
    attention = ChannelAttention(6, 1, convention=MSTConvention(mask_guided=True, dispersed=False))
    with pytest.raises(ValueError, match=r"mask \(height 8, width 9\) must give attention of the size of x, \(8, 8\)"):
        attention(*inputs([(1, 6, 8, 8), (1, 6, 8, 9)]))


def test_a_large_mean_that_weights_cancel_costs_the_gram_route_nothing():
    torch.manual_seed(0)
    module = ChannelAttention(31, 1, convention=MSTConvention())
    with torch.no_grad():
        for linear in (module.to_q, module.to_k):
            linear.weight -= linear.weight.mean(1, keepdim=True)
        module.rescale.fill_(10)
    x = 1 + 0.02 * torch.randn(1, 31, 64, 64)
    single = module.attention(x)[0]
    exact = module.double().attention(x.double())[0]
    assert (single - exact).abs().max() < 1e-4
