"""Attention with absorbed maps is the same attention."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

import nystra
from nystra.hosts.swinir.blocks import SwinAttention
from nystra.hosts.uformer.network import UformerAttention
from nystra.kernels.projections import KEY, QUERY, VALUE, Projections
from nystra.windows import Cut
from tests import goldens


@dataclasses.dataclass(frozen=True)
class Forced(nystra.PublishedNystrom):
    """The authors' arithmetic, with absorbed maps or without."""

    absorb: bool = True

    def absorbs(self, heads, channels):
        return self.absorb


@pytest.mark.parametrize("biased", [True, False])
def test_logits_sums_and_mixtures_are_those_of_projected_tokens(biased):
    torch.manual_seed(0)
    linear, output = (torch.nn.Linear(6, size, bias=biased, dtype=torch.float64) for size in (18, 6))
    projections = Projections.of(linear.weight, linear.bias, output, heads=3)
    tokens, vectors = torch.randn(4, 7, 6, dtype=torch.float64), torch.randn(2, 4, 3, 5, 2, dtype=torch.float64)
    query, key, value = projections.heads(tokens)
    assert_close(torch.cat([query, key, value], 3).shape, torch.Size([4, 3, 7, 6]))
    logits = projections.logits(tokens, (QUERY, vectors[0]), (KEY, vectors[1])).unflatten(2, (2, 3, 5))
    assert_close(logits[:, :, 0], (query @ vectors[0].mT).movedim(1, 2), rtol=1e-10, atol=1e-12)
    assert_close(logits[:, :, 1], (key @ vectors[1].mT).movedim(1, 2), rtol=1e-10, atol=1e-12)
    weights = torch.rand(4, 3, 5, 7, dtype=torch.float64)
    sums = weights @ tokens.unsqueeze(1)
    assert_close(projections.sums(VALUE, sums, weights.sum(3)), weights @ value, rtol=1e-10, atol=1e-12)
    attended = (weights.mT @ vectors[0]).transpose(1, 2).flatten(2)
    mixed = projections.mix(weights.permute(0, 3, 1, 2).flatten(2), vectors[0])
    assert_close(mixed, output(attended), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("attention", "threshold"), [(SwinAttention, 5.0), (UformerAttention, 0.0)])
def test_absorbed_maps_give_the_same_outputs_and_gradients(attention, threshold):
    torch.manual_seed(0)
    module = attention(12, (8, 8), 3).double()
    features = torch.randn(1, 16, 24, 12, dtype=torch.float64)
    results = []
    for absorb in (True, False):
        module.kernel = Forced(4, 3, threshold, absorb)
        output = module(features, Cut((16, 24), (8, 8)))
        results.append([output, *torch.autograd.grad(output.square().sum(), [*module.parameters()], allow_unused=True)])
    for mine, wanted in zip(*results, strict=True):
        assert_close(mine, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "attention", "threshold"),
    [("pnp_swinir_module", SwinAttention, 5.0), ("pnp_uformer_module", UformerAttention, 0.0)],
)
def test_absorbed_maps_reproduce_the_authors_modules(name, attention, threshold):
    golden = goldens.load(name)
    module = goldens.OnWindows(attention(24, (8, 8), 3).eval())
    module.load_state_dict(golden.weights, strict=False)
    module.set_window(8, "drop")
    module.attention.kernel = Forced(golden.config["num_landmarks"], golden.config["iters"], threshold)
    (windows,), (expected,) = golden.cases["b6"]
    assert_close(module(windows), expected)


def test_maps_are_absorbed_where_that_is_cheaper():
    # Multiply-adds a token, C = h·d: 4·h·m·C absorbed, 4·C² + 4·m·C else.
    for heads, channels, landmarks in ((6, 30, 16), (6, 30, 40), (2, 8, 16), (1, 32, 1000)):
        dim = heads * channels
        cheaper = 4 * heads * landmarks * dim < 4 * dim**2 + 4 * landmarks * dim
        assert nystra.Nystrom.as_published(landmarks).absorbs(heads, channels) == cheaper
    assert not nystra.LandmarkPooling().absorbs(6, 30)
    with pytest.raises(NotImplementedError, match="LandmarkPooling needs every token's query"):
        nystra.LandmarkPooling().absorbed(torch.empty(0), None, None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_no_more_than_the_rounding_of_the_tokens(dtype):
    torch.manual_seed(0)
    module = SwinAttention(60, (16, 16), 6).eval().requires_grad_(requires_grad=False)
    module.bias_mode, module.kernel = "drop", nystra.Nystrom.as_published(4, 3)
    assert module.kernel.absorbs(6, 10)
    features, cut = 3 * torch.randn(4, 16, 16, 60), Cut((16, 16), (16, 16))
    exact = module(features, cut)
    with torch.autocast("cpu", dtype):
        automatic = module(features, cut)
    half = module.to(dtype)(features.to(dtype), cut)
    for result in (automatic, half):
        error = (result.float() - exact).norm()
        assert error < (0.01 if dtype == torch.bfloat16 else 0.002) * exact.norm()
