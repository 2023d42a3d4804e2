"""Training through every kernel: gradients are those of differences, and finite where weights clamp or maxima tie."""

import pytest
import torch

from nystra import (
    ContentPooling,
    LandmarkPooling,
    Nystrom,
    Nystromformer,
    Performer,
    PrintedNystrom,
    PublishedNystrom,
    Softmax,
    WindowGeometry,
)
from nystra.windows.position_bias import TableBias

WINDOW, HEADS, CHANNELS = (4, 4), 2, 3
KERNELS = [
    Softmax(),
    LandmarkPooling(4, 4, "none"),
    LandmarkPooling(4, 16, "own"),
    LandmarkPooling(4, 4, "cross"),
    LandmarkPooling(4, 16, "block"),
    ContentPooling(4, 4, 1, bias_rank=2),
    Nystrom(4, 8),
    Nystromformer(4, 3),
    PublishedNystrom(4, 3),
    PrintedNystrom(4, 3),
    Performer(8),
]


def inputs(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, HEADS, 16, CHANNELS, generator=generator, dtype=dtype) for _ in range(3)]


def attend(kernel, query, key, value, table, shift=(2, 2)):
    return kernel(query, key, value, WindowGeometry(WINDOW, (2, 2), shift, TableBias(table, WINDOW)))


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_gradients_are_those_of_differences(kernel):
    table = torch.randn(49, HEADS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # Content pooling factorises the bias and holds its singular vectors fixed: an approximate gradient.
    table.requires_grad_(not isinstance(kernel, ContentPooling))
    tensors = [*(tensor.requires_grad_() for tensor in inputs(torch.float64)), table]
    assert torch.autograd.gradcheck(lambda *given: attend(kernel, *given), tensors, fast_mode=True)


@pytest.mark.parametrize("case", ["equal keys", "equal tokens", "nothing", "masked", "clamped"])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_no_gradient_is_nan_at_ties_masks_and_clamps(kernel, case):
    query, key, value = inputs(torch.float32)
    table = torch.zeros(49, HEADS)
    if case == "equal keys":
        key = torch.ones_like(key)
    elif case == "equal tokens":
        query, key, value = (torch.ones_like(tensor) for tensor in (query, key, value))
    elif case == "nothing":
        query, key, value = (torch.zeros_like(tensor) for tensor in (query, key, value))
    elif case == "masked":
        # Every token from every other, as far as a mask goes.
        table -= 100.0
    elif case == "clamped":
        # A logit of exactly the authors' threshold, beyond which their exponential is clamped.
        query, key = torch.zeros_like(query), torch.zeros_like(key)
        query[..., 0], key[..., 0] = 5.0, 1.0
    tensors = [tensor.requires_grad_() for tensor in (query, key, value, table)]
    result = attend(kernel, *tensors)
    result.square().sum().backward()
    assert result.isfinite().all()
    for tensor in tensors:
        assert tensor.grad is None or tensor.grad.isfinite().all()
    assert value.grad is not None
