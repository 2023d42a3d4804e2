"""The transcriptions against recorded outputs of the official code, and GLMHA's against the dense ones."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import nystra
from tests import goldens
from tests.glmha.randomised import randomise
from tests.reference import dehazeformer, glmha, mst, mst_plus_plus, restormer, swinir, uformer


def restricted(net: Callable[..., nn.Module], **only: Any) -> Callable[..., nn.Module]:
    """A transcription without arguments of which it has one value only."""

    def make(**config: Any) -> nn.Module:
        assert {key: config.pop(key, value) for key, value in only.items()} == only
        return net(**config)

    return make


swinir_sr = restricted(swinir.SwinIR, resi_connection="1conv")
uformer_leff = restricted(uformer.Uformer, token_projection="linear", token_mlp="leff")

MODULES: dict[str, Callable[..., nn.Module]] = {
    "restormer_layernorm_withbias": restormer.LayerNorm,
    "restormer_layernorm_biasfree": restormer.LayerNorm,
    "restormer_mdta": restormer.MDTA,
    "restormer_gdfn": restormer.GDFN,
    "restormer_small_withbias": restormer.Restormer,
    "restormer_small_biasfree": restormer.Restormer,
    "restormer_small_gray": restormer.Restormer,
    "restormer_small_dualpixel": restormer.Restormer,
    "mst_mask_guided": mst.DispersedMaskAttention,
    "mst_msmsa_mask": partial(mst.MSMSA, mask_attention=mst.DispersedMaskAttention),
    "mst_small": mst.MST,
    "mstpp_msmsa": mst.MSMSA,
    "mstpp_small": mst_plus_plus.MSTPlusPlus,
    "swinir_window_attention": swinir.WindowAttention,
    "swinir_small_direct_x4": swinir_sr,
    "swinir_small_pixelshuffle_x2": swinir_sr,
    "swinir_small_pixelshuffle_x4": swinir_sr,
    "dehazeformer_window_attention": dehazeformer.WindowAttention,
    "dehazeformer_skfusion": dehazeformer.SKFusion,
    "dehazeformer_small_t": dehazeformer.DehazeFormer,
    "dehazeformer_small_conv": dehazeformer.DehazeFormer,
    "dehazeformer_small_dwconv": dehazeformer.DehazeFormer,
    "dehazeformer_small_noconv": dehazeformer.DehazeFormer,
    "uformer_leff": uformer.LeFF,
    "uformer_small_shift": uformer_leff,
    "uformer_small_noshift": uformer_leff,
}
RELEASED: dict[str, Callable[..., nn.Module]] = {
    "restormer_deraining": restormer.Restormer,
    "restormer_motion_deblurring": restormer.Restormer,
    "restormer_single_defocus": restormer.Restormer,
    "restormer_dual_defocus": restormer.Restormer,
    "restormer_gauss_color_denoising": restormer.Restormer,
    "restormer_gauss_gray_denoising": restormer.Restormer,
    "restormer_real_denoising": restormer.Restormer,
    "mst_s": mst.MST,
    "mst_m": mst.MST,
    "mst_l": mst.MST,
    "mst_s_real": mst.RealMST,
    "mst_m_real": mst.RealMST,
    "mst_l_real": mst.RealMST,
    "mst_l_rgb2hsi": mst.RGBMST,
    "mst_plus_plus": mst_plus_plus.MSTPlusPlus,
    "mst_plus_plus_cassi": mst_plus_plus.CassiMSTPlusPlus,
    "swinir_classical_x2_p64": swinir_sr,
    "swinir_lightweight_x2": swinir_sr,
    "dehazeformer_t": dehazeformer.DehazeFormer,
    "dehazeformer_b": dehazeformer.DehazeFormer,
    "uformer_T": uformer_leff,
    "uformer_B": uformer_leff,
}


def build(name: str, golden: goldens.Golden) -> nn.Module:
    net = MODULES[name](**golden.config).eval()
    # Files leave out most buffers: those are the net's own.
    net.load_state_dict(dict(net.named_buffers()) | golden.buffers | golden.weights)
    return net


def test_every_golden_has_a_transcription():
    families = ("restormer", "mst")
    files = {path.stem for path in goldens.DIRECTORY.glob("*.json") if path.stem.startswith(families)}
    keys = {path.name.removesuffix(".keys.json") for path in (goldens.DIRECTORY / "keys").glob("*.json")}
    assert files == {name for name in MODULES if name.startswith(families)} | {"mst_small_256"}
    assert {key for key in keys if key.startswith(families)} == {key for key in RELEASED if key.startswith(families)}


@pytest.mark.parametrize("name", MODULES)
def test_outputs(name):
    golden = goldens.load(name)
    net = build(name, golden)
    for inputs, (expected,) in golden.cases.values():
        with torch.no_grad():
            assert_close(net(*inputs), expected)


@pytest.mark.parametrize("name", MODULES)
def test_gradients(name):
    golden = goldens.load(name)
    if golden.cotangent is not None:
        goldens.assert_gradients_close(build(name, golden), golden)


@pytest.mark.parametrize("model", RELEASED)
def test_released_keys(model):
    released = goldens.load_keys(model)
    with torch.device("meta"):
        net = RELEASED[model](**released["config"])
    assert [(key, list(tensor.shape)) for key, tensor in net.state_dict().items()] == list(released["keys"].items())
    assert sum(parameter.numel() for parameter in net.parameters()) == released["params_total"]


SMALL_UFORMER = {
    "embed_dim": 4,
    "depths": (1, 2, 1, 1, 2, 1, 1, 2, 1),
    "win_size": 4,
    "mlp_ratio": 2.0,
    "modulator": True,
}


@pytest.mark.parametrize(
    ("host", "net", "config", "size"),
    [
        (
            nystra.SwinIR,
            swinir.SwinIR,
            {"img_size": 16, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3), "window_size": 8} | upsampling,
            size,
        )
        for upsampling in (
            {"upscale": 4, "upsampler": "pixelshuffle"},
            {"upscale": 3, "upsampler": "pixelshuffledirect", "img_range": 255.0},
        )
        for size in ((16, 16), (19, 30))
    ]
    + [
        (
            nystra.DehazeFormer,
            dehazeformer.DehazeFormer,
            {"embed_dims": (8, 12, 16, 12, 8), "num_heads": (2, 3, 2, 1, 1), "depths": (3, 2, 2, 1, 1)},
            (37, 46),
        ),
        (nystra.Uformer, uformer.Uformer, SMALL_UFORMER | {"img_size": 64}, (64, 64)),
        (nystra.Uformer, uformer.Uformer, SMALL_UFORMER, (128, 128)),
    ],
)
def test_the_host_is_its_transcription(host, net, config, size):
    torch.manual_seed(0)
    exact = randomise(host(**config)).double().eval()
    published = net(**config).double().eval()
    published.load_state_dict(exact.state_dict())
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        # DehazeFormer's buffer of offsets is rounded to float32.
        assert_close(exact(image), published(image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "input_shapes", "output_shape"),
    [
        (mst.RealMST(stage=1, num_blocks=(1, 1)), [(2, 16, 70)], (2, 28, 16, 16)),
        (mst.RGBMST(dim=31, stage=1, num_blocks=(1, 1)), [(2, 3, 13, 18)], (2, 31, 13, 18)),
        (mst_plus_plus.CassiMSTPlusPlus(stage=1), [(2, 28, 13, 18)] * 2, (2, 28, 13, 18)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_shapes_of_nets_without_recorded_outputs(net, input_shapes, output_shape):
    assert net(*(torch.rand(shape) for shape in input_shapes)).shape == output_shape


def test_mst_at_the_trained_size():
    golden = goldens.load("mst_small_256")
    net = mst.MST(**golden.config).eval()
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
    assert_close(out[:, :, ::8, ::8], golden.cases["sub8"][1][0])
    assert_close(out[:, ::9, :, -4:], golden.cases["edge"][1][0])
    assert_close(out_all_ones[:, :, ::16, ::16], golden.cases["allones_mask.sub16"][1][0])


def test_mst_without_a_mask_sees_zeros():
    golden = goldens.load("mst_small")
    net = build("mst_small", golden)
    x = torch.rand(1, 28, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert_close(net(x), net(x, torch.zeros(1, 28, 256, 310)))


def random_calibration(channels: int, heads: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    per_head = channels // heads
    return {
        "calibration_dwconv": torch.randn(channels, 1, 3, 3, generator=generator, dtype=torch.float64),
        "calibration_linear": torch.randn(per_head, per_head, generator=generator, dtype=torch.float64),
    }


def restormer_weights(golden: goldens.Golden) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a dense MDTA's fused projections into GLMHA's, in float64."""
    weights: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for key, tensor in golden.weights.items():
        name, _, kind = key.partition(".")
        target = biases if kind == "bias" else weights
        if name.startswith("qkv"):
            for letter, part in zip("qkv", tensor.double().chunk(3), strict=True):
                target[letter + name.removeprefix("qkv")] = part
        else:
            target[name] = tensor.double()
    return weights, biases


