"""The native program of norm, linear maps, activation and residual against plain torch."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from nystra.hosts.layers import PointwiseConv, add_branch, mlp, natively
from nystra.programs.cpu.library import load
from nystra.programs.cpu.linear_maps import linear_maps
from nystra.programs.operators import plain_torch

pytestmark = pytest.mark.skipif(load() is None, reason="there are no native programs here")

ACTIVATIONS = {"none": nn.Identity(), "relu": nn.ReLU(), "gelu": nn.GELU()}


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(
    x: Tensor,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    epsilon: float,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    second_weight: Tensor | None,
    second_bias: Tensor | None,
    residual: Tensor | None,
) -> Tensor:
    if epsilon >= 0:
        x = F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, epsilon)
    x = ACTIVATIONS[activation](F.linear(x, weight, bias))
    if second_weight is not None:
        x = F.linear(x, second_weight, second_bias)
    return x if residual is None else x + residual


@given(
    st.integers(1, 200),
    st.integers(1, 70),
    st.integers(1, 70),
    st.none() | st.integers(1, 70),
    st.sampled_from(sorted(ACTIVATIONS)),
    st.tuples(*[st.booleans()] * 6),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
@settings(max_examples=60, deadline=None)
def test_it_is_plain_torch_in_float64(rows, channels, hidden, outputs, activation, there, dtype):
    norm, scaled, shifted, biased, second_biased, added = there
    last = outputs or hidden
    parts = [
        numbers(channels) if norm and scaled else None,
        numbers(channels) if norm and shifted else None,
        1e-5 if norm else -1.0,
        numbers(hidden, channels) / math.sqrt(channels),
        numbers(hidden) if biased else None,
        activation,
        numbers(outputs, hidden) / math.sqrt(hidden) if outputs else None,
        numbers(outputs) if outputs and second_biased else None,
        numbers(rows, last, seed=3) if added else None,
    ]
    # Those that are computed with are rounded; variances of one channel or of few like ones are left out.
    x = numbers(rows, channels, seed=2) + torch.arange(channels) % 2
    rounded = [part.to(dtype) if isinstance(part, Tensor) else part for part in (x, *parts)]
    result = linear_maps(*rounded)
    expected = reference(*[part.double() if isinstance(part, Tensor) else part for part in rounded])
    tolerance = {"rtol": 2e-5, "atol": 3e-5} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 1e-2}
    assert result.dtype == dtype
    if not (norm and channels == 1):
        assert_close(result.double(), expected, **tolerance)


def test_many_inputs_are_summed_in_parts():
    x, weight, second = numbers(130, 700), numbers(600, 700) / 26, numbers(50, 600) / 25
    parts = (None, None, -1.0, weight, None, "gelu", second, None, None)
    result = linear_maps(*(part.float() if isinstance(part, Tensor) else part for part in (x, *parts)))
    assert_close(result.double(), reference(x, *parts), rtol=1e-4, atol=1e-4)


def test_rows_may_lie_apart():
    x, weight, residual = numbers(8, 11, 40).float(), numbers(9, 10).float(), numbers(11, 8, 30).float().transpose(0, 1)
    for view in (x[..., 3:13], x.transpose(0, 1)[..., :10], x[..., ::4]):
        result = linear_maps(view, None, None, -1.0, weight, None, "none", None, None, None)
        assert_close(result, F.linear(view, weight))
    result = linear_maps(x[..., 3:13], None, None, -1.0, weight, None, "none", None, None, residual[..., 5:14])
    assert_close(result, F.linear(x[..., 3:13], weight) + residual[..., 5:14])


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_numbers_that_are_none_stay_so(activation):
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 100.0, -100.0, 1e-40]).repeat(9, 1).T
    weight = torch.ones(4, 1)
    result = linear_maps(x.reshape(-1, 1), None, None, -1.0, weight, None, activation, None, None, None)
    assert_close(result, ACTIVATIONS[activation](F.linear(x.reshape(-1, 1), weight)), equal_nan=True)


def test_it_is_independent_of_the_batch_and_of_threads():
    x, weight = numbers(500, 33).float(), numbers(21, 33).float()
    parts = (None, None, 1e-5, weight, None, "gelu", None, None, None)
    whole = linear_maps(x, *parts)
    assert torch.equal(linear_maps(x[100:300], *parts), whole[100:300])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(linear_maps(x, *parts), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("features", {"features": (100, 7)}),
        ("second_weight", {"second_weight": (5, 13)}),
        ("bias", {"bias": (11,)}),
        ("residual", {"residual": (99, 6)}),
        ("norm_weight", {"norm_weight": (1,)}),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name, wrong):
    shapes = {"features": (100, 8), "norm_weight": (8,), "weight": (12, 8), "bias": (12,), "second_weight": (6, 12)}
    parts = {key: torch.zeros(shape) for key, shape in (shapes | {"residual": (100, 6)} | wrong).items()}
    with pytest.raises(ValueError, match=name):
        linear_maps(
            parts["features"], parts["norm_weight"], None, 1e-5, parts["weight"], parts["bias"], "none",
            parts["second_weight"], None, parts["residual"],
        )  # fmt: skip


class Doubled(nn.Linear):
    """A linear map with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """Map to twice of what its parent does."""
        return 2 * super().forward(x)


