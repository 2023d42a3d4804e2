"""The error of a kernel at one site, against explicit attention."""

import pytest
import torch

import nystra
from nystra.analysis.kernel_error import kernel_error
from nystra.windows.geometry import WindowGeometry
from nystra.windows.position_bias import TableBias


def call(shift: tuple[int, int] = (0, 0), scale: float = 1.0):
    generator = torch.Generator().manual_seed(0)
    inputs = [scale * torch.randn(2 * 9, 2, 16, 4, generator=generator) for _ in range(3)]
    bias = TableBias(torch.randn(49, 2, generator=generator), (4, 4))
    return (*inputs, WindowGeometry((4, 4), (3, 3), shift, bias, {}))


@pytest.mark.parametrize("shift", [(0, 0), (2, 2)])
def test_the_error_of_all_windows_is_the_explicit_one(shift):
    inputs = call(shift)
    kernel = nystra.LandmarkPooling(4, 4, "none")
    exact = nystra.Softmax()(*inputs)
    expected = (kernel(*inputs) - exact).norm() / exact.norm()
    assert kernel_error(kernel, *inputs, windows=100) == pytest.approx(float(expected), rel=1e-5)
    # Some of them stand for all.
    assert kernel_error(kernel, *inputs, windows=4) == pytest.approx(float(expected), rel=0.3)


def test_exact_attention_has_no_error():
    assert kernel_error(nystra.Softmax(), *call()) == 0
    assert kernel_error(nystra.LandmarkPooling(16, 16, "none"), *call((2, 2))) < 1e-5


@pytest.mark.parametrize("kernel", [nystra.PrintedNystrom(4), nystra.Nystrom(4, 4)])
def test_under_autocast_it_is_the_error_that_the_net_makes(kernel):
    inputs = call()
    with torch.autocast("cpu", torch.bfloat16):
        exact, ours = (each(*inputs).float() for each in (nystra.Softmax(), kernel))
        error = kernel_error(kernel, *inputs, windows=100)
    assert error == pytest.approx(float((ours - exact).norm() / exact.norm()), rel=1e-3)


def test_no_window_at_all_is_refused():
    with pytest.raises(ValueError, match=r"windows \(0\) must be at least 1"):
        kernel_error(nystra.Softmax(), *call(), windows=0)
