"""DehazeFormer against the official outputs, gradients and keys, at other windows, and on genuine weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close

from datamodules.files.images import read_image, to_tensor
from glmha.shared.checkpoint_files import CheckpointError
from glmha.shared.state_dicts import read_weights
from glmha.shared.strict_loading import build_host
from nystra.hosts.dehazeformer.blocks import MetaWindowAttention, RescaleNorm, SKFusion
from nystra.hosts.dehazeformer.checkpoint import infer_arguments
from nystra.hosts.dehazeformer.network import DehazeFormer
from nystra.windows.position_bias import LogOffsetBias
from tests import goldens
from trainers.metrics import psnr
from trainers.tiling.restoration import restore

GENUINE = Path(__file__).parents[3] / "../shared/data/dehazing"
NETS = ["dehazeformer_small_t", "dehazeformer_small_conv", "dehazeformer_small_dwconv", "dehazeformer_small_noconv"]
MODULES = {
    "dehazeformer_rln": RescaleNorm,
    "dehazeformer_skfusion": SKFusion,
    "dehazeformer_window_attention": MetaWindowAttention,
}
TINY = {
    "embed_dims": (4, 8, 8, 8, 4),
    "depths": (1, 2, 2, 1, 1),
    "num_heads": (1, 2, 2, 1, 1),
    "attn_ratio": (0, 0.5, 1, 0, 0),
}


class Unscaled(goldens.OnWindows):
    """The official attention takes queries that are not scaled."""

    def __call__(self, windows: torch.Tensor, roll: tuple[int, int] = (0, 0)) -> torch.Tensor:
        """Scale the queries and attend."""
        query, rest = windows[..., : self.dim], windows[..., self.dim :]
        return super().__call__(torch.cat([query * self.head_channels**-0.5, rest], -1), roll)


def golden_net(name: str = NETS[0]) -> tuple[nn.Module, goldens.Golden]:
    golden = goldens.load(name)
    weights = golden.weights | golden.buffers
    return build_host(DehazeFormer, infer_arguments(weights), {}, weights, name), golden


def tiny(**options) -> DehazeFormer:
    """Random, its position bias as strong as its scores."""
    torch.manual_seed(0)
    net = DehazeFormer(**(TINY | options)).eval()
    for name, parameter in net.named_parameters():
        if ".meta." in name or name.endswith(".QK.weight"):
            nn.init.normal_(parameter, std=0.6)
    return net


class First(nn.Module):
    """The first of several outputs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def named_parameters(self, *arguments, **options):
        return self.module.named_parameters(*arguments, **options)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.module(*inputs)[0]


@pytest.mark.parametrize("name", NETS)
def test_outputs_and_gradients_are_the_official_ones(name):
    net, golden = golden_net(name)
    for inputs, outputs in golden.cases.values():
        with torch.inference_mode():
            assert_close(net(*inputs), outputs[0])
        assert_close(net(*inputs), outputs[0])
    goldens.assert_gradients_close(net, golden)


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_the_official_ones(name):
    golden = goldens.load(name)
    module = MODULES[name](**golden.config)
    module.load_state_dict(golden.weights | golden.buffers)
    if isinstance(module, MetaWindowAttention):
        module = Unscaled(module)
    for inputs, outputs in golden.cases.values():
        results = module(*inputs)
        for result, output in zip(results if len(outputs) > 1 else [results], outputs, strict=True):
            assert_close(result, output)
    goldens.assert_gradients_close(First(module) if name == "dehazeformer_rln" else module, golden)


@pytest.mark.parametrize("size", "tsbdwml")
def test_released_configurations_are_inferred_and_have_exactly_their_keys(size):
    description = goldens.load_keys(f"dehazeformer_{size}")
    weights = {key: torch.empty(shape, device="meta") for key, shape in description["keys"].items()}
    arguments = infer_arguments(weights)
    assert arguments == description["config"]
    with torch.device("meta"):
        net = DehazeFormer(**arguments)
    shapes = [(key, list(value.shape)) for key, value in net.state_dict().items()]
    assert shapes == list(description["keys"].items())
    assert sum(parameter.numel() for parameter in net.parameters()) == description["params_total"]
    assert {key for key, _ in net.named_buffers()} == set(description["buffers"])


def test_buffers_are_written_as_upstream_writes_them_and_never_read():
    net, golden = golden_net()
    fresh = DehazeFormer(**golden.config).state_dict()
    for key, value in golden.buffers.items():
        assert_close(fresh[key], value, rtol=0, atol=2e-7)
    for buffer in net.buffers():
        buffer.fill_(torch.nan)
    inputs, outputs = golden.cases["s37x53"]
    assert_close(net(*inputs), outputs[0])


