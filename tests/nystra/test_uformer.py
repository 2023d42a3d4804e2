"""Uformer against the official implementation's outputs, gradients and key lists."""

import pytest
import torch
from torch.testing import assert_close

import nystra
from nystra.hosts.uformer import LocallyEnhanced, Uformer, UformerAttention, infer_arguments
from nystra.substitute import find_sites
from tests import goldens

SMALL = ["uformer_small_shift", "uformer_small_noshift", "uformer_small_nomod_ffn"]
VARIANTS = ["T", "S", "S_noshift", "B", "B_nomodulator", "B_dd4"]
TINY = {"embed_dim": 4, "depths": (1, 2, 1, 1, 1, 1, 1, 2, 1), "num_heads": (1, 2, 2, 2, 4, 4, 2, 2, 1)}


def tiny(**options) -> Uformer:
    torch.manual_seed(0)
    return Uformer(**TINY, **{"win_size": 2, "modulator": True, **options}).eval()


@pytest.mark.parametrize("name", SMALL)
def test_outputs_and_gradients_are_the_official_ones(name):
    golden = goldens.load(name)
    net = nystra.load_pretrained(golden.weights, shift_flag=golden.config.get("shift_flag", True))
    for inputs, outputs in golden.cases.values():
        with torch.inference_mode():
            assert_close(net(*inputs), outputs[0], atol=2e-5, rtol=1e-4)  # float32 noise of several layers
    if golden.cotangent is not None:
        goldens.assert_gradients_close(net, golden)


def test_the_window_attention_is_the_official_one():
    golden = goldens.load("uformer_window_attention")
    module = UformerAttention(24, (8, 8), 3).eval()
    assert torch.equal(module.relative_position_index, golden.buffers["relative_position_index"])
    module.load_state_dict(golden.weights, strict=False)
    (windows,), (expected,) = golden.cases["self"]
    assert_close(module(windows), expected)
    goldens.assert_gradients_close(module, golden)


def test_the_feed_forward_is_the_official_one():
    golden = goldens.load("uformer_leff")
    module = LocallyEnhanced(12, 48)
    module.load_state_dict(golden.weights)
    (tokens,), (expected,) = golden.cases["s16x16"]
    assert_close(module(tokens.unflatten(1, (16, 16))).flatten(1, 2), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_released_models_have_these_keys_and_shapes(variant):
    description = goldens.load_keys(f"uformer_{variant}")
    weights = {key: torch.empty(shape, device="meta") for key, shape in description["keys"].items()}
    arguments = infer_arguments(weights)
    config = description["config"]
    assert all(arguments[name] == value for name, value in config.items() if name in arguments)
    with torch.device("meta"):
        net = Uformer(**arguments)
    assert {key: list(tensor.shape) for key, tensor in net.state_dict().items()} == description["keys"]
    assert sum(parameter.numel() for parameter in net.parameters()) == description["params_total"]


def test_sizes_need_not_be_square_and_others_are_named():
    net = tiny()
    assert net.size_multiple == 32
    image = torch.rand(2, 3, 32, 96)
    with torch.inference_mode():
        assert net(image).shape == image.shape
    with pytest.raises(ValueError, match=r"image \(32×40\) must have sides that are multiples of 32"):
        net(torch.rand(1, 3, 32, 40))


def test_an_image_equals_itself_among_others():
    net = tiny()
    image = torch.rand(3, 3, 64, 32)
    with torch.inference_mode():
        assert_close(net(image)[1:2], net(image[1:2]))


def test_windows_are_enlarged_with_bias_and_modulator():
    net = tiny()
    for site in find_sites(net).values():
        torch.nn.init.normal_(site.relative_position_bias_table)
    image = torch.rand(1, 3, 64, 64)
    keys = set(net.state_dict())
    with torch.inference_mode():
        results = {"released": net(image)}
        for mode in ("keep", "interpolate", "drop"):
            net.set_window(2, mode)
            results[f"2 {mode}"] = net(image)
            net.set_window(4, mode)
            assert net.size_multiple == 64
            results[f"4 {mode}"] = net(image)
    assert set(net.state_dict()) == keys
    assert torch.equal(results["2 keep"], results["released"])
    assert_close(results["2 interpolate"], results["released"])
    others = [results[name] for name in ("released", "2 drop", "4 keep", "4 interpolate", "4 drop")]
    for index, first in enumerate(others):
        for second in others[:index]:
            assert (first - second).abs().max() > 1e-4


def test_kernels_go_into_every_site():
    net = tiny(win_size=4)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        exact = net(image)
        report = nystra.substitute(net, nystra.LandmarkPooling(16, 16, "none"))
        assert len(report.sites) == sum(TINY["depths"])
        # As many cells as tokens.
        assert_close(net(image), exact)


def test_weights_survive_saving_and_loading():
    net = tiny()
    image = torch.rand(1, 3, 32, 32)
    again = nystra.load_pretrained({"state_dict": {f"module.{key}": value for key, value in net.state_dict().items()}})
    with torch.inference_mode():
        assert torch.equal(again(image), net(image))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (1, 1)}, r"depths \(\[1, 1\]\) must have 9 entries"),
        ({"num_heads": (3, 2, 2, 2, 4, 4, 2, 2, 1)}, r"num_heads \(3\) must divide"),
        ({"token_projection": "conv"}, r"token_projection \(conv\) must be linear"),
        ({"token_mlp": "fastleff"}, r"token_mlp \(fastleff\) must be leff or ffn"),
        ({"win_size": 0}, r"win_size \(0\)"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Uformer(**(TINY | arguments))
