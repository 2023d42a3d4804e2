"""The contract that all kernels keep: limits in which they are exact, finite outputs, gradients, precision, costs."""

import math

import pytest
import torch
from torch.testing import assert_close

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
from nystra.kernels.landmark_blocks import IteratedNystrom
from nystra.windows.position_bias import TableBias
from tests.nystra.kernels.scenes import SCENES, Scene

EXACT = [
    lambda tokens: LandmarkPooling(tokens, tokens, near="none"),
    lambda tokens: LandmarkPooling(4, tokens, near="none"),
    lambda tokens: LandmarkPooling(1, 1, near="block"),
    lambda tokens: LandmarkPooling(2, tokens, near="cross"),
    lambda tokens: ContentPooling(tokens, tokens, near=0, bias_rank=tokens),
    lambda tokens: ContentPooling(2, tokens, near=0, bias_rank=tokens),
    lambda tokens: ContentPooling(4, 4, near=4, bias_rank=1),
    lambda tokens: Nystrom(tokens, tokens, ridge=1e-12),
    lambda tokens: Nystrom(2, tokens),
    lambda tokens: Nystromformer(tokens, iterations=60),
    lambda tokens: PrintedNystrom(tokens, iterations=60),
]


@pytest.mark.parametrize("scene", SCENES, ids=str)
@pytest.mark.parametrize("make", EXACT)
def test_kernels_are_exact_where_theory_says_so(make, scene):
    kernel = make(math.prod(scene.window))
    inputs, geometry = scene.tokens(), scene.geometry()
    iterated = isinstance(kernel, Nystromformer | PrintedNystrom)
    tolerance = 1e-6 if iterated else 1e-10
    exact = Softmax()(*inputs, geometry)
    assert_close(kernel(*inputs, geometry), exact, rtol=tolerance, atol=tolerance)


# Sides of released networks' windows, primes among them, that 16 does not divide, and less than 16 tokens.
WINDOWS = [
    (6, 6),
    (7, 7),
    (12, 12),
    (14, 14),
    (4, 16),
    (8, 32),
    (5, 5),
    (11, 11),
    (13, 13),
    (3, 3),
    (1, 53),
    (9, 14),
    (2, 8, 8),
    (3, 5, 5),
]
# As they come, and with numbers as targets.
ANY_WINDOW = [
    LandmarkPooling(),
    LandmarkPooling(16, 64),
    LandmarkPooling(4, 16, "own"),
    LandmarkPooling(4, 16, "none"),
    LandmarkPooling(9, 36, "block"),
    ContentPooling(),
    ContentPooling(16, 32, 4),
    ContentPooling(7, 13, 0),
    ContentPooling(16, 16, 16),
    Nystrom(),
    Nystrom(13, 13),
    Nystromformer(),
    PrintedNystrom(),
    PublishedNystrom(),
    Performer(),
]


