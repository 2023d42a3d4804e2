"""Parts of RVRT against the official outputs and gradients: flow, deformable attention, windows over frames."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from nystra.hosts.rvrt.alignment import GuidedAlignment
from nystra.hosts.rvrt.blocks import ClipAttention, ConvolvedGroups
from nystra.hosts.rvrt.deformable import deformable_attention
from nystra.hosts.rvrt.spynet import SpyNet, warp
from tests import goldens
from tests.reference import rvrt as reference


def tokens_last(features: Tensor) -> Tensor:
    return features.permute(0, 1, 3, 4, 2).contiguous()


def channels_third(features: Tensor) -> Tensor:
    return features.permute(0, 1, 4, 2, 3)


def assert_gradients(parameters: dict, golden: goldens.Golden) -> None:
    for key, expected in golden.grads.items():
        if key != "in":
            unit = expected.abs().max().clamp(min=1)
            assert_close(parameters[key].grad / unit, expected / unit)


def official_spynet() -> dict[str, Tensor]:
    """The weights of the golden flow: those of a level are the first's, rolled."""
    stored, _ = goldens.load_tensors("rvrt_spynet")
    first = {key.removeprefix("w8.basic_module.0."): value / 64 for key, value in stored.items() if "w8." in key}
    levels = {
        f"basic_module.{level}.{key}": value.flatten().roll(17 * level).view(value.shape)
        for level in range(6)
        for key, value in first.items()
    }
    return {**SpyNet().state_dict(), **levels}


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_warping_is_the_official_one(padding):
    golden, _ = goldens.load_tensors("rvrt_flow_warp")
    assert_close(warp(golden["x"], golden["flow"].permute(0, 3, 1, 2), padding), golden[f"out.bilinear.{padding}"])


@pytest.mark.parametrize("odd", ["", "_odd"])
def test_flow_is_the_official_one_however_pictures_are_cut_up(odd, monkeypatch):
    golden, _ = goldens.load_tensors("rvrt_spynet")
    net = SpyNet()
    net.load_state_dict(official_spynet(), strict=True)
    pictures = [golden[f"in.{name}{odd}"] for name in ("ref", "supp")]
    with torch.inference_mode():
        flow = net(*pictures)
        assert_close(flow, golden[f"out.flow{odd}"], rtol=1e-5, atol=1e-5)
        monkeypatch.setattr("nystra.hosts.rvrt.spynet.MOST_PIXELS", 1)
        assert_close(net(*(torch.cat([each, each.flip(3)]) for each in pictures))[:1], flow, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("case", "heads"), [("g6", 6), ("g12_far", 12)])
@pytest.mark.parametrize("most", [1, 2**22])
def test_the_deformable_operator_is_the_official_one_with_exact_gradients(case, heads, most, monkeypatch):
    monkeypatch.setattr("nystra.hosts.rvrt.deformable.MOST_SAMPLES", most)
    golden, _ = goldens.load_tensors("rvrt_deform_attn_op")
    query, both, offset = (golden[f"{case}.{name}"].requires_grad_() for name in ("q", "kv", "offset"))
    _, _, channels, height, width = query.shape
    result = deformable_attention(
        query.view(-1, 2, channels, height, width),
        *both.split(channels, 2),
        offset.view(-1, 2, 2, heads, 9, 2, height, width),
        heads,
    )
    assert_close(result.view_as(query), golden[f"{case}.out"])
    result.view_as(query).backward(golden[f"{case}.cotangent"])
    assert_close(query.grad, golden[f"{case}.grad_q"])
    assert_close(both.grad, golden[f"{case}.grad_kv"])
    # Between two pixels the slope is one; at a pixel it is either neighbour's.
    between = offset.detach() != offset.detach().round()
    assert_close(offset.grad[between], golden[f"{case}.grad_offset"][between])
    if case == "g12_far":
        official = golden["g12_far.official_backward_grad_kv"]
        scale = (channels // heads) ** -0.5
        keys, values = (both.grad - official).split(channels, 2)
        assert_close(official[:, :, :channels], scale * both.grad[:, :, :channels])
        assert keys.abs().max() > 0.01
        assert_close(values, torch.zeros_like(values))


def test_the_operator_is_its_transcription_and_has_its_gradients():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(3, 2, 2, 8, 4, 3, generator=generator, dtype=torch.float64).requires_grad_().unbind()
    )
    offsets = (2 * torch.randn(2, 2, 2, 4, 9, 2, 4, 3, generator=generator, dtype=torch.float64)).requires_grad_()
    result = deformable_attention(query, key, value, offsets, 2)
    whole = reference.deform_attn(
        query.flatten(0, 1).unsqueeze(1), torch.cat([key, value], 2), offsets.flatten(0, 1).flatten(1, 4), 2, 4, 2
    )
    assert_close(result.flatten(0, 1), whole.squeeze(1), rtol=1e-10, atol=1e-10)
    weights = torch.randn(result.shape, generator=generator, dtype=torch.float64)
    gradients = [
        torch.autograd.grad((each.reshape(result.shape) * weights).sum(), (query, key, value, offsets))
        for each in (result, whole)
    ]
    for actual, expected in zip(*gradients, strict=True):
        assert_close(actual, expected, rtol=1e-9, atol=1e-10)