def test_a_branch_is_one_program_and_the_same():
    norm, layers, x = nn.LayerNorm(20), mlp(20, 50), numbers(2, 8, 8, 20).float()
    with torch.no_grad():
        assert natively(x, norm, layers, residual=x) is not None
        with plain_torch():
            assert natively(x, norm, layers, residual=x) is None
            expected = add_branch(x, norm, layers)
        assert_close(add_branch(x, norm, layers), expected)


@torch.no_grad()
def test_what_else_a_layer_does_is_done():
    x = numbers(100, 12).float()
    assert natively(x, nn.Linear(12, 12)) is not None
    assert natively(x, PointwiseConv(12, 12)) is not None
    assert natively(x, Doubled(12, 12)) is None
    assert natively(x, nn.Linear(12, 12), nn.GELU("tanh")) is None
    assert natively(x, nn.Linear(12, 12), nn.Dropout(0.5)) is None
    assert natively(x, nn.Linear(12, 12), nn.Dropout(0.5).eval()) is not None
    assert natively(x, nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU()) is None
    assert natively(x, nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 12)) is None
    assert natively(x, nn.LayerNorm(12)) is None
    assert natively(x.double(), nn.Linear(12, 12).double()) is None
    assert natively(x[:20], nn.Linear(12, 12)) is None, "packing takes longest"
    layers = mlp(12, 12)
    seen: list[Tensor] = []
    handle = layers.fc1.register_forward_hook(lambda module, inputs, result: seen.append(result))
    add_branch(x, layers)
    handle.remove()
    assert len(seen) == 1
    layers.register_forward_hook(lambda module, inputs, result: seen.append(result))
    add_branch(x, layers)
    assert len(seen) == 2
    with torch.autocast("cpu", torch.bfloat16):
        assert natively(x, nn.Linear(12, 12)) is None
    with torch.enable_grad():
        assert natively(x, nn.Linear(12, 12)) is None


@torch.no_grad()
def test_traces_have_it_as_an_operator():
    net, x = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 12)).eval(), numbers(100, 12).float()

    class Branch(nn.Module):
        """A branch of layers."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = net

        def forward(self, x: Tensor) -> Tensor:
            """Add the branch."""
            return add_branch(x, self.layers)

    exported = torch.export.export(Branch(), (x,))
    assert "nystra.linear_maps" in str(exported.graph)
    assert_close(exported.module()(x), Branch()(x))
    torch.library.opcheck(
        torch.ops.nystra.linear_maps.default, (x, None, None, 1e-5, net[1].weight, None, "gelu", None, None, x)
    )


class Labelled(Tensor):
    """A tensor of a class that no program knows."""


@torch.no_grad()
def test_tensors_that_are_not_parameters_or_of_other_classes_are_taken_as_torch_takes_them():
    layer, x = nn.Linear(12, 12), numbers(100, 12).float()
    expected = F.linear(x, layer.weight, layer.bias)
    # As copies of `nn.DataParallel` have it.
    weight = layer.weight.detach().clone()
    del layer.weight
    layer.weight = weight
    assert_close(add_branch(x, layer), x + expected)
    layer.weight = weight.as_subclass(Labelled)
    assert natively(x, layer) is None
    layer.weight = weight
    assert_close(torch.vmap(lambda part: add_branch(part, layer))(x.expand(2, 100, 12))[1], x + expected)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_what_is_recorded_is_the_operator():
    layer, x = nn.Linear(12, 12).requires_grad_(False), numbers(100, 12).float()
    graph = str(torch.jit.trace(lambda x: add_branch(x, layer), (x,), check_trace=False).inlined_graph)
    assert "nystra::linear_maps" in graph


@torch.no_grad()
def test_branches_in_bfloat16_are_compiled_whole():
    layers, x = mlp(12, 12).bfloat16(), numbers(100, 12).bfloat16()
    compiled = torch.compile(lambda x: add_branch(x, layers), fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), add_branch(x, layers))
