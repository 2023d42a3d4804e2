"""Uformer against the official implementation's outputs, gradients and key lists."""

import pytest
import torch
from torch.testing import assert_close

import nystra
from nystra.hosts.layers import mlp
from nystra.hosts.uformer.blocks import Block, LocallyEnhanced, UformerAttention
from nystra.hosts.uformer.checkpoint import infer_arguments
from nystra.hosts.uformer.network import Uformer
from nystra.sites.substitution import find_sites
from tests import goldens

SMALL = ["uformer_small_shift", "uformer_small_noshift", "uformer_small_nomod_ffn"]
VARIANTS = ["T", "S", "S_noshift", "B", "B_nomodulator", "B_dd4"]
TINY = {"embed_dim": 4, "depths": (1, 2, 1, 1, 1, 1, 1, 2, 1), "num_heads": (1, 2, 2, 2, 4, 4, 2, 2, 1)}


def tiny(**options) -> Uformer:
    torch.manual_seed(0)
    return Uformer(**(TINY | {"win_size": 2, "modulator": True} | options)).eval()


@pytest.mark.parametrize("name", SMALL)
def test_outputs_and_gradients_are_the_official_ones(name):
    golden = goldens.load(name)
    net = nystra.load_pretrained(golden.weights, shift_flag=golden.config.get("shift_flag", True))
    for inputs, outputs in golden.cases.values():
        with torch.inference_mode():
            assert_close(net(*inputs), outputs[0])
    if golden.cotangent is not None:
        goldens.assert_gradients_close(net, golden)


def test_the_window_attention_is_the_official_one():
    golden = goldens.load("uformer_window_attention")
    module = goldens.OnWindows(UformerAttention(24, (8, 8), 3).eval())
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


@pytest.mark.parametrize("dd_in", [3, 4])
def test_the_image_is_added_where_it_has_the_results_channels(dd_in):
    net = tiny(dd_in=dd_in)
    for parameter in net.output_proj.parameters():
        torch.nn.init.zeros_(parameter)
    image = torch.rand(1, dd_in, 32, 32)
    with torch.inference_mode():
        assert torch.equal(net(image), image if dd_in == 3 else torch.zeros(1, 3, 32, 32))


def dense_branch(block: Block, x: torch.Tensor) -> torch.Tensor:
    """A block's attention from its definition: every pair of the map's tokens, pair by pair allowed or not."""
    attn = block.attn
    windows, places, regions = [], [], []
    for length, side in zip(x.shape[1:3], attn.window_size, strict=True):
        window = min(side, length)
        shift = window // 2 if block.shifted and length > window else 0
        token = torch.arange(length)
        rolled = (token - shift) % length
        windows.append(rolled // window)
        places.append(rolled % window)
        regions.append(token < shift)

    def tokens(axes: list[torch.Tensor]) -> torch.Tensor:
        return torch.cartesian_prod(*(axis.long() for axis in axes))

    def same(axes: list[torch.Tensor]) -> torch.Tensor:
        return (tokens(axes).unsqueeze(1) == tokens(axes)).all(-1)

    trained = attn.trained_window_size[0]
    place = tokens(places)
    offset = (place.unsqueeze(1) - place).clamp(1 - trained, trained - 1) + trained - 1
    logits = attn.relative_position_bias_table.unflatten(0, (2 * trained - 1, -1))[offset[..., 0], offset[..., 1]]
    logits = logits.movedim(-1, 0) - 100.0 * ~same(regions)
    logits = logits.masked_fill(~same(windows), -torch.inf)
    features = block.norm1(x).flatten(1, 2)
    if block.modulator is not None:
        features = features + block.modulator.weight.unflatten(0, (trained, trained))[tuple(place.T % trained)]
    query, key, value = (
        part.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
        for part in (attn.qkv.to_q(features), *attn.qkv.to_kv(features).chunk(2, -1))
    )
    weights = (query * attn.scale @ key.transpose(2, 3) + logits).softmax(-1)
    return attn.proj((weights @ value).transpose(1, 2).flatten(2)).unflatten(1, x.shape[1:3])


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("window", "size"),
    [(4, (8, 12)), (4, (4, 12)), (4, (4, 4)), (6, (12, 18)), (8, (8, 16)), (8, (4, 16)), (8, (4, 4))],
)
def test_a_block_attends_as_defined_on_any_map(window, size, shifted):
    torch.manual_seed(0)
    attention = UformerAttention(6, (4, 4), 3)
    torch.nn.init.normal_(attention.relative_position_bias_table)
    block = Block(attention, mlp(6, 6), modulated=True, shifted=shifted, drop_path=0.0).double().eval()
    attention.set_window(window, "keep")
    x = torch.randn(2, *size, 6, dtype=torch.float64)
    with torch.inference_mode():
        branch = dense_branch(block, x)
        expected = x + branch + block.mlp(block.norm2(x + branch))
        # The geometry's positions and the table's places between offsets are float32.
        assert_close(block(x), expected, rtol=1e-6, atol=1e-7)


