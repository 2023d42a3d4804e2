"""MST++ against recorded outputs of the official code and the slow transcriptions."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from glmha import (
    GLMHA,
    ChannelAttention,
    LinformerChannelAttention,
)
from glmha.conventions.mst import MSTConvention
from glmha.hosts.mst_plus_plus import CassiMSTPlusPlus, MSTPlusPlus
from tests import goldens
from tests.glmha.randomised import exactly, inputs, randomise
from tests.reference import mst_plus_plus as reference

HOSTS = {
    "MSTPlusPlus": (partial(MSTPlusPlus, out_channels=6, n_feat=6, stage=1), [(2, 3, 13, 18)]),
    "CassiMSTPlusPlus": (
        partial(CassiMSTPlusPlus, in_channels=5, out_channels=6, n_feat=6, stage=1),
        [(2, 5, 13, 18), (2, 5, 13, 18)],
    ),
}


def test_outputs_and_gradients_are_the_official_ones():
    golden = goldens.load("mstpp_small")
    net = MSTPlusPlus(**golden.config)
    net.load_state_dict(golden.weights)
    for maps, (expected,) in golden.cases.values():
        assert_close(net(*maps), expected)
        with torch.no_grad():
            assert_close(net(*maps), expected)
    goldens.assert_gradients_close(net, golden)


@pytest.mark.parametrize(("model", "host"), [("mst_plus_plus", MSTPlusPlus), ("mst_plus_plus_cassi", CassiMSTPlusPlus)])
def test_released_keys(model, host):
    released = goldens.load_keys(model)
    with torch.device("meta"):
        net = host(**released["config"])
    assert {key: list(tensor.shape) for key, tensor in net.state_dict().items()} == released["keys"]


@pytest.mark.parametrize(
    ("host", "transcription", "shapes"),
    [
        (MSTPlusPlus, reference.MSTPlusPlus, [(2, 3, 9, 21)]),
        (MSTPlusPlus, reference.MSTPlusPlus, [(1, 3, 5, 40)]),
        (CassiMSTPlusPlus, reference.CassiMSTPlusPlus, [(2, 28, 13, 18)] * 2),
        (CassiMSTPlusPlus, reference.CassiMSTPlusPlus, [(1, 28, 16, 32)] * 2),
    ],
)
def test_hosts_equal_the_transcriptions(host, transcription, shapes):
    slow = randomise(transcription(stage=2).double())
    net = host(stage=2).double()
    net.load_state_dict(slow.state_dict())
    maps = inputs(shapes, torch.float64)
    with torch.no_grad():
        exactly(net(*maps), slow(*maps))


@pytest.mark.parametrize(("host", "shapes"), HOSTS.values(), ids=HOSTS)
def test_glmha_without_reduction_and_calibration_is_the_exact_attention(host, shapes):
    dense = randomise(host().double())
    low_rank = host(attention=partial(GLMHA, reduction=0.0, alpha=0.0)).double()
    low_rank.load_state_dict(dense.state_dict())
    maps = inputs(shapes, torch.float64)
    exactly(low_rank(*maps), dense(*maps))


def test_a_black_image_has_finite_gradients():
    net = MSTPlusPlus(stage=1)
    net(torch.zeros(1, 3, 32, 32)).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters() if parameter.grad is not None)


def test_runs_without_data_for_counting():
    with torch.device("meta"):
        net = MSTPlusPlus(stage=1, attention=GLMHA)
        assert net(torch.empty(1, 3, 64, 64)).shape == (1, 31, 64, 64)


def test_one_factory_per_level_in_every_stage():
    net = MSTPlusPlus(stage=2, attention=[GLMHA, ChannelAttention, LinformerChannelAttention])
    for stage in net.body:
        blocks = [
            stage.encoder_layers[0][0],
            stage.encoder_layers[1][0],
            stage.bottleneck,
            stage.decoder_layers[0][2],
            stage.decoder_layers[1][2],
        ]
        attentions = [block.blocks[0][0] for block in blocks]
        assert [type(attention) for attention in attentions] == [
            GLMHA,
            ChannelAttention,
            LinformerChannelAttention,
            ChannelAttention,
            GLMHA,
        ]
        assert [(attention.channels, attention.heads) for attention in attentions[:3]] == [(31, 1), (62, 2), (124, 4)]


def test_linear_maps_start_as_upstreams():
    torch.manual_seed(0)
    attention = MSTPlusPlus(stage=1).body[0].bottleneck.blocks[0][0]
    for linear in (attention.to_q, attention.to_k, attention.to_v, attention.proj):
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert attention.proj.bias.abs().max() == 0
    assert attention.convention == MSTConvention(linear_std=0.02)


def test_size_multiple_is_what_images_are_padded_to():
    assert MSTPlusPlus.size_multiple == CassiMSTPlusPlus.size_multiple == 8


@pytest.mark.parametrize("host", [MSTPlusPlus, CassiMSTPlusPlus])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_channels": 30}, r"out_channels \(30\) must equal n_feat"),
        ({"out_channels": 0, "n_feat": 0}, r"n_feat \(0\) must be at least 1"),
        ({"stage": 0}, r"stage \(0\) must be at least 1"),
        ({"attention": [GLMHA] * 4}, "attention must be one factory or 3"),
    ],
)
def test_options_that_make_no_net(host, options, message):
    with pytest.raises(ValueError, match=message):
        host(**options)


@pytest.mark.parametrize(
    ("host", "shapes", "message"),
    [
        ("MSTPlusPlus", [(1, 3, 4, 16)], "image height and width must be at least 5, got 4×16"),
        ("CassiMSTPlusPlus", [(1, 5, 3, 3)] * 2, "image height and width must be at least 5, got 3×3"),
        ("CassiMSTPlusPlus", [(1, 5, 8, 8), (1, 5, 8, 9)], r"mask must have the shape of the measurement"),
    ],
)
def test_inputs_that_do_not_fit(host, shapes, message):
    with pytest.raises(ValueError, match=message):
        HOSTS[host][0]()(*inputs(shapes))