@pytest.mark.parametrize("kernel", ANY_WINDOW, ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_every_kernel_takes_every_window(window, kernel):
    scene = Scene(window=window, grid=(1,) * (len(window) - 1) + (2,), shift=tuple(side // 2 for side in window))
    inputs, geometry = scene.tokens(), scene.geometry()
    outputs = kernel(*inputs, geometry)
    fitted = kernel.fitted(window)
    assert_close(outputs, fitted(*inputs, geometry), rtol=0, atol=0)
    assert kernel.cost(window, 8) == fitted.cost(window, 8)
    if not isinstance(kernel, PrintedNystrom):
        assert outputs.isfinite().all()
    if isinstance(kernel, LandmarkPooling | ContentPooling):
        value = inputs[2]
        assert (outputs <= value.amax(2, keepdim=True) + 1e-9).all()
        assert (outputs >= value.amin(2, keepdim=True) - 1e-9).all()
    if kernel == ContentPooling(16, 16, 16):
        assert_close(outputs, Softmax()(*inputs, geometry), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernel", [*ANY_WINDOW, Nystrom(7, 8), Nystrom(7, 9), Nystrom(13, 16)], ids=str)
def test_kernels_are_fitted_once_for_all(kernel):
    for window in [*WINDOWS, (8, 8), (4, 4), (3, 8), (9, 16), (5, 6), (10, 4), (3, 4, 4), (2, 8, 8)]:
        fitted = kernel.fitted(window)
        assert fitted.fitted(window) == fitted
        assert fitted.cost(window, 8) == kernel.cost(window, 8)


@pytest.mark.parametrize("kernel", ANY_WINDOW, ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_every_token_counts_once(window, kernel):
    """Equal keys give the mean of the values, whatever the sizes of cells."""
    scene = Scene(window=window, grid=(2,) * len(window), biased=False)
    query, key, value = scene.tokens()
    outputs = kernel(query, key[:, :, :1].expand_as(key), value, scene.geometry())
    tolerance = 1e-5 if isinstance(kernel, IteratedNystrom) else 1e-9
    assert_close(outputs, value.mean(2, keepdim=True).expand_as(value), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("more", [0, 8])
@pytest.mark.parametrize(
    "make",
    [
        lambda tokens: LandmarkPooling(tokens, tokens, near="none"),
        lambda tokens: LandmarkPooling(4, 4 * tokens, near="cross"),
        lambda tokens: ContentPooling(tokens, tokens, near=0, bias_rank=tokens),
        lambda tokens: ContentPooling(3, tokens, near=0, bias_rank=tokens),
        lambda tokens: Nystrom(tokens, tokens, ridge=1e-12),
        lambda tokens: Nystromformer(tokens, iterations=60),
        lambda tokens: PrintedNystrom(tokens, iterations=60),
    ],
)
@pytest.mark.parametrize("window", [(5, 5), (6, 6), (7, 7), (3, 11), (2, 3, 3)], ids=str)
def test_as_many_landmarks_as_tokens_are_exact(window, make, more):
    scene = Scene(
        window=window, grid=(1,) * (len(window) - 1) + (2,), shift=(window[0] // 2,) + (0,) * (len(window) - 1)
    )
    inputs, geometry = scene.tokens(), scene.geometry()
    kernel = make(math.prod(window) + more)
    tolerance = 1e-6 if isinstance(kernel, Nystromformer | PrintedNystrom) else 1e-9
    assert_close(kernel(*inputs, geometry), Softmax()(*inputs, geometry), rtol=tolerance, atol=tolerance)


KERNELS = [
    Softmax(),
    *(LandmarkPooling(m, max(m, 16), near) for m in (1, 4, 16, 64) for near in ("none", "own", "cross", "block")),
    *(ContentPooling(m, 16, near) for m in (1, 4, 16, 64) for near in (0, 1, 4, 16)),
    *(Nystrom(m, max(m, 32)) for m in (1, 4, 16, 64)),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_are_finite_for_any_input(kernel, dtype):
    scene = Scene(shift=(4, 4))
    geometry = scene.geometry(torch.float32)
    query, key, value = scene.tokens(dtype)
    equal = key[:, :, :1].expand_as(key)
    # Logits of random directions reach ±80 and more.
    for queries, keys in ((16 * query, 6 * key), (query, equal), (0 * query, 0 * key)):
        output = kernel(queries, keys, value, geometry)
        assert output.dtype == dtype
        assert output.isfinite().all()
        if isinstance(kernel, LandmarkPooling | ContentPooling):
            slack = 0.02 if dtype == torch.bfloat16 else 1e-4
            assert (output <= value.amax(2, keepdim=True) + slack * value.abs().max()).all()
            assert (output >= value.amin(2, keepdim=True) - slack * value.abs().max()).all()


@pytest.mark.parametrize(
    "kernel", [LandmarkPooling(), LandmarkPooling(4, 16, "own"), ContentPooling(), Nystrom(), Nystromformer()]
)
def test_an_image_does_not_depend_on_its_batch_mates(kernel):
    scene = Scene(grid=(1, 1))
    geometry = scene.geometry()
    query, key, value = scene.tokens()
    alone = kernel(query[:1], key[:1], value[:1], geometry)
    together = kernel(query, torch.cat([key[:1], 50 * key[1:]]), value, geometry)
    assert_close(together[:1], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "kernel", [LandmarkPooling(4, 4), ContentPooling(2, 4, 1), Nystrom(4, 8), Nystromformer(4), Softmax()]
)
def test_gradients_reach_inputs_and_bias(kernel):
    window = (4, 4)
    table = (0.3 * torch.randn(49, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).requires_grad_()
    tensors = [
        (0.5 * torch.randn(2, 1, 16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
        for seed in (1, 2, 3)
    ]
    inputs = [tensor.requires_grad_() for tensor in tensors]

    def call(query, key, value, bias):
        return kernel(query, key, value, WindowGeometry(window, (1, 2), (2, 2), TableBias(bias, window), {}))

    assert torch.autograd.gradcheck(call, (*inputs, table), fast_mode=True)


@pytest.mark.parametrize("kernel", [Softmax(), LandmarkPooling(), ContentPooling(), Nystrom(), Performer()])
def test_tables_made_in_inference_serve_training(kernel):
    scene = Scene()
    geometry = scene.geometry(torch.float32)
    query, key, value = scene.tokens(torch.float32)
    with torch.inference_mode():
        kernel(query, key, value, geometry)
    kernel(query.requires_grad_(), key, value, geometry).sum().backward()
    assert query.grad.isfinite().all()


@pytest.mark.parametrize("kernel", [Softmax(), LandmarkPooling(), ContentPooling(), Nystrom(), PublishedNystrom()])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_computes_what_half_precision_computes(kernel, dtype):
    # Logits around 10: sums of their exponentials pass float16's range.
    scene = Scene()
    inputs = scene.tokens(torch.float32, scale=2)
    with torch.autocast("cpu", dtype):
        automatic = kernel(*inputs, scene.geometry(dtype))
    halves = kernel(*(tokens.to(dtype) for tokens in inputs), scene.geometry(dtype))
    assert automatic.dtype == dtype
    assert automatic.isfinite().all()
    assert_close(automatic, halves, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LandmarkPooling(16, 24), r"cells \(24\) must be a positive multiple of landmarks \(16\)"),
        (lambda: LandmarkPooling(near="far"), r"near \(far\) must be"),
        (lambda: ContentPooling(16, 0), r"cells \(0\)"),
        (lambda: ContentPooling(16, 16, 17), r"near \(17\) must be a number of cells from 0 to cells \(16\)"),
        (lambda: Nystrom(16, 8), r"key_landmarks \(8\) must be at least landmarks \(16\)"),
        (lambda: Nystrom(ridge=0), r"ridge \(0\) must be above 0"),
        (lambda: Nystromformer(16, 0), r"iterations \(0\)"),
        (lambda: PrintedNystrom(0), r"landmarks \(0\)"),
        (lambda: Nystrom.as_published(0), r"landmarks \(0\)"),
        (lambda: Performer(0), r"features \(0\)"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_costs_are_those_of_the_products():
    assert Softmax().cost((8, 8), 16).macs == 2048
    assert LandmarkPooling(16, 16, "cross").cost((8, 8), 16).macs == 1664
    assert LandmarkPooling(4, 16, "cross").cost((8, 8), 16).macs == 1088
    assert LandmarkPooling(16, 16, "own").cost((16, 16), 16).macs == 1760
    assert LandmarkPooling(16, 64, "cross").cost((16, 16), 16).macs == 3248
    # Trees of 3 and (4·4) 2 levels, 8 landmarks, what a token sees: 14 summaries, 2 cells of 4; spreads.
    assert ContentPooling(8, 16, 2).cost((8, 8), 16).macs == 16 * (3 * 3 + 6 * 2 + 3 * 8 + 2 * (14 + 8)) + 2 * (16 + 8)