def test_shares_that_round_badly_are_inferred():
    arguments = {
        "embed_dims": [11, 4, 4, 4, 11],
        "mlp_ratios": [15.5 / 11, 1.0, 1.0, 1.0, 1.0],
        "depths": [22, 1, 1, 1, 1],
        "num_heads": [11, 4, 6, 1, 1],  # where no block attends: the released ones
        "attn_ratio": [15.5 / 22, 0, 0, 0, 1.0],
        "conv_type": ["DWConv", "Conv", "DWConv", "Conv", None],
        "window_size": 4,
    }
    with torch.device("meta"):
        net = DehazeFormer(in_chans=1, out_chans=2, **arguments)
    assert infer_arguments(net.state_dict()) == {"in_chans": 1, "out_chans": 2} | arguments


@pytest.mark.parametrize("missing", ["patch_merge1.proj.weight", "layer2.blocks.0.attn.conv.weight"])
def test_incomplete_weights_are_a_key_error(missing):
    weights = tiny().state_dict()
    del weights[missing]
    with pytest.raises(KeyError, match=missing):
        infer_arguments(weights)


def test_round_trip_through_a_file(tmp_path):
    net, golden = golden_net()
    net.set_window(16, "interpolate")
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    saved = load_file(tmp_path / "net.safetensors")
    assert saved.keys() == golden.weights.keys() | golden.buffers.keys()
    assert_close(saved, golden.weights | golden.buffers)
    weights, name = read_weights(tmp_path / "net.safetensors")
    back = build_host(DehazeFormer, infer_arguments(weights), {}, weights, name)
    inputs, outputs = golden.cases["s37x53"]
    assert_close(back(*inputs), outputs[0])


def test_weights_of_another_window_load_strictly():
    weights = tiny(window_size=4).state_dict()
    net = tiny(window_size=8)
    net.load_state_dict(weights)
    sites = [module for module in net.modules() if isinstance(module, MetaWindowAttention)]
    assert len(sites) == 3
    assert {(site.window_size, site.trained_window_size) for site in sites} == {((8, 8), (4, 4))}
    assert all(torch.equal(net.state_dict()[key], value) for key, value in weights.items())
    weights["layer3.blocks.0.attn.attn.relative_positions"] = torch.zeros(5, 5, 2)
    with pytest.raises(CheckpointError, match="relative_positions"):
        build_host(DehazeFormer, TINY, {}, weights, "it")


@torch.no_grad()
def test_position_bias_at_the_trained_window_and_at_another():
    net, image = tiny(window_size=4), torch.rand(1, 3, 40, 36) * 2 - 1
    trained = net(image)
    results = {}
    # Twice, so that what was computed for one mode and kept would be found by another.
    for _ in range(2):
        for mode in ("keep", "interpolate", "drop"):
            for side in (4, 8):
                net.set_window(side, mode)
                assert net.window_size == side
                results.setdefault((mode, side), []).append(net(image))
    for first, second in results.values():
        assert torch.equal(first, second)
    assert torch.equal(results["keep", 4][0], trained)
    assert torch.equal(results["interpolate", 4][0], trained)
    at_eight = [results[mode, 8][0] for mode in ("keep", "interpolate", "drop")]
    for one, other in [(at_eight[0], at_eight[1]), (at_eight[0], at_eight[2]), (at_eight[1], at_eight[2])]:
        assert (one - other).abs().max() > 1e-3
    assert (results["drop", 4][0] - trained).abs().max() > 1e-3
    # Kept as it is, the bias is that of a net built for the window with the same weights.
    larger = tiny(window_size=8)
    assert_close(at_eight[0], larger(image))


