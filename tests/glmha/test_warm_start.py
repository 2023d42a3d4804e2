"""Whole hosts converted to low-rank attention."""

from functools import partial

import pytest
import torch
from torch import nn

from glmha import GLMHA, ChannelAttention, LinformerChannelAttention, load_pretrained
from glmha.hosts.mst import MST
from glmha.hosts.mst_plus_plus import MSTPlusPlus
from glmha.hosts.restormer import Restormer
from glmha.warm_start import convert
from tests.glmha.randomised import inputs, randomise, relative


def small_restormer(attention=ChannelAttention):
    return Restormer(dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1, heads=(1, 2, 2, 2), attention=attention)


def small_mst_plus_plus(attention=ChannelAttention):
    return MSTPlusPlus(n_feat=8, out_channels=8, stage=1, attention=attention)


def small_mst(attention=ChannelAttention):
    return MST(dim=8, stage=1, num_blocks=(1, 1), attention=attention)


def host_inputs(seed, host):
    generator = torch.Generator().manual_seed(seed)
    if host is small_mst:
        return torch.rand(1, 8, 16, 16, generator=generator), torch.rand(1, 8, 16, 30, generator=generator)
    return (nn.functional.avg_pool2d(torch.rand(1, 3, 36, 36, generator=generator), 5, 1),)


# A mask multiplies single values, which the fit does not see: random masks and weights leave little of the lead.
@pytest.mark.parametrize(("host", "share"), [(small_restormer, 0.7), (small_mst_plus_plus, 0.7), (small_mst, 1.0)])
def test_converted_host_is_closer_than_a_random_start(host, share):
    torch.manual_seed(0)
    net = randomise(host()).train()
    factory = partial(GLMHA, reduction=0.5)
    converted = convert(net, [host_inputs(0, host), host_inputs(1, host)], attention=factory)
    random = host(factory)
    # Everything but the keys and values, which have another shape.
    shapes = {name: tensor.shape for name, tensor in random.state_dict().items()}
    shared = {name: tensor for name, tensor in net.state_dict().items() if shapes.get(name) == tensor.shape}
    random.load_state_dict(shared, strict=False)
    assert converted.state_dict().keys() == random.state_dict().keys()
    assert all(module.training for module in converted.modules())
    assert not any(isinstance(module, GLMHA) for module in net.modules())
    held_out = host_inputs(2, host)
    with torch.no_grad():
        wanted = net(*held_out)
        assert relative(converted(*held_out), wanted) < share * relative(random(*held_out), wanted)


def test_calibration_starts_neutral_in_every_block():
    net = small_restormer()
    converted = convert(net, [host_inputs(0, small_restormer)], attention=[GLMHA, partial(GLMHA, reduction=0)] * 2)
    calibrations = [module.calibration for module in converted.modules() if isinstance(module, GLMHA)]
    assert len(calibrations) == 8
    assert not any(calibration.mix.weight.any() for calibration in calibrations)
    assert all(calibration.pool.weight.any() for calibration in calibrations)


def test_blocks_may_stay_dense():
    net = small_restormer()

    def bottleneck_only(channels, heads):
        return GLMHA(channels, heads) if channels == 64 else ChannelAttention(channels, heads)

    converted = convert(net, host_inputs(0, small_restormer), attention=bottleneck_only)
    assert [type(module) for module in converted.latent.modules() if isinstance(module, GLMHA)] == [GLMHA]
    assert sum(isinstance(module, GLMHA) for module in converted.modules()) == 1


@pytest.mark.parametrize(
    ("net", "images", "factory", "error", "message"),
    [
        (small_restormer(), [], GLMHA, ValueError, "at least one"),
        (small_restormer(GLMHA), [torch.rand(1, 3, 16, 16)], GLMHA, ValueError, "found none"),
        (small_restormer(), [torch.rand(1, 3, 16, 16)], LinformerChannelAttention, TypeError, "got Linformer"),
    ],
)
def test_convert_says_what_is_wrong(net, images, factory, error, message):
    with pytest.raises(error, match=message):
        convert(net, images, attention=factory)


def test_levels_may_differ_as_in_the_hosts():
    net = randomise(small_restormer()).eval()
    image = inputs([(1, 3, 16, 16)], torch.float32)[0]
    half, quarter = partial(GLMHA, reduction=0.5), partial(GLMHA, reduction=0.75)
    converted = convert(net, [image], attention=[half, quarter, ChannelAttention, half])
    host = small_restormer(attention=[half, quarter, ChannelAttention, half])
    host.load_state_dict(converted.state_dict(), strict=True)
    assert type(converted.encoder_level3[0].attn) is ChannelAttention
    assert converted.decoder_level2[0].attn.reduction == 0.75
    # What is converted loads as any checkpoint of ours does.
    again = load_pretrained(converted.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(again(image), converted(image))


def test_one_tensor_is_no_sequence_of_images():
    with pytest.raises(TypeError, match=r"images must be a sequence of inputs.*\[images\]"):
        convert(small_restormer(), torch.rand(1, 3, 16, 16))
