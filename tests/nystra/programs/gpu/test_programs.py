"""Programs in Triton compute what plain torch computes in float64: run by its interpreter, without a device."""

import math
import os
import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close

from nystra import Kernel, LandmarkPooling, Softmax, WindowGeometry
from nystra.programs.gpu import availability
from nystra.programs.operators import plain_torch
from nystra.windows import Cut
from nystra.windows.position_bias import DenseBias, TableBias

pytest.importorskip("triton", reason="needs Triton")
interpreted = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="programs are compiled here")

ROLLED = Cut((4, 8), (4, 4), roll=(2, 2))
REFLECTED = Cut((5, 9), (5, 5), margins=(0, 0, 1, 0))
FILM = Cut((2, 4, 8), (2, 4, 4), roll=(0, 2, 0))
CASES = [
    (Softmax(), ROLLED),
    (Softmax(), REFLECTED),
    (Softmax(), FILM),
    (LandmarkPooling(4, 4, "none"), REFLECTED),
    (LandmarkPooling(4, 4, "own"), FILM),
    (LandmarkPooling(2, 8, "cross"), ROLLED),
    (LandmarkPooling(2, 4, "block"), ROLLED),
]


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take processors for graphics processors."""
    monkeypatch.setattr(availability, "usable", lambda *tensors, parameters=(): True)
    monkeypatch.setattr(availability, "is_faster", lambda *_: True)


def maps_of(cut: Cut, heads: int, channels: int) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values as hosts make them: views of one tensor."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, *cut.size, 3, heads, channels, generator=generator).unbind(-3)


def plainly(kernel: Kernel, maps: tuple[torch.Tensor, ...], geometry: WindowGeometry, cut: Cut) -> torch.Tensor:
    with plain_torch(), torch.inference_mode():
        return kernel.window_by_window(*(part.double() for part in maps), geometry, cut)


@interpreted
@pytest.mark.parametrize(("kernel", "cut"), CASES, ids=str)
def test_outputs_are_plain_torch_s(kernel, cut, on_gpu):
    offsets = math.prod(2 * side - 1 for side in cut.window)
    table = torch.randn(offsets, 2, generator=torch.Generator().manual_seed(1))
    # Without a bias, some kinds of shifted windows have masks, others nothing.
    bias = None if kernel == LandmarkPooling(2, 4, "block") else TableBias(table, cut.window)
    geometry = WindowGeometry(cut.window, cut.grid, cut.roll, bias)
    maps = maps_of(cut, 2, 5)
    assert kernel.reads_maps(maps[0])
    with torch.inference_mode():
        assert_close(
            kernel.over_maps(*maps, geometry, cut).double(), plainly(kernel, maps, geometry, cut), rtol=1e-5, atol=1e-5
        )


@interpreted
@pytest.mark.parametrize("kernel", [Softmax(), LandmarkPooling(4, 4)], ids=str)
def test_half_precision_adds_up_in_float32(kernel, on_gpu):
    """In float16: Triton's interpreter has no products of bfloat16."""
    cut = Cut((4, 4), (4, 4))
    geometry = WindowGeometry((4, 4), bias=DenseBias(torch.randn(1, 16, 16), (4, 4)))
    maps = tuple(part.half() for part in maps_of(cut, 1, 16))
    with torch.inference_mode():
        outputs = kernel.over_maps(*maps, geometry, cut)
    assert outputs.dtype == torch.float16
    assert_close(outputs.double(), plainly(kernel, maps, geometry, cut), rtol=5e-3, atol=5e-3)


@interpreted
def test_what_is_not_finite_stays_where_it_is(on_gpu):
    """One window's NaN and infinities do not reach another's outputs."""
    cut = Cut((4, 8), (4, 4))
    for kernel in (Softmax(), LandmarkPooling(4, 4)):
        query, key, value = (part.clone() for part in maps_of(cut, 1, 4))
        key[0, 0, 0], value[0, 1, 1] = math.nan, math.inf
        with torch.inference_mode():
            outputs = kernel.over_maps(query, key, value, WindowGeometry((4, 4), cut.grid), cut)
        assert torch.isfinite(outputs[:, :, 4:]).all()
        assert not torch.isfinite(outputs[:, :, :4]).any()


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from nystra.programs.gpu import exact, pooling_programs

TYPES = {"landmarks": "*fp32", "offsets": "*fp32", "mean": "*fp32", "bias": "*fp32", "log2e": "fp32", "masked": "fp32"}
INTEGERS = ("rows", "columns", "places", "regions", "order", "begin", "tiles", "seen")
FEATURES = ("query", "key", "value", "output", "far_key", "far_value")
CONSTANTS = {
    "BIAS": 2, "MASKS": True, "TILE": 64, "WIDE": 32, "KEYS": 32, "LANDMARKS": 16, "MEAN_TILE": 64, "PRECISION": "ieee",
}
for program in (
    exact._exact, pooling_programs.landmarks, pooling_programs.summaries, pooling_programs.outputs_of_queries
):
    names = program.arg_names
    constants = {name: value for name, value in CONSTANTS.items() if name in names}
    types = dict.fromkeys(names, "i32") | {name: kind for name, kind in TYPES.items() if name in names}
    types |= {name: "*i32" for name in INTEGERS if name in names and not (name == "tiles" and program is exact._exact)}
    types |= {name: "*bf16" for name in FEATURES if name in names}
    types |= {name: ("i32",) * 5 for name in names if name.endswith("_strides")}
    types |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=program, signature=types, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32))
    print(program.__name__, compiled.metadata.shared, len(compiled.asm["ptx"]))
"""


@pytest.mark.slow
def test_programs_compile_for_a_device_that_is_not_there():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ended = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 4


def test_the_faster_way_is_taken_and_measured_once(monkeypatch):
    measured = []
    times = {"program": 2.0, "plain": 1.0}
    monkeypatch.setattr(availability, "_milliseconds", lambda run: (measured.append(run), times[run()])[1])
    for query, faster in ((torch.zeros(1, 4, 4, 2, 8), False), (torch.zeros(9, 4, 4, 2, 8), True)):
        times["program"] = 0.5 if faster else 2.0
        for _ in range(2):
            call = (Softmax(), f"test {faster}"), lambda: "program", lambda: "plain", query
            assert availability.is_faster(*call) is faster
    assert len(measured) == 4
    assert not availability.usable(query)