def test_guided_alignment_is_the_official_one():
    golden = goldens.load("rvrt_guided_deform_attn")
    net = GuidedAlignment(24, (3, 3), 6, 6, 2)
    net.load_state_dict(golden.weights, strict=True)
    ((features, outputs),) = golden.cases.values()
    query, key, value, *warped = map(tokens_last, features[:5])
    query.requires_grad_()
    result, flows = net(query, key, value, warped, list(features[5:]))
    assert_close(channels_third(result), outputs[0])
    assert_close(flows, list(outputs[1:]), rtol=1e-5, atol=1e-5)
    (channels_third(result) * golden.cotangent).sum().backward()
    assert_close(channels_third(query.grad), golden.grads["in"])
    assert_gradients(dict(net.named_parameters()), golden)


def test_residual_groups_are_the_official_ones():
    golden = goldens.load("rvrt_rstb_with_input_conv")
    config = golden.config
    sizes = [config[name] for name in ("in_channels", "dim", "groups", "num_blocks", "depth", "num_heads")]
    net = ConvolvedGroups(*sizes, tuple(config["window_size"]))
    net.load_state_dict({**golden.weights, **golden.buffers}, strict=True)
    # Films whose frames, rows and columns no window divides: they are extended by zeros.
    for (features,), (output,) in golden.cases.values():
        with torch.inference_mode():
            assert_close(channels_third(net(tokens_last(features))), output, rtol=1e-5, atol=1e-5)
    features = tokens_last(golden.cases[golden.grad_case][0][0]).requires_grad_()
    (channels_third(net(features)) * golden.cotangent).sum().backward()
    assert_close(channels_third(features.grad) / 10, golden.grads["in"] / 10)
    assert_gradients(dict(net.named_parameters()), golden)


@pytest.mark.parametrize("window", [(1, 4, 4), (2, 2, 4), (2, 4, 2)])
def test_window_attention_is_the_official_one(window):
    golden = goldens.load("rvrt_window_attention")
    net = goldens.OnWindows(ClipAttention(24, (2, 4, 4), 3))
    net.load_state_dict({**golden.weights, **golden.buffers}, strict=True)
    fresh = ClipAttention(24, (2, 4, 4), 3).relative_position_index
    assert torch.equal(fresh, golden.buffers["relative_position_index"])
    (windows,), (output,) = golden.cases["nomask"]
    assert_close(net(windows), output)
    goldens.assert_gradients_close(net, golden)
    (windows, _), (output,) = golden.cases["mask"]
    # The mask of the second window is that of a film of two frames that was rolled by one.
    assert_close(net(windows[1::2], (1, 0, 0)), output[1::2])
    (windows,), (output,) = golden.cases["short_window_N16"]
    assert_close(net(windows, window=window), output)


def test_offsets_that_do_not_fit_are_refused():
    query = torch.zeros(1, 2, 8, 4, 4)
    with pytest.raises(ValueError, match=r"offsets \(1, 2, 2, 3, 9, 2, 4, 4\) must be"):
        deformable_attention(query, query, query, torch.zeros(1, 2, 2, 3, 9, 2, 4, 4), 2)
    assert math.prod(deformable_attention(query, query, query, torch.zeros(1, 2, 2, 4, 9, 2, 4, 4), 2).shape) == 256