def mst_weights(golden: goldens.Golden) -> dict[str, Tensor]:
    """Name a dense spectral attention's tensors as GLMHA's, in float64."""
    return {
        "proj_bias" if key == "proj.bias" else key.removesuffix(".weight"): tensor.double()
        for key, tensor in golden.weights.items()
    }


def test_restormer_glmha_without_reduction_and_calibration_is_the_official_attention():
    golden = goldens.load("restormer_mdta")
    weights, biases = restormer_weights(golden)
    weights |= random_calibration(golden.config["dim"], golden.config["num_heads"])
    for (x,), (expected,) in golden.cases.values():
        out = glmha.restormer_glmha(x.double(), weights, biases, alpha=0.0)
        assert_close(out.float(), expected)


def test_mst_glmha_without_reduction_and_calibration_is_the_official_attention():
    golden = goldens.load("mstpp_msmsa")
    weights = mst_weights(golden) | random_calibration(golden.config["dim"], golden.config["heads"])
    for (x,), (expected,) in golden.cases.values():
        assert_close(glmha.mst_glmha(x.double(), weights, alpha=0.0).float(), expected)


def test_mst_glmha_applies_the_mask_after_the_positional_branch():
    golden = goldens.load("mst_msmsa_mask")
    (x, mask), (expected,) = golden.cases["s64x64"]
    weights = mst_weights(golden) | random_calibration(golden.config["dim"], golden.config["heads"])
    mask_attention = build("mst_msmsa_mask", golden).mm.double()
    with torch.no_grad():
        weights_of_v = mask_attention(mask.double().permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out = glmha.mst_glmha(x.double(), weights, alpha=0.0, mask_attention=weights_of_v)
    assert_close(out.float(), expected)


def test_calibration_multiplies_the_input_of_k_and_v():
    golden = goldens.load("restormer_mdta")
    heads = golden.config["num_heads"]
    weights, biases = restormer_weights(golden)
    biases = {}
    weights |= random_calibration(golden.config["dim"], heads)
    x = golden.cases["s16x24"][0][0].double()
    q = nn.functional.conv2d(x, weights["q"])
    q = nn.functional.conv2d(q, weights["q_dwconv"], padding=1, groups=q.shape[1])
    a = glmha.calibration(q, weights["calibration_dwconv"], weights["calibration_linear"], heads)
    assert a.abs().max() > 0.5, "a calibration near zero would test nothing"
    for image, vector, out in zip(x, a, glmha.restormer_glmha(x, weights, biases, alpha=0.6), strict=True):
        folded = {name: weights[name] * (1 + 0.6 * vector)[:, None, None] for name in ("k", "v")}
        expected = glmha.restormer_glmha(image[None], weights | folded, biases, alpha=0.0)
        assert_close(out[None], expected, rtol=1e-10, atol=1e-12)


def test_calibration_by_scalars():
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(2, 6, 5, 7, generator=generator, dtype=torch.float64)
    weights = random_calibration(channels=6, heads=2)
    dwconv, linear = weights["calibration_dwconv"], weights["calibration_linear"]
    expected = torch.empty(2, 6, dtype=torch.float64)
    for b in range(2):
        squeezed = []
        for c in range(6):
            total = torch.zeros((), dtype=torch.float64)
            for row in range(3):
                for column in range(3):
                    cell = q[b, c, 5 * row // 3 : -(-5 * (row + 1) // 3), 7 * column // 3 : -(-7 * (column + 1) // 3)]
                    total = total + dwconv[c, 0, row, column] * cell.max()
            squeezed.append(total * (1 + torch.erf(total / 2**0.5)) / 2)
        for i in range(6):
            head = i // 3
            expected[b, i] = torch.tanh(sum(linear[i % 3, j] * squeezed[3 * head + j] for j in range(3)))
    assert_close(glmha.calibration(q, dwconv, linear, heads=2), expected, rtol=1e-10, atol=1e-12)


def test_low_rank_attention_by_scalars():
    generator = torch.Generator().manual_seed(2)
    q = torch.randn(1, 6, 2, 4, generator=generator, dtype=torch.float64)
    k, v = torch.randn(2, 1, 4, 2, 4, generator=generator, dtype=torch.float64)
    scale = torch.tensor([1.5, 0.5], dtype=torch.float64)[:, None, None]
    out = glmha.low_rank_attention(q, k, v, scale)
    for i in range(6):
        head = i // 3
        of_head = range(2 * head, 2 * head + 2)
        cosines = [(q[0, i] * k[0, j]).sum() / (q[0, i].norm() * k[0, j].norm()) for j in of_head]
        weights = [torch.exp(scale[head] * cosine) for cosine in cosines]
        expected = sum(weight * v[0, j] for weight, j in zip(weights, of_head, strict=True)) / sum(weights)
        assert_close(out[0, i], expected, rtol=1e-10, atol=1e-12)


def test_positional_branch_reads_neighbours_within_the_head():
    assert glmha.position_sources(channels=12, reduced=4, heads=2) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert glmha.position_sources(channels=5, reduced=3, heads=1) == [0, 0, 1, 1, 2]
    assert glmha.position_sources(channels=6, reduced=6, heads=2) == list(range(6))


def test_calibration_multiplies_the_input_of_mst_k_and_v_at_low_rank():
    golden = goldens.load("mstpp_msmsa")
    heads = golden.config["heads"]
    weights = mst_weights(golden) | random_calibration(golden.config["dim"], heads)
    kept = [*range(5), *range(16, 21)]
    for name in ("to_q", "to_v", "pos_emb.0"):
        weights[name] = weights[name][kept]
    x = golden.cases["s16x20"][0][0].double()
    q = (x @ weights["to_k"].T).permute(0, 3, 1, 2)
    a = glmha.calibration(q, weights["calibration_dwconv"], weights["calibration_linear"], heads)
    for image, vector, out in zip(x, a, glmha.mst_glmha(x, weights, alpha=0.6), strict=True):
        folded = {name: weights[name] * (1 + 0.6 * vector) for name in ("to_q", "to_v")}
        expected = glmha.mst_glmha(image[None], weights | folded, alpha=0.0)
        assert_close(out[None], expected, rtol=1e-10, atol=1e-12)
