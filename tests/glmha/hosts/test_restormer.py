"""Restormer against the official outputs and gradients, and its own errors."""

import functools

import pytest
import torch

import glmha
from glmha.conventions.restormer import RestormerConvention
from glmha.cpu import row_bands as streaming
from glmha.hosts.restormer import expansion
from glmha.layers import GatedFeedForward, LayerNorm
from tests import goldens
from tests.glmha.randomised import exactly, inputs, randomise
from tests.reference.restormer import Restormer as Transcription

NETS = ["restormer_small_biasfree", "restormer_small_withbias", "restormer_small_gray", "restormer_small_dualpixel"]
SMALL = {"dim": 8, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1}


def modules(name: str) -> torch.nn.Module:
    golden = goldens.load(name)
    channels = golden.config["dim"]
    if name == "restormer_mdta":
        convention = RestormerConvention(bias=golden.config["bias"])
        return glmha.ChannelAttention(channels, golden.config["num_heads"], convention=convention)
    if name == "restormer_gdfn":
        return GatedFeedForward(channels, golden.config["ffn_expansion_factor"], bias=golden.config["bias"])
    return LayerNorm(channels, bias=name.endswith("withbias"))


@pytest.mark.parametrize("name", [*NETS, "restormer_mdta", "restormer_gdfn"])
def test_outputs_and_gradients_are_the_official_ones(name):
    golden = goldens.load(name)
    net = glmha.Restormer(**golden.config) if name in NETS else modules(name)
    net.load_state_dict(golden.weights, strict=True)
    for case, (arguments, outputs) in golden.cases.items():
        # The official float32 result itself is off by this much; ours sums in another order.
        noise = 8 * golden.json["cases"][case]["max_abs_err_fp32_vs_fp64"][0]
        with torch.inference_mode():
            torch.testing.assert_close(net(*arguments), outputs[0], atol=max(noise, 1e-5), rtol=1.3e-6)
        torch.testing.assert_close(net(*arguments), outputs[0], atol=max(noise, 1e-5), rtol=1.3e-6)
    goldens.assert_gradients_close(net, golden)


@pytest.mark.parametrize("name", ["restormer_layernorm_biasfree", "restormer_layernorm_withbias"])
def test_norms_are_the_official_ones(name):
    golden = goldens.load(name)
    net = modules(name)
    net.load_state_dict(golden.weights, strict=True)
    for arguments, outputs in golden.cases.values():
        torch.testing.assert_close(net(*arguments), outputs[0])
    goldens.assert_gradients_close(net, golden)


@pytest.mark.parametrize("model", sorted(p.name.split(".")[0] for p in goldens.DIRECTORY.glob("keys/restormer_*")))
def test_released_configurations_have_exactly_their_keys(model):
    description = goldens.load_keys(model)
    with torch.device("meta"):
        net = glmha.Restormer(**description["config"])
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == description["keys"]


def test_bands_change_nothing(monkeypatch):
    monkeypatch.setattr(streaming, "BAND_BYTES", 4096)
    for attention in (glmha.ChannelAttention, glmha.GLMHA):
        net = randomise(glmha.Restormer(**SMALL, attention=attention, bias=True).double())
        (image,) = inputs([(2, 3, 40, 24)], torch.float64)
        with torch.inference_mode():
            streamed = net(image)
        exactly(streamed, net(image).detach())


def test_glmha_without_reduction_and_calibration_is_the_published_net():
    net = glmha.Restormer(**SMALL, attention=functools.partial(glmha.GLMHA, reduction=0, alpha=0))
    published = randomise(Transcription(**SMALL).double())
    net.double().load_state_dict(published.state_dict())
    (image,) = inputs([(1, 3, 16, 24)], torch.float64)
    exactly(net(image), published(image))


def test_levels_take_their_own_attention():
    factories = [glmha.GLMHA, glmha.ChannelAttention, glmha.GLMHA, glmha.ChannelAttention]
    net = glmha.Restormer(**SMALL, attention=factories)
    kinds = [net.encoder_level1, net.encoder_level2, net.encoder_level3, net.latent, net.decoder_level1, net.refinement]
    assert [isinstance(level[0].attn, glmha.GLMHA) for level in kinds] == [True, False, True, False, True, True]


def test_any_factory_of_channels_and_heads_is_taken():
    net = glmha.Restormer(**SMALL, attention=lambda channels, heads: torch.nn.Conv2d(channels, channels, 1))
    assert net(torch.rand(1, 3, 8, 8)).shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_blocks": (1, 1)}, "num_blocks"),
        ({"heads": (1, 2, 4)}, "heads"),
        ({"heads": (3, 2, 4, 8)}, r"heads \(3\) must divide channels \(8\)"),
        ({"LayerNorm_type": "None"}, "LayerNorm_type"),
        ({"out_channels": 1}, "out_channels"),
        ({"attention": [glmha.GLMHA]}, "attention must be one factory or 4"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        glmha.Restormer(**(SMALL | arguments))


def test_sizes_that_cannot_be_halved_thrice_are_named():
    with pytest.raises(ValueError, match="multiples of 8, got 12×16"):
        glmha.Restormer(**SMALL)(torch.rand(1, 3, 12, 16))


def test_expansion_finds_a_factor_for_every_level():
    for factor in (2.66, 2, 4, 1.7):
        channels = [8, 16, 32, 64]
        hidden = [int(c * factor) for c in channels]
        assert [int(c * expansion(channels, hidden)) for c in channels] == hidden
