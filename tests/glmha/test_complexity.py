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


def test_the_published_structure_has_the_published_figures():
    cost = count(on_meta(Transcription), SHAPE)
    assert cost.parameters == 26_126_644
    assert cost.macs == 154_882_031_616  # fvcore on the official code
    assert cost.convolution_macs == 140_990_496_768  # the paper's 140.99 G


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