@pytest.mark.parametrize(("mode", "stretch"), [("keep", 1), ("interpolate", 3 / 7), ("drop", None)])
def test_enlarged_windows_attend_by_the_formula(mode, stretch):
    torch.manual_seed(0)
    attention = MetaWindowAttention(8, 4, 2).double()
    attention.set_window(8, mode)
    qkv = torch.randn(3, 64, 24).double()
    query, key, value = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in qkv.chunk(3, 2))
    scores = query @ key.transpose(2, 3) / 2
    if stretch is not None:
        tokens = torch.tensor([(row, column) for row in range(8) for column in range(8)]).double()
        offsets = (tokens[:, None] - tokens[None]) * stretch
        scores = scores + attention.meta(offsets.sign() * (1 + offsets.abs()).log()).permute(2, 0, 1)
    expected = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    # Positions are float32.
    assert_close(Unscaled(attention)(qkv), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("places", [torch.arange(6.0), torch.tensor([0.0, 1.5, 4.0])])
def test_bias_is_the_networks_whatever_is_shared(places):
    torch.manual_seed(0)
    network = MetaWindowAttention(8, 4, 2).meta
    tokens = torch.cartesian_prod(places, places)
    offsets = tokens[:, None] - tokens[None, 1:]
    for stretch in ((1.0, 1.0), (2.0, 0.5)):
        bias = LogOffsetBias(network, stretch).at(offsets)
        assert bias.is_contiguous()
        stretched = offsets * torch.tensor(stretch)
        assert_close(bias, network(stretched.sign() * (1 + stretched.abs()).log()).permute(2, 0, 1))
        assert LogOffsetBias(network, stretch).at(offsets[:0]).shape == (2, 0, len(tokens) - 1)


@pytest.mark.parametrize(
    ("options", "window"), [({}, 8), ({}, 5), ({"conv_type": ["Conv", "DWConv", None, "Conv", "Conv"]}, 16)]
)
def test_every_size_that_reflection_can_pad_is_taken(options, window, monkeypatch):
    net = tiny(**options)
    net.set_window(window)
    for side in range(1, 4 * window + 6):
        refused = False
        try:
            net.check_size(64, side)
        except ValueError:
            refused = True
        assert net.takes(side) is not refused
        with monkeypatch.context() as patch, torch.inference_mode():
            patch.setattr(net, "check_size", lambda height, width: None)
            image = torch.rand(1, 3, max(64, 4 * window), side)
            if refused:
                with pytest.raises((RuntimeError, ValueError)):
                    net(image)
            else:
                assert net(image).shape == image.shape
        assert not refused or side < 4 * window


def test_sizes_that_are_too_small_are_named():
    with pytest.raises(ValueError, match=r"image \(32×20\) must be larger for windows of 8×8 tokens.*at least 32×32"):
        tiny()(torch.rand(1, 3, 32, 20))


def test_images_too_small_for_its_windows_are_restored_by_reflection():
    net, image = tiny(), torch.rand(3, 20, 9)
    assert not net.takes(9)
    assert restore(net, image, tile=None, overlap=0).shape == image.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (1, 1)}, r"depths \(\[1, 1\]\) must have five entries"),
        ({"conv_type": ("Conv",) * 4}, "conv_type"),
        ({"conv_type": ("Conv",) * 4 + ("conv",)}, r"conv_type \(conv\) of level 5 must be Conv, DWConv or None"),
        ({"conv_type": (None, *("Conv",) * 4)}, r"attn_ratio \(0\) of level 1 must be 1"),
        ({"num_heads": (1, 3, 2, 1, 1)}, r"num_heads \(3\) of level 2 must divide its embed_dims \(8\)"),
        ({"embed_dims": (4, 8, 8, 4, 4)}, "embed_dims"),
        ({"out_chans": 3}, r"out_chans \(3\) must be in_chans \+ 1"),
        ({"window_size": 0}, r"window_size \(0\) must be at least 1"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        DehazeFormer(**(TINY | arguments))


def test_windows_that_cannot_be_are_named():
    net = tiny()
    with pytest.raises(ValueError, match=r"window_size \(0\) must be at least 1"):
        net.set_window(0)
    with pytest.raises(ValueError, match=r"position_bias \(none\) must be one of keep, interpolate, drop"):
        net.set_window(16, "none")
    assert net.window_size == 8


@pytest.mark.skipif(not GENUINE.is_dir(), reason="needs released weights and SOTS-indoor in ../shared/data/dehazing")
@pytest.mark.parametrize("name", ["1430_3", "1437_8"])
def test_released_weights_reach_the_official_psnr(name):
    weights, source = read_weights(GENUINE / "dehazeformer-t.pth")
    net = build_host(DehazeFormer, infer_arguments(weights), {}, weights, source)
    official = json.loads((GENUINE / "dehazeformer-t_official_psnr.json").read_text())["images"][f"{name}.png"]["psnr"]
    folder = GENUINE / "SOTS-indoor"
    hazy, target = (to_tensor(read_image(folder / file))[None] for file in (f"hazy/{name}.png", f"GT/{name[:4]}.png"))
    top, left = ((target.shape[axis] - hazy.shape[axis]) // 2 for axis in (2, 3))
    target = target[:, :, top : top + hazy.shape[2], left : left + hazy.shape[3]]
    with torch.inference_mode():
        restored = (net(2 * hazy - 1).clamp(-1, 1) + 1) / 2
    assert psnr(restored, target, quantise=False).item() == pytest.approx(official, abs=0.01)


@pytest.mark.slow
@torch.no_grad()
def test_it_is_traced_as_one_graph():
    net, image = tiny(window_size=4), torch.rand(1, 3, 32, 32)
    assert_close(torch.compile(net, fullgraph=True, backend="eager")(image), net(image))
