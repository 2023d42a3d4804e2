"""MST's hosts and their attention against recorded outputs of the official code and the slow transcriptions."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from glmha import (
    GLMHA,
    ChannelAttention,
    LinformerChannelAttention,
    PerformerChannelAttention,
    ReformerChannelAttention,
)
from glmha.conventions.mst import MSTConvention
from glmha.cpu import row_bands as streaming
from glmha.hosts.mst import MST, RGBMST, RealMST
from glmha.hosts.spectral_unet import SpectralBlock
from glmha.layers import FeedForward, MaskGuidance
from tests import goldens
from tests.glmha.randomised import exactly, inputs, randomise
from tests.reference import mst as reference

ATTENTIONS = [
    ChannelAttention,
    GLMHA,
    LinformerChannelAttention,
    PerformerChannelAttention,
    ReformerChannelAttention,
]
RELEASED = {
    "mst_s": MST,
    "mst_m": MST,
    "mst_l": MST,
    "mst_s_real": RealMST,
    "mst_m_real": RealMST,
    "mst_l_real": RealMST,
    "mst_l_rgb2hsi": RGBMST,
}
# Small hosts of every kind, with inputs that suit them.
HOSTS = {
    "MST": (partial(MST, dim=6, stage=1, num_blocks=(1, 1)), [(2, 6, 16, 16), (1, 6, 16, 26)]),
    "RealMST": (partial(RealMST, dim=6, stage=1, num_blocks=(1, 1)), [(2, 8, 22)]),
    "RGBMST": (partial(RGBMST, dim=6, stage=1, num_blocks=(1, 1)), [(2, 3, 13, 18)]),
}


def channels_last_interface(attention):
    """Let an attention take and give (B, H, W, C), as upstream's."""
    attention.register_forward_pre_hook(lambda _, maps: tuple(map_.permute(0, 3, 1, 2) for map_ in maps))
    attention.register_forward_hook(lambda _, maps, out: out.permute(0, 2, 3, 1))
    return attention


