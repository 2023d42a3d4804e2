"""Closed-form start from dense weights: exact where nothing is reduced, near on genuine modules."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from glmha import GLMHA, ChannelAttention
from glmha.conventions.base import Convention
from glmha.conventions.mst import MSTConvention
from glmha.conventions.restormer import RestormerConvention
from tests.glmha.randomised import exactly, inputs, randomise, relative

GENUINE = Path(__file__).parents[3] / "../shared/data/channel_attention/mdta_32ch_4heads.safetensors"
# Mean over seven genuine modules of the subset's keys with least-squares values and a rank-1 SVD, nothing refined.
REFERENCE = {0.25: 0.36, 0.5: 0.55, 0.75: 0.69}
CONVENTIONS = [RestormerConvention(), RestormerConvention(bias=True), MSTConvention()]


def smooth(channels, size, seed=0):
    """Correlated features, as natural ones are."""
    generator = torch.Generator().manual_seed(seed)
    sources = torch.randn(1, channels // 2, size, size, generator=generator)
    mixing = torch.randn(channels, channels // 2, generator=torch.Generator().manual_seed(9))
    blurred = nn.functional.avg_pool2d(sources, 3, 1, 1)
    return torch.einsum("cs,bshw->bchw", mixing, blurred) + 0.1 * torch.randn(
        1, channels, size, size, generator=generator
    )


def dense_attention(channels, heads, convention):
    torch.manual_seed(3)
    return randomise(ChannelAttention(channels, heads, convention=convention))


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("convention", [*CONVENTIONS, MSTConvention(mask_guided=True, dispersed=False)], ids=str)
def test_nothing_reduced_is_the_dense_module(convention, alpha):
    dense = dense_attention(12, 2, convention).double()
    x, mask = inputs([(2, 12, 9, 8), (1, 12, 9, 8)], torch.float64)
    guide = mask if getattr(convention, "mask_guided", False) else None
    low_rank = GLMHA.from_dense(dense, [x], reduction=0.0, alpha=alpha)
    exactly(low_rank(x, guide), dense(x, guide))


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_closer_than_a_random_start_on_another_image(convention):
    dense = dense_attention(16, 2, convention)
    train, held_out = smooth(16, 24), smooth(16, 24, seed=1)
    with torch.no_grad():
        wanted = dense(held_out)
        started = relative(GLMHA.from_dense(dense, [train])(held_out), wanted)
        random = relative(GLMHA(16, 2, convention=convention)(held_out), wanted)
    assert started < 0.7 * random


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_redundant_channels_are_removed_without_loss(convention):
    """Every channel of K and V twice, in one head: half of them, with values that count twice, do the same."""
    dense = dense_attention(8, 1, convention).double()
    with torch.no_grad():
        if isinstance(convention, RestormerConvention):
            for layer in (dense.qkv, dense.qkv_dwconv):
                for parameter in layer.parameters():
                    for start in (8, 16):
                        parameter[start + 1 : start + 8 : 2] = parameter[start : start + 8 : 2]
        else:
            for layer in (dense.to_q, dense.to_v):
                layer.weight[1::2] = layer.weight[::2]
            dense.pos_emb[0].weight[1::2] = dense.pos_emb[0].weight[::2]
    x = smooth(8, 16).double()
    with torch.no_grad():
        # Ridges and a finite number of sweeps are all that is lost.
        assert relative(GLMHA.from_dense(dense, [x])(x), dense(x)) < 0.01


def test_genuine_modules_stay_near():
    """Calibrated on the halves of image 0, the relative output error on image 1, mean of seven trained modules."""
    if not GENUINE.exists():
        pytest.skip("the trained modules, ../shared/data/channel_attention beside the checkout, are absent")
    tensors = load_file(GENUINE)
    errors = {reduction: [] for reduction in REFERENCE}
    for block in range(7):
        dense = ChannelAttention(32, 4)
        prefix = f"block{block}.weight."
        dense.load_state_dict({key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)})
        train, held_out = (tensors[f"block{block}.image{image}.input"][None] for image in (0, 1))
        for reduction, found in errors.items():
            with torch.no_grad():
                low_rank = GLMHA.from_dense(dense, train.split(32, 3), reduction=reduction)
                found.append(relative(low_rank(held_out), dense(held_out)))
    means = {reduction: sum(found) / len(found) for reduction, found in errors.items()}
    print({reduction: round(mean, 3) for reduction, mean in means.items()})
    for reduction, mean in means.items():
        assert mean <= REFERENCE[reduction]


def test_heads_of_48_channels_are_searched():
    dense = dense_attention(48, 1, RestormerConvention())
    x = smooth(48, 24)
    with torch.no_grad():
        wanted = dense(x)
        assert relative(GLMHA.from_dense(dense, [x])(x), wanted) < relative(GLMHA(48, 1)(x), wanted)


def test_phi_starts_neutral_and_learns():
    dense = dense_attention(8, 2, RestormerConvention())
    low_rank = GLMHA.from_dense(dense, [smooth(8, 16)])
    assert not low_rank.calibration.mix.weight.any()
    low_rank(smooth(8, 16)).square().mean().backward()
    assert low_rank.calibration.mix.weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dense_module_is_left_as_it_is(dtype):
    dense = dense_attention(8, 2, RestormerConvention()).to(dtype)
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    low_rank = GLMHA.from_dense(dense, [smooth(8, 16).to(dtype)], reduction=0.75, alpha=0.3, kernel_size=1)
    assert low_rank.options == {"reduction": 0.75, "alpha": 0.3, "kernel_size": 1}
    assert {parameter.dtype for parameter in low_rank.parameters()} == {dtype}
    for name, tensor in dense.state_dict().items():
        exactly(tensor, before[name], rtol=0, atol=0)


def test_a_convention_without_closed_form_is_refused():
    class Other(RestormerConvention):
        """Derived conventions are started as their base is."""

    class Unknown(Convention):
        build, temperature, tokens, output = (
            getattr(RestormerConvention, name) for name in ("build", "temperature", "tokens", "output")
        )
        bias, _project = False, RestormerConvention._project

        def __repr__(self):
            return "Unknown()"

    x = [torch.rand(1, 8, 8, 8)]
    assert GLMHA.from_dense(ChannelAttention(8, 2, convention=Other()), x).key_channels == 4
    dense = ChannelAttention(8, 2, convention=Unknown())
    with pytest.raises(TypeError, match=r"convention \(Unknown\(\)\) must be Restormer's or MST's to be started"):
        GLMHA.from_dense(dense, x)
    # Nothing is fitted at full rank: the dense weights are copied in any convention.
    exactly(GLMHA.from_dense(dense, x, reduction=0)(x[0]), dense(x[0]), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("attention", "features", "options", "error", "message"),
    [
        (ChannelAttention(8, 2), [], {}, ValueError, "at least one"),
        (ChannelAttention(8, 2), [torch.rand(1, 6, 8, 8)], {}, ValueError, r"features\[0\] must have the shape"),
        (ChannelAttention(8, 2), [torch.rand(8, 8, 8)], {}, ValueError, r"features\[0\] must have the shape"),
        (ChannelAttention(8, 2), [torch.rand(1, 8, 8, 8)], {"reduction": 1.0}, ValueError, "reduction"),
        (GLMHA(8, 2), [torch.rand(1, 8, 8, 8)], {}, TypeError, "got GLMHA"),
    ],
)
def test_from_dense_says_what_is_wrong(attention, features, options, error, message):
    with pytest.raises(error, match=message):
        GLMHA.from_dense(attention, features, **options)
