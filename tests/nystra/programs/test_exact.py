"""The native program of exact attention against plain torch in float64, and in everything that torch does around it."""

import concurrent.futures
import copy
import io
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from nystra import Softmax, WindowGeometry
from nystra.hosts.swinir.network import SwinIR
from nystra.programs.cpu import exact, library
from nystra.programs.cpu.library import load
from nystra.programs.operators import plain_torch
from nystra.windows import Cut
from nystra.windows.position_bias import TableBias

pytestmark = pytest.mark.skipif(load() is None, reason="there are no native programs here")

HEADS = 3


def geometry_of(window: tuple[int, int], biased: bool, shift: tuple[int, int], dtype: torch.dtype) -> WindowGeometry:
    generator = torch.Generator().manual_seed(1)
    rows = math.prod(2 * side - 1 for side in window)
    table = torch.randn(rows, HEADS, generator=generator, dtype=torch.float64).to(dtype)
    return WindowGeometry(window, (2, 3), shift, TableBias(table, window) if biased else None)


def tokens(window: tuple[int, int], channels: int, windows: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return list(torch.randn(3, windows, HEADS, math.prod(window), channels, generator=generator, dtype=torch.float64))


def explicit(query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry) -> Tensor:
    """Softmax written out, window kind by window kind."""
    result = torch.empty_like(value)
    windows = [part.unflatten(0, (-1, *geometry.grid)) for part in (query, key, value, result)]
    for places, kind in geometry.kinds(query.device):
        q, k, v, to = (part[(slice(None), *places)] for part in windows)
        to.copy_((q @ k.mT + kind.all_logits().to(q.dtype)).softmax(-1) @ v)
    return result


@torch.inference_mode()
def natively(query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry) -> Tensor:
    """Attend by the native program; no other may answer."""
    cut = Cut(geometry.window, geometry.window)
    maps = [windows.unflatten(2, geometry.window).permute(0, 2, 3, 1, 4) for windows in (query, key, value)]
    result = Softmax().attend_natively(*maps, geometry, cut)
    assert result is not None
    return result.flatten(1, 2).transpose(1, 2)


@pytest.mark.parametrize("channels", [1, 5, 8, 16, 30, 32, 33, 64])
@pytest.mark.parametrize("window", [(7, 7), (8, 8), (6, 12), (16, 16), (1, 3)], ids=str)
def test_it_is_softmax_attention(window, channels):
    inputs = tokens(window, channels)
    for biased in (False, True):
        for shift in ((0, 0), (window[0] // 2, window[1] // 2)):
            expected = explicit(*inputs, geometry_of(window, biased, shift, torch.float64))
            actual = natively(*(part.float() for part in inputs), geometry_of(window, biased, shift, torch.float32))
            assert actual.dtype == torch.float32
            # Twice the rounding of float32 logits of size 30.
            assert_close(actual.double(), expected, rtol=2e-5, atol=2e-5)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    window=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.integers(1, 70),
    shift=st.tuples(st.integers(0, 19), st.integers(0, 19)),
    biased=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_windows_of_any_size(window, channels, shift, biased, dtype):
    shift = (shift[0] % window[0], shift[1] % window[1])
    inputs = [part.to(dtype) for part in tokens(window, channels)]
    # The bias enters in float32, and so do products: only inputs and outputs are rounded.
    expected = explicit(*(part.double() for part in inputs), geometry_of(window, biased, shift, torch.float64))
    actual = natively(*inputs, geometry_of(window, biased, shift, torch.float32))
    tolerance = 2e-5 if dtype == torch.float32 else 1e-2
    assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)


def test_inputs_may_be_strided():
    geometry = geometry_of((8, 8), True, (4, 4), torch.float32)
    query, key, value = (part.float() for part in tokens((8, 8), 12))
    expected = natively(query, key, value, geometry)
    # One tensor of all three, as a linear map writes it: (W, N, 3, h, d).
    packed = torch.stack([query, key, value], 2).permute(0, 3, 2, 1, 4).contiguous()
    assert torch.equal(natively(*packed.permute(2, 0, 3, 1, 4), geometry), expected)
    # Channels that do not lie side by side.
    apart = [part.mT.contiguous().mT for part in (query, key, value)]
    assert apart[0].stride(-1) != 1
    assert torch.equal(natively(*apart, geometry), expected)
    every_second = [torch.stack([part, part], -1)[..., 0] for part in (query, key, value)]
    assert torch.equal(natively(*every_second, geometry), expected)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", range(3), ids=["query", "key", "value"])
@pytest.mark.parametrize("channels", [5, 16])
def test_numbers_that_are_not_finite_go_where_explicit_softmax_has_them(number, which, channels):
    geometry = geometry_of((7, 7), True, (0, 0), torch.float32)
    inputs = [part.float() for part in tokens((7, 7), channels)]
    inputs[which][1, 2, 3, 4] = number
    expected, actual = explicit(*inputs, geometry), natively(*inputs, geometry)
    assert not expected.isfinite().all()
    assert torch.equal(actual.isnan(), expected.isnan())
    assert_close(actual, expected, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_logits_that_are_all_minus_infinity_give_nan():
    query = torch.full((1, 1, 16, 8), 1e30)
    geometry = WindowGeometry((4, 4))
    assert natively(query, -query, query, geometry).isnan().all()


def test_a_window_does_not_depend_on_its_batch():
    geometry = geometry_of((8, 8), True, (4, 4), torch.float32)
    inputs = [part.float() for part in tokens((8, 8), 20, windows=18)]
    together = natively(*inputs, geometry)
    for image in range(3):
        alone = [part[6 * image : 6 * image + 6] for part in inputs]
        assert torch.equal(natively(*alone, geometry), together[6 * image : 6 * image + 6])


def test_threads_do_not_change_a_bit():
    cases = [((8, 8), 6), ((32, 32), 1), ((7, 7), 1)]
    results = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            results.append([natively(*(x.float() for x in tokens(w, 9, n)), WindowGeometry(w)) for w, n in cases])
        finally:
            torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_several_python_threads_at_once():
    geometry = geometry_of((8, 8), True, (4, 4), torch.float32)
    inputs = [part.float() for part in tokens((8, 8), 20)]
    expected = natively(*inputs, geometry)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for result in pool.map(lambda _: natively(*inputs, geometry), range(60)):
            assert torch.equal(result, expected)


def test_autocast_sets_the_precision():
    geometry = geometry_of((8, 8), True, (4, 4), torch.float32)
    inputs = [part.float() for part in tokens((8, 8), 20)]
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        actual = Softmax()(*inputs, geometry)
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual, natively(*(part.bfloat16() for part in inputs), geometry))


def test_gradients_take_the_plain_path():
    geometry = geometry_of((8, 8), True, (4, 4), torch.float32)
    gradients = []
    for forbid in (False, True):
        inputs = [part.float().requires_grad_() for part in tokens((8, 8), 6)]
        if forbid:
            with plain_torch():
                result = Softmax()(*inputs, geometry)
        else:
            result = Softmax()(*inputs, geometry)
        gradients.append(torch.autograd.grad(result.square().sum(), inputs))
    for free, plain in zip(*gradients, strict=True):
        assert torch.equal(free, plain)


def test_the_operator_keeps_torchs_rules():
    query, key, value = torch.randn(3, 1, 8, 16, HEADS, 5).unbind()
    geometry = geometry_of((8, 8), True, (4, 4), torch.float32)
    bias = exact.bias_table(geometry, query.device, load())
    arguments = (query, key, value, bias, [8, 8], [4, 4], [0, 0, 0, 0], [2, 3], 1, [4, 4])
    torch.library.opcheck(torch.ops.nystra.exact_attention.default, arguments)


@pytest.fixture
def network() -> SwinIR:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "embed_dim": 12,
        "depths": (2,),
        "num_heads": (2,),
        "window_size": 8,
        "mlp_ratio": 1,
        "upscale": 1,
    }
    return SwinIR(**sizes).eval()


def test_a_network_that_has_run_natively_is_copied_and_pickled(network):
    images = torch.rand(1, 3, 20, 28)
    with torch.inference_mode():
        expected = network(images)
        file = io.BytesIO()
        torch.save(network, file)
        file.seek(0)
        for other in (copy.deepcopy(network), torch.load(file, weights_only=False)):
            assert torch.equal(other(images), expected)
        with plain_torch():
            assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_network_is_compiled_and_exported_with_the_operator(network):
    images = torch.rand(1, 3, 16, 24)
    expected = network(images)
    assert_close(torch.compile(network, fullgraph=True, backend="aot_eager")(images), expected)
    program = torch.export.export(network, (images,))
    assert sum("exact_attention" in str(node.target) for node in program.graph.nodes) == 2
    assert_close(program.module()(images), expected)


def test_an_object_of_other_sources_is_not_used(monkeypatch):
    monkeypatch.setattr(library, "digest_sources", lambda: "another")
    path, phrase = library.object_file()
    assert path is None
    assert "python -m nystra.programs.cpu.build" in phrase
