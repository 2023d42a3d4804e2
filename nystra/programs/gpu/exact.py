"""Exact softmax attention: windows are read where they lie, bias and masks inside; nothing of N×N is written.

The softmax is summed up over blocks of keys as in FlashAttention (Dao et al., arXiv 2205.14135).
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from nystra.programs.gpu.maps import LEAST, LOG2E, Windows, further, kind_of, loaded, located, padded, precision
from nystra.programs.operators import Operator
from nystra.programs.places import Layout
from nystra.windows.geometry import MASKED, WindowGeometry
from nystra.windows.partition import Cut

# Queries and keys that meet at a time.
TILE = 64


def tables(geometry: WindowGeometry, device: torch.device) -> list[Tensor]:
    """Lay out bias and masks of windows of all kinds for the program.

    Returns:
        bias: of every offset from key to query, (heads or 1, offsets), or of every pair of tokens with the mask,
            (kinds, heads or 1, N, N); empty: there is none. float32, times log2 e.
        places: of tokens among the offsets, int32, (N,): the offset of a pair is at the query's place minus the key's
            plus half of all offsets.
        regions: of tokens, by kind, int32, (kinds, N): pairs of different regions are masked; empty: none are.
    """
    kinds = [kind for _, kind in geometry.kinds(device)]
    nothing = torch.empty(0, device=device)
    positions = kinds[0].positions().int()
    axes = [2 * side - 1 for side in geometry.window]
    steps = [functools.reduce(int.__mul__, axes[axis + 1 :], 1) for axis in range(len(axes))]
    places = (positions * positions.new_tensor(steps)).sum(1, dtype=torch.int32)
    offsets = kinds[0].offset_logits()
    if offsets is None and geometry.bias is not None:
        pairs = torch.stack([kind.all_logits().float() for kind in kinds]) * LOG2E
        return [pairs.contiguous(), places, nothing.int()]
    bias = nothing if offsets is None else (offsets.flatten(1).float() * LOG2E).contiguous()
    if not any(kind.split_axes for kind in kinds):
        return [bias, places, nothing.int()]
    regions = torch.zeros(len(kinds), len(positions), dtype=torch.int32, device=device)
    for number, kind in enumerate(kinds):
        for axis in kind.split_axes:
            regions[number] += kind.regions(positions, axis).int() << axis
    return [bias, places, regions]


def attend(
    query: Tensor, key: Tensor, value: Tensor, layout: list[Tensor], geometry: WindowGeometry, cut: Cut
) -> Tensor:
    """Attend exactly within the windows of maps (B, H, W, heads, d), with the result of `tables`; see `Softmax`."""
    kinds = list(geometry.kind_counts[-2:])
    return exact_attention(query, key, value, *layout, *Layout.of(geometry, cut), kinds)


@functools.partial(Operator, "nystra::exact_attention_gpu")
def exact_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    places: Tensor,
    regions: Tensor,
    window: list[int],
    roll: list[int],
    margins: list[int],
    grid: list[int],
    frames: int,
    kinds: list[int],
) -> Tensor:
    """Attend exactly within the windows of maps.

    Args:
        query: (B, H, W, heads, d), the scale folded in; of one dtype as key and value.
        key: (B, H, W, heads, d).
        value: (B, H, W, heads, d).
        bias: see `tables`.
        places: see `tables`.
        regions: see `tables`.
        window: h and w of a window.
        roll: see `nystra.windows.Cut`.
        margins: see `nystra.windows.Cut`.
        grid: windows of an image along each axis.
        frames: see `Layout`.
        kinds: of windows, along each axis: 2 where the last ones differ from the others, else 1.

    Returns:
        (B, H, W, heads, d), contiguous.
    """
    output = query.new_empty(query.shape)
    windows = Windows.of(query, window, roll, margins, grid, frames)
    if not output.numel():
        return output
    tile = min(TILE, max(LEAST, triton.next_power_of_2(windows.tokens)))
    tiles = triton.cdiv(windows.tokens, tile)
    has_bias, head_axis = bias.numel() > 0, bias.dim() // 2 - 1
    _exact[(windows.number * windows.heads * tiles,)](
        query,
        key,
        value,
        output,
        query.stride(),
        key.stride(),
        value.stride(),
        output.stride(),
        *windows.arguments,
        *kinds,
        bias,
        bias.stride(0) if bias.dim() == 4 else 0,
        bias.stride(head_axis) if has_bias and bias.shape[head_axis] > 1 else 0,
        places,
        bias.shape[-1] // 2 if has_bias else 0,
        regions,
        tiles,
        MASKED * LOG2E,
        LOG2E,
        bias.dim() if has_bias else 0,
        regions.numel() > 0,
        tile,
        padded(windows.channels),
        precision(),
    )
    return output


@triton.jit
def _exact(
    query,
    key,
    value,
    output,
    query_strides,
    key_strides,
    value_strides,
    output_strides,
    rows,
    columns,
    row_windows,
    column_windows,
    tall,
    wide,
    grid_rows,
    grid_columns,
    heads,
    channels,
    row_kinds,
    column_kinds,
    bias,
    bias_kind,
    bias_head,
    places,
    centre,
    regions,
    tiles,
    masked,
    log2e,
    BIAS: tl.constexpr,  # dimensions: 2 of offsets, 4 of pairs, 0 none
    MASKS: tl.constexpr,
    TILE: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    program = tl.program_id(0)
    head = program // tiles % heads
    window = program // tiles // heads
    tokens = tall * wide
    mine = program % tiles * TILE + tl.arange(0, TILE)
    valid = mine < tokens
    image, row, column, inside = located(mine, valid, window, rows, columns, row_windows, column_windows, tall, wide)
    queries = loaded(query, image, row, column, valid, head, query_strides, channels, WIDE)
    kind = kind_of(window, grid_rows, grid_columns, row_kinds, column_kinds)
    if BIAS == 2:
        my_places = tl.load(places + mine, mask=valid, other=0) + centre
    if MASKS:
        my_region = tl.load(regions + kind * tokens + mine, mask=valid, other=0)
    most = tl.full([TILE], -float("inf"), tl.float32)
    total = tl.zeros([TILE], tl.float32)
    result = tl.zeros([TILE, WIDE], tl.float32)
    for first in range(0, tokens, TILE):
        other = first + tl.arange(0, TILE)
        present = other < tokens
        _, row_of, column_of, _ = located(
            other, present, window, rows, columns, row_windows, column_windows, tall, wide
        )
        keys = loaded(key, image, row_of, column_of, present, head, key_strides, channels, WIDE)
        logits = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * log2e
        both = valid[:, None] & present[None, :]
        if BIAS == 2:
            offsets = my_places[:, None] - tl.load(places + other, mask=present, other=0)[None, :]
            logits += tl.load(bias + head * bias_head + offsets, mask=both, other=0.0)
        if BIAS == 4:
            table = bias + kind.to(tl.int64) * bias_kind + head.to(tl.int64) * bias_head
            logits += tl.load(table + mine[:, None] * tokens + other[None, :], mask=both, other=0.0)
        if MASKS:
            region = tl.load(regions + kind * tokens + other, mask=present, other=0)
            logits += tl.where(my_region[:, None] != region[None, :], masked, 0.0)
        logits = tl.where(present[None, :], logits, -float("inf"))
        weights, kept, most, total = further(logits, most, total)
        values = loaded(value, image, row_of, column_of, present, head, value_strides, channels, WIDE)
        result = result * kept + tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
    result = result / total[:, None]
    channel = tl.arange(0, WIDE)
    place = output + image * output_strides[0] + row * output_strides[1] + column * output_strides[2]
    place += head.to(tl.int64) * output_strides[3]
    written = inside[:, None] & (channel < channels)[None, :]
    tl.store(place[:, None] + channel[None, :], result.to(output.dtype.element_ty), mask=written)


@exact_attention.register_fake
def _outputs(query: Tensor, *_: object) -> Tensor:
    return query.new_empty(query.shape)
