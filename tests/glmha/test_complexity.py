"""Counts against the published figures, and Eq. (8) against counted parameters."""

import functools

import pytest
import torch
from torch import nn

import glmha
from glmha.complexity import count, parameter_reduction
from tests.reference.restormer import Restormer as Transcription

SHAPE = (1, 3, 256, 256)


def on_meta(build) -> nn.Module:
    with torch.device("meta"):
        return build()


# fvcore on the official code: every product without LayerNorm, and convolutions and linear maps alone.
OFFICIAL = {
    "Restormer": (glmha.Restormer, [SHAPE], 26_126_644, 154_882_031_616, 140_990_496_768),
    "MST++": (glmha.MSTPlusPlus, [SHAPE], 1_619_625, 22_191_341_568, 20_963_229_696),
    "MST-L": (
        functools.partial(glmha.MST, 28, 2, (4, 7, 5)),
        [(1, 28, 256, 256), (1, 28, 256, 310)],
        2_018_156,
        27_335_562_240,
        25_665_704_960,
    ),
}


@pytest.mark.parametrize("host", OFFICIAL)
def test_the_published_structure_is_counted_as_on_the_official_code(host):
    build, shapes, parameters, products, layers = OFFICIAL[host]
    cost = count(on_meta(build), *shapes)
    assert (cost.parameters, cost.published_macs, cost.layer_macs) == (parameters, products, layers)
    assert cost.macs < cost.published_macs


def test_a_literal_network_computes_the_published_structure():
    cost = count(on_meta(Transcription), SHAPE)
    assert cost.macs == cost.published_macs == 154_882_031_616
    assert cost.layer_macs == 140_990_496_768


@pytest.mark.parametrize(
    "attention",
    [
        glmha.ChannelAttention,
        glmha.GLMHA,
        functools.partial(glmha.LinformerChannelAttention, reduction=0.5),
        glmha.PerformerChannelAttention,
        glmha.ReformerChannelAttention,
    ],
)
def test_an_attention_names_the_products_of_its_published_form(attention):
    with torch.device("meta"):
        site = attention(24, 3)
    cost = count(site, (2, 24, 10, 12))
    # What runs here differs from it by the absorbed output projection alone.
    pixels, rank = 2 * 10 * 12, site.key_channels // 3
    sequential = 24 * rank * pixels + 24 * 24 * pixels
    absorbed = 2 * 24 * 24 * rank + 24 * site.key_channels * pixels
    assert cost.published_macs - cost.macs == sequential - absorbed


def test_glmha_saves_more_than_the_paper_reports():
    dense = count(on_meta(glmha.Restormer), SHAPE)
    low_rank = count(on_meta(functools.partial(glmha.Restormer, attention=glmha.GLMHA)), SHAPE)
    assert dense.macs < 148.4e9
    assert low_rank.macs < 129e9
    assert low_rank.parameters < 24.5e6


@pytest.mark.parametrize(("channels", "heads"), [(48, 1), (96, 2), (384, 8)])
@pytest.mark.parametrize("reduction", [0.25, 0.5, 0.75])
def test_equation_8_is_what_the_module_has(channels, heads, reduction):
    module = glmha.GLMHA(channels, heads, reduction=reduction)
    own = module.qkv.weight.numel() + sum(parameter.numel() for parameter in module.calibration.parameters())
    ratio = channels / module.key_channels
    assert 1 - own / (3 * channels**2) == pytest.approx(parameter_reduction(channels, heads, ratio), abs=1e-12)


def test_parameter_reduction_refuses_what_it_cannot_mean():
    with pytest.raises(ValueError, match=r"heads \(5\) must divide"):
        parameter_reduction(48, 5, 2)
    with pytest.raises(ValueError, match=r"ratio \(0.5\) must be at least 1"):
        parameter_reduction(48, 1, 0.5)
