"""Kernels against explicit attention and the authors' recorded outputs; limits in which they are exact; robustness."""

import dataclasses
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
from nystra.functional import random_features
from nystra.windows.clusters import balanced_order, inverse, rows, splits
from nystra.windows.geometry import MASKED, WindowKind
from nystra.windows.partition import merge, partition
from nystra.windows.position_bias import TableBias
from tests import goldens

HEADS, CHANNELS = 3, 5
PUBLISHED = ("pnp_attn_N64_h2_d8_m16_i3", "pnp_attn_N256_h6_d30_m16_i3")


@dataclasses.dataclass(frozen=True)
class Scene:
    """Windows of two images: window, grid and shift, and whether there is a position bias."""

    window: tuple[int, int] = (8, 8)
    grid: tuple[int, int] = (2, 3)
    shift: tuple[int, int] = (0, 0)
    biased: bool = True

    def geometry(self, dtype: torch.dtype = torch.float64) -> WindowGeometry:
        generator = torch.Generator().manual_seed(1)
        rows = math.prod(2 * side - 1 for side in self.window)
        table = torch.randn(rows, HEADS, generator=generator, dtype=dtype)
        bias = TableBias(table, self.window) if self.biased else None
        return WindowGeometry(self.window, self.grid, self.shift, bias, {})

    def tokens(self, dtype: torch.dtype = torch.float64, scale: float = 1) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(2)
        shape = (2 * math.prod(self.grid), HEADS, math.prod(self.window), CHANNELS)
        return [(scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype) for _ in range(3)]


SCENES = [
    Scene(),
    Scene(biased=False),
    Scene(shift=(4, 4)),
    Scene(window=(4, 6), grid=(2, 1), shift=(2, 3)),
    Scene(shift=(4, 4), biased=False),
]


def explicit_bias(scene: Scene, geometry: WindowGeometry, image_window: tuple[int, int]) -> torch.Tensor:
    """Bias and mask between the tokens of one window, entry by entry."""
    height, width = scene.window
    places = [(row, column) for row in range(height) for column in range(width)]
    result = torch.zeros(HEADS, len(places), len(places), dtype=torch.float64)

    def region(place: tuple[int, int]) -> tuple[bool, bool]:
        return tuple(
            shift > 0 and window == count - 1 and token >= side - shift
            for token, side, shift, window, count in zip(
                place, scene.window, scene.shift, image_window, scene.grid, strict=True
            )
        )

    for i, query in enumerate(places):
        for j, key in enumerate(places):
            if geometry.bias is not None:
                down, right = query[0] - key[0] + height - 1, query[1] - key[1] + width - 1
                result[:, i, j] = geometry.bias.table[down * (2 * width - 1) + right]
            if region(query) != region(key):
                result[:, i, j] += MASKED
    return result


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_softmax_is_explicit_attention_with_bias_and_mask(scene):
    geometry = scene.geometry()
    query, key, value = scene.tokens()
    actual = Softmax()(query, key, value, geometry)
    windows = [(row, column) for row in range(scene.grid[0]) for column in range(scene.grid[1])] * 2
    for index, window in enumerate(windows):
        logits = query[index] @ key[index].transpose(1, 2) + explicit_bias(scene, geometry, window)
        assert_close(actual[index], logits.softmax(2) @ value[index], rtol=1e-10, atol=1e-12)