GOLDENS = {
    "mst_mask_guided": lambda config: MaskGuidance(config["n_feat"], config["n_feat"], dispersed=True),
    "mst_msmsa_mask": lambda config: channels_last_interface(
        ChannelAttention(config["dim"], config["heads"], convention=MSTConvention(mask_guided=True))
    ),
    "mstpp_msmsa": lambda config: channels_last_interface(
        ChannelAttention(config["dim"], config["heads"], convention=MSTConvention())
    ),
    "mst_small": lambda config: MST(**config),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_outputs_and_gradients_are_the_official_ones(name):
    golden = goldens.load(name)
    net = GOLDENS[name](golden.config)
    net.load_state_dict(golden.weights)
    for maps, (expected,) in golden.cases.values():
        assert_close(net(*maps), expected)
        with torch.no_grad():
            assert_close(net(*maps), expected)
    goldens.assert_gradients_close(net, golden)


def test_mst_at_the_trained_size():
    golden = goldens.load("mst_small_256")
    net = MST(**golden.config)
    net.load_state_dict(golden.weights)
    c, i, j = torch.meshgrid(torch.arange(28), torch.arange(256), torch.arange(256), indexing="ij")
    x = (((73 * c + 151 * i + 199 * j + 31 * ((i * j) % 97)) % 256) + 0.5)[None] / 256
    (mask,) = golden.cases["mask2d"][0]
    dispersed = torch.zeros(1, 28, 256, 310)
    for band in range(28):
        dispersed[0, band, :, 2 * band : 2 * band + 256] = mask
    with torch.no_grad():
        out = net(x, dispersed)
        out_all_ones = net(x, torch.ones_like(dispersed))
        assert_close(net(x), net(x, torch.zeros_like(dispersed)), msg="a missing mask must be upstream's zeros")
    assert_close(out[:, :, ::8, ::8], golden.cases["sub8"][1][0])
    assert_close(out[:, ::9, :, -4:], golden.cases["edge"][1][0])
    assert_close(out_all_ones[:, :, ::16, ::16], golden.cases["allones_mask.sub16"][1][0])


@pytest.mark.parametrize("model", RELEASED)
def test_released_keys(model):
    released = goldens.load_keys(model)
    with torch.device("meta"):
        net = RELEASED[model](**released["config"])
    assert {key: list(tensor.shape) for key, tensor in net.state_dict().items()} == released["keys"]


@pytest.mark.parametrize(
    ("host", "transcription", "shapes"),
    [
        (RealMST, reference.RealMST, [(2, 16, 70)]),
        (RealMST, reference.RealMST, [(1, 24, 74)]),
        (partial(RGBMST, dim=31), partial(reference.RGBMST, dim=31), [(2, 3, 13, 18)]),
        (partial(RGBMST, dim=31), partial(reference.RGBMST, dim=31), [(1, 3, 24, 16)]),
        (MST, reference.MST, [(2, 28, 128, 128), (2, 28, 128, 182)]),
    ],
)
def test_hosts_equal_the_transcriptions(host, transcription, shapes):
    slow = randomise(transcription(stage=1, num_blocks=(1, 2)).double())
    net = host(stage=1, num_blocks=(1, 2)).double()
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


def test_feed_forward_in_bands_equals_the_whole(monkeypatch):
    monkeypatch.setattr(streaming, "BAND_BYTES", 4096)
    net = FeedForward(5)
    (x,) = inputs([(2, 5, 23, 11)])
    whole = net(x)
    with torch.no_grad():
        assert_close(net(x), whole)


def test_the_first_mask_guides_the_batch():
    net = randomise(MST(dim=6, stage=1, num_blocks=(1, 1)))
    x, masks = inputs([(2, 6, 16, 16), (2, 6, 16, 26)])
    with torch.no_grad():
        assert_close(net(x, masks), net(x, masks[:1]))
        assert not torch.equal(net(x, masks), net(x, masks.flip(0)))


def test_one_factory_per_level():
    asked = []

    def level(index):
        return lambda channels, heads: asked.append((index, channels, heads)) or ATTENTIONS[index](channels, heads)

    net = RealMST(dim=6, stage=2, num_blocks=(1, 2, 1), attention=[level(index) for index in range(3)])
    assert sorted(asked) == [(0, 6, 1)] * 2 + [(1, 12, 2)] * 4 + [(2, 24, 4)]
    names = {name: type(module[0]) for name, module in net.named_modules() if isinstance(module, SpectralBlock)}
    assert names == {
        "encoder_layers.0.0.blocks.0": ATTENTIONS[0],
        "encoder_layers.1.0.blocks.0": ATTENTIONS[1],
        "encoder_layers.1.0.blocks.1": ATTENTIONS[1],
        "bottleneck.blocks.0": ATTENTIONS[2],
        "decoder_layers.0.2.blocks.0": ATTENTIONS[1],
        "decoder_layers.0.2.blocks.1": ATTENTIONS[1],
        "decoder_layers.1.2.blocks.0": ATTENTIONS[0],
    }


def test_options_survive_the_host():
    net = MST(dim=6, stage=1, num_blocks=(1, 1), attention=partial(GLMHA, reduction=0.75, alpha=0.3, kernel_size=2))
    attention = net.bottleneck.blocks[0][0]
    assert attention.options == {"reduction": 0.75, "alpha": 0.3, "kernel_size": 2}
    assert attention.convention == MSTConvention(mask_guided=True)


def test_foreign_attention_modules_are_taken_as_they_come():
    net = RealMST(dim=6, stage=1, num_blocks=(1, 1), attention=lambda channels, heads: nn.Conv2d(channels, channels, 1))
    assert net(*inputs([(1, 8, 18)])).shape == (1, 6, 8, 8)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_size_multiple_halves_as_often_as_the_net(stage):
    net = RealMST(dim=2, stage=stage, num_blocks=(1,) * (stage + 1))
    assert net.size_multiple == 2**stage
    assert net(*inputs([(1, 2**stage, 2**stage + 2)])).shape == (1, 2, 2**stage, 2**stage)


@pytest.mark.parametrize(
    ("host", "options", "message"),
    [
        (MST, {"num_blocks": (2, 2)}, r"num_blocks \(\[2, 2\]\) must have stage \+ 1 = 3 entries"),
        (MST, {"dim": 0}, r"dim \(0\) must be at least 1"),
        (RealMST, {"stage": 0, "num_blocks": (2,)}, r"stage \(0\) must be at least 1"),
        (RGBMST, {"stage": 4, "num_blocks": (1,) * 5}, r"stage \(4\) must be at most 3"),
        (RGBMST, {"attention": [GLMHA, GLMHA]}, "attention must be one factory or 3"),
    ],
)
def test_options_that_make_no_net(host, options, message):
    with pytest.raises(ValueError, match=message):
        host(**options)


@pytest.mark.parametrize(
    ("host", "shapes", "message"),
    [
        ("MST", [(1, 6, 15, 15)], "x height and width must be multiples of 2, got 15×15"),
        ("MST", [(1, 6, 16, 18)], "x must be square, got 16×18"),
        ("MST", [(1, 6, 16, 16), (1, 5, 16, 26)], r"mask must have shape \(B or 1, 6, 16, 26\), got \(1, 5, 16, 26\)"),
        ("MST", [(1, 6, 16, 16), (1, 6, 18, 26)], r"mask must have shape \(B or 1, 6, 16, 26\), got \(1, 6, 18, 26\)"),
        ("MST", [(1, 6, 16, 16), (1, 6, 16, 12)], r"width \(12\) of the mask features must be at least 16"),
        ("MST", [(1, 6, 258, 258)], r"height \(258\) of the mask features must be 1 to 256"),
        ("RealMST", [(1, 8, 10)], r"measurement width \(10\) must exceed the dispersion of 10 pixels"),
        ("RealMST", [(1, 8, 17)], r"measurement \(less 10 columns of dispersion\) height and width must be multiples"),
        ("RGBMST", [(1, 3, 16, 4)], "image height and width must be at least 5, got 16×4"),
    ],
)
def test_inputs_that_do_not_fit(host, shapes, message):
    with pytest.raises(ValueError, match=message):
        HOSTS[host][0]()(*inputs(shapes))
