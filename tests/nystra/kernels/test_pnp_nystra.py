"""PnP-Nystra as the authors compute it: recorded outputs of attention, modules and networks, and gradients."""

import math

import pytest
import torch
from torch.testing import assert_close

import nystra
from nystra import Nystrom, WindowGeometry
from nystra.hosts.swinir.blocks import SwinAttention
from nystra.hosts.swinir.network import SwinIR
from nystra.hosts.uformer.network import UformerAttention
from tests import goldens


@pytest.mark.parametrize("name", ["pnp_attn_N64_h2_d8_m16_i3", "pnp_attn_N256_h6_d30_m16_i3"])
def test_the_authors_arithmetic_is_reproduced(name):
    tensors, description = goldens.load_tensors(name)
    side = math.isqrt(description["N"])
    for case in description["cases"]:
        query, key, value = (tensors[f"{case}.{part}"] for part in "qkv")
        for output, threshold in (("out", 5.0), ("out_threshold0", 0.0)):
            kernel = Nystrom.as_published(description["landmarks"], description["iters"], threshold)
            # Neither bias nor mask enters it, whatever the geometry has.
            actual = kernel(query * description["scale"], key, value, WindowGeometry((side, side)))
            assert_close(actual, tensors[f"{case}.{output}"])


@pytest.mark.parametrize(
    ("name", "attention", "threshold"),
    [("pnp_swinir_module", SwinAttention, 5.0), ("pnp_uformer_module", UformerAttention, 0.0)],
)
def test_modules_are_the_authors(name, attention, threshold):
    golden = goldens.load(name)
    module = goldens.OnWindows(attention(24, (8, 8), 3).eval())
    module.load_state_dict(golden.weights, strict=False)
    module.set_window(8, "drop")
    module.attention.kernel = nystra.Nystrom.as_published(
        golden.config["num_landmarks"], golden.config["iters"], threshold
    )
    (windows,), (expected,) = golden.cases["b6"]
    assert_close(module(windows), expected)
    goldens.assert_gradients_close(module, golden)


@pytest.mark.parametrize("name", ["pnp_swinir_model_pnp_nystra", "pnp_swinir_model_original"])
def test_networks_are_the_authors(name):
    golden = goldens.load(name)
    arguments = {key: value for key, value in golden.config.items() if key not in ("num_landmarks", "iters", "mech")}
    net = SwinIR(**arguments).eval()
    net.load_state_dict(golden.weights, strict=False)
    # Their "original" has neither bias nor shift masks.
    net.set_window(8, "drop")
    if golden.config["mech"] != "original":
        nystra.substitute(net, nystra.Nystrom.as_published(golden.config["num_landmarks"], golden.config["iters"]))
    for (image,), (expected,) in golden.cases.values():
        with torch.inference_mode():
            assert_close(net(image), expected, atol=2e-5, rtol=1e-4)  # float32 noise of several layers
    goldens.assert_gradients_close(net, golden)