EXACT = [
    lambda tokens: LandmarkPooling(tokens, tokens, near="none"),
    lambda tokens: LandmarkPooling(4, tokens, near="none"),
    lambda tokens: LandmarkPooling(1, 1, near="block"),
    lambda tokens: LandmarkPooling(2, tokens, near="cross"),
    lambda tokens: ContentPooling(tokens, tokens, near=0, bias_rank=tokens),
    lambda tokens: ContentPooling(2, tokens, near=0, bias_rank=tokens),
    lambda tokens: ContentPooling(4, 4, near=4, bias_rank=tokens),
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


@pytest.mark.parametrize("name", PUBLISHED)
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


def test_random_features_are_performers():
    tensors, _ = goldens.load_tensors(PUBLISHED[0])
    directions = tensors["smooth.performer.projection"]
    for part, keys in (("q", False), ("k", True)):
        features = random_features(tensors[f"smooth.{part}"] * 8**-0.25, directions, keys=keys)
        assert_close(features, tensors[f"smooth.performer.{part}_prime"])


def test_performer_approaches_exact_attention():
    scene = Scene(shift=(4, 4))
    query, key, value = scene.tokens(scale=0.3)
    geometry = scene.geometry()
    exact = Softmax()(query, key, value, geometry)
    errors = [(Performer(count)(query, key, value, geometry) - exact).norm() / exact.norm() for count in (16, 4096)]
    assert errors[1] < 0.1
    assert errors[1] < errors[0] / 2
    free = WindowGeometry(scene.window)
    exact = Softmax()(query, key, value, free)
    assert (Performer(4096)(query, key, value, free) - exact).norm() < 0.1 * exact.norm()


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

    assert torch.autograd.gradcheck(call, (*inputs, table))


@pytest.mark.parametrize("table", ["none", "rows", "one head"])
def test_content_pooling_takes_a_bias_of_any_rank(table):
    scene = Scene(biased=True)
    bias = torch.zeros(225, HEADS)
    if table == "rows":
        bias += torch.arange(15.0).repeat_interleave(15).unsqueeze(1) / 15
    elif table == "one head":
        bias[:, 0] = torch.randn(225, generator=torch.Generator().manual_seed(0))
    inputs = scene.tokens(torch.float32)
    geometry = WindowGeometry(scene.window, scene.grid, bias=TableBias(bias, scene.window))
    exact = Softmax()(*inputs, geometry)
    # Everything near: only the rank of the bias is left to differ by, 64 for one of noise.
    assert_close(ContentPooling(4, 4, 4, bias_rank=64)(*inputs, geometry), exact, rtol=1e-4, atol=1e-4)
    assert ContentPooling(4, 4, 1, bias_rank=8)(*inputs, geometry).isfinite().all()


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


def test_tables_are_made_once_and_again_when_the_bias_changes():
    scene = Scene()
    geometry = scene.geometry()
    tables: dict = {}
    geometry = WindowGeometry(scene.window, scene.grid, scene.shift, geometry.bias, tables)
    inputs = scene.tokens()
    first = LandmarkPooling()(*inputs, geometry)
    (made,) = tables.values()
    assert torch.equal(LandmarkPooling()(*inputs, geometry), first)
    assert next(iter(tables.values()))[1] is made[1]
    geometry.bias.table.mul_(2)
    assert not torch.equal(LandmarkPooling()(*inputs, geometry), first)
    assert len(tables) == 1


def test_a_table_too_large_to_keep_is_made_anew(monkeypatch):
    scene = Scene()
    geometry = scene.geometry()
    inputs = scene.tokens()
    kept = Softmax()(*inputs, geometry)
    assert geometry._tables
    geometry._tables.clear()
    monkeypatch.setattr("nystra.windows.geometry.LARGEST_KEPT", HEADS * 64**2 * 8 - 1)
    assert torch.equal(Softmax()(*inputs, geometry), kept)
    assert not geometry._tables


def test_a_bias_between_offsets_is_interpolated_and_beyond_them_held():
    table = torch.arange(15, dtype=torch.float64).unsqueeze(1)  # (2·2 - 1)·(2·3 - 1)
    bias = TableBias(table, (2, 3))
    at = bias.at(torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, -0.25], [9.0, 9.0], [-1.0, -2.0]]))
    assert at.tolist() == [[7.0, 9.5, 6.75, 14.0, 0.0]]
    stretched = TableBias(table, (2, 3), (0.5, 0.5)).at(torch.tensor([[2.0, 4.0]]))
    assert stretched.tolist() == [[14.0]]


