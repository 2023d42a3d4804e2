"""SwinIR against the official outputs and gradients, at other sizes and windows, and its own errors."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import nystra
from glmha.shared.checkpoint_files import CheckpointError
from nystra import load_pretrained
from nystra.hosts.swinir.blocks import SwinAttention
from nystra.hosts.swinir.checkpoint import infer_arguments
from nystra.hosts.swinir.network import SwinIR
from nystra.windows.position_bias import TableBias
from tests import goldens
from tests.glmha.randomised import randomise

NETS = sorted(path.stem for path in goldens.DIRECTORY.glob("swinir_small_*.json"))
RELEASED = sorted(path.name.split(".")[0] for path in goldens.DIRECTORY.glob("keys/swinir_*"))
SMALL = {
    "img_size": 16,
    "embed_dim": 12,
    "depths": (2, 1),
    "num_heads": (2, 3),
    "window_size": 8,
    "mlp_ratio": 2.0,
    "upscale": 1,
}
BUFFERS = ("attn_mask", "relative_position_index")


def official(name: str) -> SwinIR:
    """The net of a golden reference; the buffers that its file leaves out are the net's own."""
    golden = goldens.load(name)
    net = SwinIR(**golden.config).eval()
    buffers = {key: value for key, value in net.state_dict().items() if key.endswith(BUFFERS)}
    net.load_state_dict({**buffers, **golden.buffers, **golden.weights}, strict=True)
    return net


def small(**arguments) -> SwinIR:
    torch.manual_seed(0)
    return randomise(SwinIR(**(SMALL | arguments))).eval()


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETS)
def test_outputs_gradients_and_buffers_are_the_official_ones(name):
    golden, net = goldens.load(name), official(name)
    for inputs, outputs in golden.cases.values():
        with torch.inference_mode():
            assert_close(net(*inputs), outputs[0])
        assert_close(net(*inputs), outputs[0])
    goldens.assert_gradients_close(net, golden)
    fresh = SwinIR(**golden.config).state_dict()
    for key, buffer in golden.buffers.items():
        assert torch.equal(fresh[key], buffer)


@dataclasses.dataclass(frozen=True, eq=False)
class Masked(nystra.Softmax):
    """Exact attention with a mask (windows of an image, N, N) of any kind."""

    mask: torch.Tensor

    def attend(self, query, key, value, tables):
        mask = self.mask.repeat(len(query) // len(self.mask), 1, 1).unsqueeze(1)
        return super().attend(query, key, value, tables + mask)


def test_window_attention_is_the_official_one():
    golden = goldens.load("swinir_window_attention")
    net = goldens.OnWindows(SwinAttention(**golden.config | {"window_size": tuple(golden.config["window_size"])}))
    net.load_state_dict(golden.weights | golden.buffers, strict=True)
    assert torch.equal(net.relative_position_index, golden.buffers["relative_position_index"])
    (windows,), (output,) = golden.cases["nomask"]
    assert_close(net(windows), output)
    goldens.assert_gradients_close(net, golden)
    (windows, mask), (output,) = golden.cases["mask"]
    # The mask of the second window is that of a feature map of one window whose rows were rolled by half of it.
    assert_close(net(windows[1::4], (2, 0)), output[1::4])
    net.attention.kernel = Masked(mask)
    assert_close(net(windows), output)


def without(weights: dict, *buffers: str) -> dict:
    return {key: value for key, value in weights.items() if not key.endswith(buffers)}


def test_weights_without_any_buffer_shift_their_windows():
    net, x = small(img_size=16), image(1, 3, 15, 13)
    loaded = load_pretrained(without(net.state_dict(), "attn_mask", "relative_position_index"))
    with torch.inference_mode():
        assert torch.equal(loaded(x), net(x))


@pytest.mark.parametrize("side", [8, 16])
def test_whether_windows_shift_is_asked_where_masks_alone_are_missing(side):
    # Upstream's own file of a network that was trained on one window looks like this, and such a one never shifts.
    net, x = small(img_size=side), image(1, 3, 15, 13)
    weights = without(net.state_dict(), "attn_mask")
    with pytest.raises(CheckpointError, match=r"does not tell img_size, because no block has an attn_mask"):
        load_pretrained(weights)
    with torch.inference_mode():
        assert torch.equal(load_pretrained(weights, img_size=side)(x), net(x))


@pytest.mark.parametrize("model", RELEASED)
def test_released_models_are_inferred_from_their_keys_and_shapes(model):
    description = goldens.load_keys(model)
    weights = {key: torch.empty(shape, device="meta") for key, shape in description["keys"].items()}
    arguments = infer_arguments(weights)
    assert {key: arguments[key] for key in description["config"]} == description["config"]
    with torch.device("meta"):
        net = SwinIR(**arguments)
    assert {key: list(value.shape) for key, value in net.state_dict().items()} == description["keys"]
    assert sum(parameter.numel() for parameter in net.parameters()) == description["params_total"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"upsampler": "pixelshuffle", "upscale": 8, "resi_connection": "3conv"},
        {"upsampler": "pixelshuffle", "upscale": 3, "in_chans": 1},
        {"upsampler": "pixelshuffle", "img_size": 24},
        {"upsampler": "pixelshuffledirect", "upscale": 3, "mlp_ratio": 2.66},
        {"upsampler": "nearest+conv", "upscale": 2, "window_size": 4},
        {"ape": True, "patch_norm": False, "qkv_bias": False},
        {"ape": True, "img_size": 8},
        {"in_chans": 1, "window_size": 7, "img_size": 21, "img_range": 255.0},
    ],
)
def test_saved_nets_are_inferred_and_loaded(tmp_path: Path, arguments):
    net = small(**arguments)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    weights = load_file(tmp_path / "net.safetensors")
    loaded = SwinIR(**infer_arguments(weights)).eval()
    loaded.load_state_dict(weights, strict=True)
    assert {key: value.shape for key, value in loaded.state_dict().items()} == {k: v.shape for k, v in weights.items()}
    size = (6, 7) if net.resolution == (8, 8) else (15, 13)
    x = image(2, arguments.get("in_chans", 3), *(net.resolution if size == (15, 13) and "ape" in arguments else size))
    with torch.inference_mode():
        output = net(x)
        assert torch.equal(loaded(x), output)
    assert output.shape[-2:] == tuple(net.scale * side for side in x.shape[-2:])