def test_img_size_settles_whether_the_bottleneck_shifts():
    options = {"depths": (1, 1, 1, 1, 2, 1, 1, 1, 1)}
    fixed, free = tiny(img_size=32, **options), tiny(img_size=None, **options)
    small, large = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(fixed(small), free(small))
        assert (fixed(large) - free(large)).abs().max() > 1e-6
    assert not any(block.shifted for block in fixed.conv.blocks)


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
            assert net.size_multiple == 32
            assert [side for side in range(200) if net.takes(side)] == [32, 64, 128, 192]
            results[f"4 {mode}"] = net(image)
    assert set(net.state_dict()) == keys
    assert torch.equal(results["2 keep"], results["released"])
    assert_close(results["2 interpolate"], results["released"])
    others = [results[name] for name in ("released", "2 drop", "4 keep", "4 interpolate", "4 drop")]
    for index, first in enumerate(others):
        for second in others[:index]:
            assert (first - second).abs().max() > 1e-4


@pytest.mark.parametrize("mode", ["keep", "interpolate", "drop"])
def test_enlarged_windows_end_where_the_map_does(mode):
    net = tiny()
    net.set_window(16, mode)
    image = torch.rand(1, 3, 32, 64)
    with torch.inference_mode():
        exact = net(image)
        assert exact.shape == image.shape
        assert exact.isfinite().all()
        nystra.substitute(net, nystra.LandmarkPooling(4, 4, "cross"))
        assert net(image).isfinite().all()
    # 96, 48, 24: neither windows of 16 nor less than one.
    with pytest.raises(ValueError, match=r"image \(32×96\) must have sides .* cuts into windows of 16 tokens"):
        net(torch.rand(1, 3, 32, 96))


def test_kernels_go_into_every_site():
    net = tiny(win_size=4)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        exact = net(image)
        report = nystra.substitute(net, nystra.LandmarkPooling(16, 16, "none"))
        assert len(report.sites) == sum(TINY["depths"])
        # As many cells as tokens.
        assert_close(net(image), exact)


def test_index_buffers_may_be_missing_or_of_other_windows():
    net = tiny()
    weights = net.state_dict()
    name = "conv.blocks.0.attn.relative_position_index"
    for other in ({name: torch.zeros(9, 9, dtype=torch.long)}, {}):
        again = tiny()
        again.load_state_dict({key: value for key, value in weights.items() if key != name} | other, strict=True)
        assert torch.equal(again.state_dict()[name], weights[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (1, 1)}, r"depths \(\[1, 1\]\) must have 9 entries"),
        ({"num_heads": (3, 2, 2, 2, 4, 4, 2, 2, 1)}, r"num_heads \(3\) must divide"),
        ({"token_projection": "conv"}, r"token_projection \(conv\) must be linear"),
        ({"token_mlp": "fastleff"}, r"token_mlp \(fastleff\) must be leff, ffn or mlp"),
        ({"win_size": 0}, r"win_size \(0\) must be at least 1"),
        ({"img_size": 0}, r"img_size \(0\) must be at least 1"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Uformer(**(TINY | arguments))