@pytest.mark.parametrize("stretch", [(1.0, 1.0), (0.6, 1.3)])
@pytest.mark.parametrize("split", [(None, None), (2, None), (1, 4)])
def test_all_logits_are_those_of_every_pair(split, stretch):
    table = torch.randn(9 * 11, HEADS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kind = WindowKind((3, 7), split, TableBias(table.requires_grad_(), (5, 6), stretch), torch.device("cpu"))
    positions = kind.positions()
    every, pairs = kind.all_logits(), kind.logits(positions, positions)
    assert every.is_contiguous()
    assert_close(every, pairs, rtol=0, atol=1e-6)
    weights = torch.randn(pairs.shape, generator=torch.Generator().manual_seed(1), dtype=pairs.dtype)
    gradients = [torch.autograd.grad((result * weights).sum(), table)[0] for result in (every, pairs)]
    assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_partition_and_merge_are_inverse():
    features = torch.randn(2, 12, 8, 3)
    windows = partition(features, (4, 2))
    assert windows.shape == (2 * 3 * 4, 8, 3)
    assert torch.equal(windows[1], features[0, :4, 2:4].flatten(0, 1))
    assert torch.equal(merge(windows, (4, 2), (3, 4)), features)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LandmarkPooling(16, 24), r"cells \(24\) must be a positive multiple of landmarks \(16\)"),
        (lambda: LandmarkPooling(near="far"), r"near \(far\) must be"),
        (lambda: ContentPooling(16, 0), r"cells \(0\)"),
        (lambda: ContentPooling(16, 16, 17), r"near \(17\) must be a number of cells from 0 to cells \(16\)"),
        (lambda: ContentPooling(16, 32).cost((7, 7), 8), r"landmarks \(16\) must divide the 7×7 window's 49 tokens"),
        (lambda: Nystrom(16, 8), r"key_landmarks \(8\) must be at least landmarks \(16\)"),
        (lambda: Nystrom(ridge=0), r"ridge \(0\) must be above 0"),
        (lambda: Nystromformer(16, 0), r"iterations \(0\)"),
        (lambda: PrintedNystrom(0), r"landmarks \(0\)"),
        (lambda: Nystrom.as_published(0), r"landmarks \(0\)"),
        (lambda: Performer(0), r"features \(0\)"),
        (lambda: LandmarkPooling(16).cost((7, 7), 8), r"landmarks \(16\) must divide the 7×7 window .* \[1, 7, 49\]"),
        (lambda: LandmarkPooling(4, 12).cost((8, 8), 8), r"cells of a block \(3\) must divide the 4×4 window"),
        (lambda: Nystrom(16, 48).cost((8, 8), 8), r"key_landmarks \(48\) must divide"),
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


def test_trees_group_what_is_alike():
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(8, 3, generator=generator)
    labels = torch.arange(64).remainder(8)[torch.randperm(64, generator=generator)]
    tokens = (centres[labels] + 0.01 * torch.randn(64, 3, generator=generator)).expand(2, 1, -1, -1)
    for ways in (2, 4):
        order = balanced_order(tokens, 8, ways)
        assert torch.equal(order.sort(2).values, torch.arange(64).expand(2, 1, -1))
        assert (labels[order].unflatten(2, (8, 8)) == labels[order].unflatten(2, (8, 8))[..., :1]).all()
        assert torch.equal(rows(rows(tokens, order), inverse(order)), tokens)
    assert splits(96, 4) == [4, 4, 2, 3]


def test_content_pooling_follows_content_where_there_is_no_bias():
    """Tokens of few kinds, strewn over the window: clusters find them, cells by position cannot."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(16, (1, 1, 256), generator=generator)
    query, key, value = (
        torch.randn(16, CHANNELS, generator=generator)[kinds]
        + 0.1 * torch.randn(1, 1, 256, CHANNELS, generator=generator)
        for _ in range(3)
    )
    geometry = WindowGeometry((16, 16))
    exact = Softmax()(query, key, value, geometry)
    errors = [
        (kernel(query, key, value, geometry) - exact).norm() / exact.norm()
        for kernel in (ContentPooling(16, 16, 2), LandmarkPooling(16, 16, "cross"))
    ]
    assert errors[0] < 0.3 * errors[1]