def test_buffers_of_another_training_size_are_taken_and_those_saved_fit_upstream():
    other, net = small(img_size=40), SwinIR(**SMALL).eval()
    net.load_state_dict(other.state_dict(), strict=True)
    assert net.state_dict()["layers.0.residual_group.blocks.1.attn_mask"].shape == (4, 64, 64)
    net.set_window(16)
    assert {key: value.shape for key, value in net.state_dict().items()} == {
        key: value.shape for key, value in SwinIR(**SMALL).state_dict().items()
    }
    net.set_window(8)
    x, copied = image(1, 3, 21, 30), copy.deepcopy(net)
    with torch.inference_mode():
        assert torch.equal(net(x), other(x))
        assert torch.equal(copied(x), net(x))


def test_a_missing_key_is_named():
    for key in ("conv_first.weight", "layers.0.residual_group.blocks.0.mlp.fc1.weight"):
        weights = SwinIR(**SMALL).state_dict()
        del weights[key]
        with pytest.raises(KeyError, match=key):
            infer_arguments(weights)


@pytest.mark.parametrize(("height", "width", "window"), [(1, 2, 8), (3, 5, 8), (9, 16, 8), (6, 33, 32)])
def test_images_of_any_size_are_mirrored_to_whole_windows(height, width, window):
    net = small(upsampler="pixelshuffledirect", upscale=2)
    net.set_window(window)
    x = image(1, 3, height, width)
    pads = [(0, -side % window) for side in (height, width)]
    padded = torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), *pads], mode="reflect"))
    with torch.inference_mode():
        assert_close(net(x), net(padded)[..., : 2 * height, : 2 * width])


def test_training_images_of_one_window_are_never_shifted():
    net = small(img_size=4)
    assert not any(key.endswith("attn_mask") for key in net.state_dict())
    assert {site.window_size for site in net.sites()} == {(4, 4)}
    x = image(1, 3, 12, 12)
    mirrored = torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), (0, 4), (0, 4)], mode="reflect"))
    with torch.inference_mode():
        # Upstream still pads to multiples of its argument.
        assert_close(net(x), net(mirrored)[..., :12, :12])


def test_the_embedding_of_positions_fixes_the_size():
    net = official("swinir_small_ape")
    assert net(image(1, 3, 9, 16)).shape == (1, 3, 18, 32)
    # As many tokens as the embedding has, but elsewhere.
    with pytest.raises(ValueError, match=r"padded to 8×32, must have .* 16×16"):
        net(image(1, 3, 8, 32))


def unmasked(net: SwinIR) -> SwinIR:
    """The net with windows that are shifted and not masked."""
    for site in net.sites():
        geometry = site.geometry
        site.geometry = lambda grid, shift, window, geometry=geometry: geometry(grid)
    return net


