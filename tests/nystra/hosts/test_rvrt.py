"""RVRT as a whole: the official outputs and gradients, released networks, windows, films of any size, errors."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

import nystra
from glmha.shared.checkpoint_files import CheckpointError
from glmha.shared.image_network import image_rules
from nystra import RVRT, load_pretrained
from nystra.hosts.rvrt.blocks import ClipBlock
from nystra.hosts.rvrt.checkpoint import infer_arguments
from nystra.hosts.rvrt.network import mirrored
from nystra.sites import attention_record
from tests import goldens
from tests.glmha.randomised import randomise
from tests.nystra.hosts.test_rvrt_parts import official_spynet
from tests.reference import rvrt as reference

RELEASED = sorted(path.name.split(".")[0] for path in goldens.DIRECTORY.glob("keys/rvrt_*"))
WHOLE = Path(__file__).parents[3] / "../shared/golden/rvrt_small_sr4.safetensors"
SMALL = {
    "num_blocks": [1, 1, 1],
    "depths": [1, 2, 1],
    "embed_dims": [12, 12, 12],
    "num_heads": [2, 2, 2],
    "window_size": [2, 4, 4],
    "deformable_groups": 6,
    "attention_heads": 6,
}


def small(**arguments) -> RVRT:
    torch.manual_seed(0)
    return randomise(RVRT(**(SMALL | arguments))).eval()


def film(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", RELEASED)
def test_released_networks_are_known_by_their_tensors(name):
    released = goldens.load_keys(name)
    config = {key: value for key, value in released["config"].items() if key != "cpu_cache_length"}
    with torch.device("meta"):
        net = RVRT(**config)
    weights = net.state_dict()
    assert {key: list(value.shape) for key, value in weights.items()} == released["keys"]
    assert sum(parameter.numel() for parameter in net.parameters()) == released["params_total"]
    inferred = infer_arguments(weights)
    assert {key: inferred[key] for key in inferred.keys() & config} == {
        key: config[key] for key in inferred.keys() & config
    }


def test_a_released_network_is_loaded_strictly():
    weights = small(upscale=1, nonblind_denoising=True, inputconv_groups=[1, 3, 4, 6, 4, 4]).state_dict()
    net = load_pretrained({"params": weights})
    assert isinstance(net, RVRT)
    rules = image_rules(net)
    assert (rules.frame_multiple, rules.size_multiple, rules.scale, net.image_channels) == (2, 4, 1, 4)
    net.set_window(8, "keep")
    assert image_rules(net) == rules
    net.set_window(4)
    clip = film(1, 2, 4, 16, 16)
    with torch.inference_mode():
        assert torch.equal(
            net(clip), small(upscale=1, nonblind_denoising=True, inputconv_groups=[1, 3, 4, 6, 4, 4])(clip)
        )
    with pytest.raises(CheckpointError, match="lacks the key"):
        load_pretrained(
            {key: value for key, value in weights.items() if key != "conv_last.bias" and "10.weight" in key}
        )
    with pytest.raises(CheckpointError, match=r"conv_last\.bias"):
        load_pretrained({key: value for key, value in weights.items() if key != "conv_last.bias"})


@pytest.mark.skipif(not WHOLE.is_file(), reason="needs the golden network in ../shared/golden, 3 MB")
def test_the_whole_network_is_the_official_one():
    golden = load_file(WHOLE)
    config = json.loads(WHOLE.with_suffix(".json").read_text())["config"]
    del config["cpu_cache_length"]
    net = RVRT(**config).eval()
    weights = {key[3:]: value.float() / 64 for key, value in golden.items() if key.startswith("w8.")}
    spynet = {f"spynet.{key}": value for key, value in official_spynet().items()}
    buffers = {key[2:]: value for key, value in golden.items() if key.startswith("w.")}
    net.load_state_dict({**net.state_dict(), **weights, **spynet, **buffers}, strict=True)
    clip = golden["in.lq_uint8"].float() / 255
    published = reference.RVRT(**config).eval()
    published.load_state_dict(net.state_dict())
    with torch.inference_mode():
        assert_close(published(clip), golden["out"], rtol=1e-5, atol=1e-5)
        assert_close(net(clip), golden["out"], rtol=1e-5, atol=1e-5)
        twice = net(torch.cat([clip, clip.flip(1)], 1))
        assert_close(twice[:, 1], golden["out_mirror_extended.frame1"], rtol=1e-5, atol=1e-5)
        # Nothing of it is left for the next film.
        assert_close(net(clip), golden["out"], rtol=1e-5, atol=1e-5)
    clip.requires_grad_()
    (net(clip) * golden["grad.cotangent_int8"].float()).sum().backward()
    found = {"grad.in": clip.grad, **{f"grad.w.{key}": part.grad for key, part in net.named_parameters()}}
    for key in ("grad.in", "grad.w.conv_last.weight", "grad.w.deform_align.backward_1.proj_q.1.weight"):
        # ReLUs and flows of whole pixels turn with rounding: float64 is as far from float32.
        assert (found[key] - golden[key]).norm() < 0.01 * golden[key].norm()


@pytest.mark.parametrize("upscale", [1, 4])
def test_films_of_any_size_and_length_are_taken(upscale):
    net = small(upscale=upscale)
    with torch.inference_mode():
        for frames, height, width in ((2, 1, 1), (3, 5, 9), (5, 4, 6)):
            result = net(film(1, frames, 3, height, width))
            assert result.shape == (1, frames, 3, upscale * height, upscale * width)
            assert result.isfinite().all()


def test_pieces_of_a_film_do_not_show(monkeypatch):
    net, clip = small(), film(2, 3, 3, 8, 6)
    with torch.inference_mode():
        whole = net(clip)
        for name, most in (("network.MOST_TOKENS", 1), ("deformable.MOST_SAMPLES", 1), ("spynet.MOST_PIXELS", 1)):
            monkeypatch.setattr(f"nystra.hosts.rvrt.{name}", most)
        assert_close(net(clip), whole, rtol=1e-5, atol=1e-5)
        assert_close(net(clip[1:]), whole[1:], rtol=1e-5, atol=1e-5)


def test_a_film_played_to_and_fro_needs_its_flow_once(monkeypatch):
    net, clip = small(), film(1, 2, 3, 8, 8)
    twice = torch.cat([clip, clip.flip(1)], 1)
    calls = []
    flow = net.spynet.forward
    monkeypatch.setattr(net.spynet, "forward", lambda *pair: calls.append(pair) or flow(*pair))
    with torch.inference_mode():
        result = net(twice)
        assert len(calls) == 1
        monkeypatch.setattr("nystra.hosts.rvrt.network.torch.equal", lambda *_: False)
        assert_close(net(twice), result, rtol=1e-5, atol=1e-5)
    assert len(calls) == 3


def test_films_are_mirrored_to_and_fro():
    assert mirrored(torch.arange(3), 0, 7).tolist() == [0, 1, 2, 1, 0, 1, 2]
    assert mirrored(torch.arange(4), 0, 2).tolist() == [0, 1, 2, 3]
    assert mirrored(torch.arange(1), 0, 4).tolist() == [0, 0, 0, 0]


def test_windows_of_two_frames_grow_and_take_every_kernel():
    net, clip = small(), film(1, 2, 3, 16, 16)
    sites = nystra.find_sites(net)
    assert {site.window_size for site in sites.values()} == {(2, 4, 4), (4, 4)}
    with torch.inference_mode():
        trained = net(clip)
        outputs = {}
        for mode in ("keep", "interpolate", "drop"):
            net.set_window(8, mode)
            assert {site.window_size for site in sites.values()} == {(2, 8, 8), (8, 8)}
            outputs[mode] = net(clip)
        assert len({round(float(each.double().sum()), 6) for each in outputs.values()}) == 3
        net.set_window(8, "interpolate")
        exact = net(clip)
        for kernel in (nystra.LandmarkPooling(), nystra.ContentPooling(), nystra.Nystrom(), nystra.Performer(256)):
            report = nystra.substitute(net, kernel, sites="backbone.*")
            assert {site.tokens for site in report.sites} == {128}
            assert 0 < (net(clip) - exact).norm() < 0.1 * exact.norm()
        record = attention_record.record(net)
        assert record["window_size"] == 8
        other = small()
        attention_record.apply(other, record)
        assert torch.equal(other(clip), net(clip))
        nystra.substitute(net, nystra.Softmax())
        net.set_window(4, "keep")
        assert torch.equal(net(clip), trained)


def test_gradients_reach_every_parameter_also_where_blocks_recompute():
    net, clip = small(), film(1, 4, 3, 8, 8)
    gradients = []
    for recompute in (False, True):
        blocks = [module for module in net.modules() if isinstance(module, ClipBlock)]
        for block in blocks:
            block.recompute = recompute
        net.zero_grad()
        net(clip).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in net.named_parameters()})
    assert not [name for name, gradient in gradients[0].items() if gradient is None]
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"upscale": 2}, r"upscale \(2\) must be 1 or 4"),
        ({"clip_size": 3}, r"clip_size \(3\) must be 2"),
        ({"embed_dims": [12, 12, 24]}, r"embed_dims \(\[12, 12, 24\]\)"),
        ({"num_heads": [5, 5, 5]}, r"num_heads \(5\) must divide"),
        ({"window_size": [2, 4, 8]}, r"window_size \(\[2, 4, 8\]\)"),
        ({"attention_window": [2, 3]}, r"attention_window"),
        ({"deformable_groups": 5}, r"deformable_groups \(5\) must be an even divisor"),
        ({"attention_heads": 5}, r"attention_heads \(5\)"),
        ({"nonblind_denoising": True}, r"nonblind_denoising \(True\) must be false for upscale 4"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RVRT(**(SMALL | arguments))


@pytest.mark.parametrize("shape", [(1, 2, 4, 8, 8), (1, 1, 3, 8, 8), (1, 3, 8, 8)])
def test_what_is_no_film_is_refused(shape):
    with pytest.raises(ValueError, match=r"film must be \(B, T, 3, H, W\) of at least 2 frames"):
        small()(film(*shape))
