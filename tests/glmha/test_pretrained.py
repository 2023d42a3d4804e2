"""Networks from checkpoints: every released form is inferred, loaded strictly, and other contents are refused."""

import functools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import glmha
from tests import goldens

RESTORMERS = [
    "restormer_small_biasfree",
    "restormer_small_withbias",
    "restormer_small_gray",
    "restormer_small_dualpixel",
]
KEY_LISTS = {
    "restormer_deraining": glmha.Restormer,
    "restormer_gauss_gray_denoising": glmha.Restormer,
    "restormer_dual_defocus": glmha.Restormer,
    "mst_s": glmha.MST,
    "mst_l": glmha.MST,
    "mst_m_real": glmha.RealMST,
    "mst_l_rgb2hsi": glmha.RGBMST,
    "mst_plus_plus": glmha.MSTPlusPlus,
    "mst_plus_plus_cassi": glmha.CassiMSTPlusPlus,
}


@pytest.mark.parametrize("name", [*RESTORMERS, "mst_small", "mstpp_small"])
def test_a_bare_state_dict_gives_the_official_output(name):
    golden = goldens.load(name)
    net = glmha.load_pretrained(golden.weights)
    assert not net.training
    inputs, outputs = next(iter(golden.cases.values()))
    with torch.inference_mode():
        torch.testing.assert_close(net(*inputs), outputs[0], atol=3e-5, rtol=1e-4)  # float32 noise of several layers


@pytest.mark.parametrize("name", KEY_LISTS)
def test_every_hyper_parameter_is_inferred_from_shapes(name):
    description = goldens.load_keys(name)
    weights = {key: torch.zeros(shape) for key, shape in description["keys"].items()}
    net = glmha.load_pretrained(weights)
    assert type(net) is KEY_LISTS[name]
    assert sum(parameter.numel() for parameter in net.parameters()) == description["params_total"]


@pytest.mark.parametrize("container", ["params", "params_ema", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module.", "net.", "module.net."])
def test_wrappers_and_prefixes_are_stripped(tmp_path: Path, container, prefix):
    weights = {prefix + key: value for key, value in goldens.load(RESTORMERS[2]).weights.items()}
    path = tmp_path / "net.pth"
    torch.save({container: weights, "epoch": 3} if container else weights, path)
    assert isinstance(glmha.load_pretrained(path), glmha.Restormer)


@pytest.mark.parametrize(
    "attention",
    [
        functools.partial(glmha.GLMHA, reduction=0.25, alpha=0.3),
        functools.partial(glmha.LinformerChannelAttention, reduction=0.75),
        functools.partial(glmha.PerformerChannelAttention, features=8, seed=4),
        functools.partial(glmha.ReformerChannelAttention, buckets=2, rounds=1),
        [glmha.GLMHA, glmha.GLMHA, glmha.ChannelAttention, glmha.LinformerChannelAttention],
    ],
)
def test_own_attentions_come_back_with_their_options(tmp_path: Path, attention):
    torch.manual_seed(0)
    net = glmha.Restormer(dim=8, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, attention=attention).eval()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    loaded = glmha.load_pretrained(tmp_path / "net.safetensors")
    image = torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image), net(image))


def test_overrides_replace_what_was_inferred():
    weights = goldens.load(RESTORMERS[0]).weights
    with pytest.raises(glmha.CheckpointError, match="does not fit Restormer"):
        glmha.load_pretrained(weights, num_refinement_blocks=2)
    with pytest.raises(glmha.CheckpointError, match="overrides must be arguments of Restormer"):
        glmha.load_pretrained(weights, depth=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "it is empty"),
        ({"params": {"weight": 3}}, "found other values"),
        ({"conv_first.weight": torch.zeros(1)}, "must be of Restormer, MST or MST"),
        ({"encoder_level1.0.attn.temperature": torch.ones(1, 1, 1)}, "lacks the key"),
    ],
)
def test_other_contents_are_refused(content, message):
    with pytest.raises(glmha.CheckpointError, match=message):
        glmha.load_pretrained(content)


def test_unknown_and_missing_keys_are_listed():
    weights = goldens.load(RESTORMERS[0]).weights
    del weights["output.weight"]
    with pytest.raises(glmha.CheckpointError, match=r"output\.weight"):
        glmha.load_pretrained(weights)
    weights = goldens.load(RESTORMERS[0]).weights | {"extra.weight": torch.zeros(1)}
    with pytest.raises(glmha.CheckpointError, match=r"extra\.weight"):
        glmha.load_pretrained(weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({3: torch.zeros(1)}, "must map parameter names to tensors"),
        ({"encoder_level1.0.attn.temperature": torch.tensor(1.0)}, "shapes"),
        ({"patch_embed.proj.weight": torch.zeros(8)}, "shapes"),
        ({"encoder_level1.0.attn._extra_state": torch.tensor(list(b"{"), dtype=torch.uint8)}, "must record one of"),
        (
            {"encoder_level1.0.attn._extra_state": torch.tensor(list(b'{"class": "Foo"}'), dtype=torch.uint8)},
            "must record one of GLMHA",
        ),
        ({"refinement": None}, r"lacks the key 'refinement\.0'"),
    ],
)
def test_damaged_weights_are_told_so(change, message):
    weights = dict(goldens.load(RESTORMERS[0]).weights)
    for key, value in change.items():
        if value is None:
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith(f"{key}.")}
        else:
            weights[key] = value
    with pytest.raises(glmha.CheckpointError, match=message):
        glmha.load_pretrained(weights)