def test_the_trained_window_keeps_its_bias_and_none_is_dropped():
    net = official("swinir_small_colordn")
    x = image(1, 3, 20, 27)
    unbiased = unmasked(copy.deepcopy(net))
    with torch.inference_mode():
        for site in unbiased.sites():
            site.relative_position_bias_table.zero_()
        before = net(x)
        for mode in ("keep", "interpolate"):
            net.set_window(8, mode)
            assert torch.equal(net(x), before)
        net.set_window(8, "drop")
        assert_close(net(x), unbiased(x))
        assert not torch.allclose(net(x), before)


@pytest.mark.parametrize("window", [5, 16])
def test_another_window_is_as_if_built_with_it(window):
    net = official("swinir_small_pixelshuffle_x2")
    config = goldens.load("swinir_small_pixelshuffle_x2").config | {"window_size": window, "img_size": 4 * window}
    whole, open_borders = SwinIR(**config).eval(), unmasked(SwinIR(**config).eval())
    x = image(1, 3, 18, 37)
    offsets = torch.arange(2 * window - 1) - window + 1
    offsets = torch.cartesian_prod(offsets, offsets).float()
    stretches = {"keep": 1.0, "interpolate": 7 / (window - 1), "drop": 0.0}
    with torch.inference_mode():
        # In one order and back, so that nothing remembers another mode's biases.
        for mode in (*stretches, *reversed(stretches)):
            built = open_borders if mode == "drop" else whole
            weights = {key: value for key, value in net.state_dict().items() if not key.endswith(BUFFERS)}
            for key, table in weights.items():
                if key.endswith("bias_table"):
                    bias = TableBias(table, (8, 8), (stretches[mode],) * 2).at(offsets).T
                    weights[key] = torch.zeros_like(bias) if mode == "drop" else bias
            built.load_state_dict(weights, strict=False)
            net.set_window(window, mode)
            assert_close(net(x), built(x))


def test_windows_of_single_sites_are_respected():
    net = small()
    x = image(1, 3, 20, 20)
    with torch.inference_mode():
        before = net(x)
        net.sites()[0].window_size = (16, 4)
        assert net(x).shape == x.shape
        assert not torch.allclose(net(x), before)


def test_training_drops_branches_and_may_recompute():
    x = image(1, 3, 8, 8).expand(4, -1, -1, -1)
    net = small(drop_path_rate=0.9)
    assert_close(net(x)[:1].expand(4, -1, -1, -1), net(x))
    torch.manual_seed(0)
    assert not torch.allclose(net.train()(x)[0], net(x)[1])
    gradients = []
    for recompute in (False, True):
        net = small(use_checkpoint=recompute, drop_path_rate=0).train()
        net(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    assert_close(*gradients)


def test_upstreams_defaults_are_a_net():
    with torch.device("meta"):
        # Upstream's default of 64 is no multiple of its default window, 7, and refused there too.
        net = SwinIR(img_size=56)
    assert (net.scale, net.size_multiple, len(net.sites())) == (1, 1, 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"img_size": 20}, r"img_size \(20×20\) must be a multiple of window_size \(8\)"),
        ({"img_size": (0, 8)}, "img_size"),
        ({"patch_size": 2}, r"patch_size \(2\) must be 1"),
        ({"depths": (2,)}, "num_heads"),
        ({"num_heads": (5, 2)}, r"num_heads \(5\) must divide embed_dim \(12\)"),
        ({"window_size": 0}, r"window_size \(0\) must be positive"),
        ({"attn_drop_rate": 0.1}, "attn_drop_rate"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"img_range": 0}, "img_range"),
        ({"upsampler": "bicubic"}, r"upsampler \(bicubic\) must be one of"),
        ({"resi_connection": "2conv"}, "resi_connection"),
        ({"upsampler": "pixelshuffle", "upscale": 6}, r"upscale \(6\)"),
        ({"upsampler": "pixelshuffledirect", "upscale": 0}, r"upscale \(0\)"),
        ({"upsampler": "nearest+conv", "upscale": 3}, r"upscale \(3\)"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SwinIR(**(SMALL | arguments))


def test_windows_and_images_that_cannot_be_are_named():
    net = small()
    with pytest.raises(ValueError, match=r"window_size \(0\) must be at least 1"):
        net.set_window(0)
    with pytest.raises(ValueError, match=r"position_bias \(none\) must be one of"):
        net.set_window(16, "none")
    with pytest.raises(ValueError, match=r"image must be \(B, 3, H, W\), got \(1, 1, 8, 8\)"):
        net(image(1, 1, 8, 8))
