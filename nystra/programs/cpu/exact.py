"""Exact softmax attention natively: torch's fused program takes two to five times as long for few channels."""

import ctypes
import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nystra.programs.cpu.library import Library, load, threads
from nystra.programs.cpu.maps import Attention, Pair, Windows, empty_outputs, with_dense_channels
from nystra.programs.operators import Operator
from nystra.programs.places import Layout
from nystra.windows.geometry import MASKED, WindowGeometry
from nystra.windows.partition import Cut
from nystra.windows.position_bias import DenseBias

# Tiles of queries that meet a block of keys together, see `source/exact.cpp`.
TILES = 4


class Arguments(Attention):
    """Arguments of the program, see `source/exact.cpp`."""

    _fields_ = (
        ("bias", ctypes.c_void_p),
        ("bias_kind", ctypes.c_int64),
        ("bias_head", ctypes.c_int64),
        ("by_offset", ctypes.c_int64),
        ("split", Pair),
        ("masked", ctypes.c_float),
        ("parts", ctypes.c_int64),
    )


def by_offset(geometry: WindowGeometry, library: Library) -> bool:
    """Whether the program takes the bias of offsets: that needs far less memory, but whole vectors in a row."""
    of_images = len(geometry.window) == 2 and not isinstance(geometry.bias, DenseBias)
    return of_images and geometry.window[1] % library.lanes == 0


def bias_table(geometry: WindowGeometry, device: torch.device, library: Library) -> Tensor | None:
    """Lay out the bias of windows of all kinds for the program, times log2 e; None: there is none.

    Returns:
        Of every offset, (heads or 1, 2h - 1, 2w - 1), see `by_offset`; the program adds the mask itself. Or of every
        pair of tokens, with the mask: (kinds, heads or 1, tiles, N, queries of a tile).
    """
    kinds = [kind for _, kind in geometry.kinds(device)]
    if by_offset(geometry, library):
        bias = kinds[-1].offset_logits()
        return None if bias is None else (bias.float() / math.log(2)).contiguous()
    if not kinds[-1].has_bias:
        return None
    pairs = torch.stack([kind.all_logits().float() for kind in kinds]) / math.log(2)
    tiles = F.pad(pairs, (0, 0, 0, -pairs.shape[2] % library.tile)).unflatten(2, (-1, library.tile))
    return tiles.transpose(3, 4).contiguous()


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, geometry: WindowGeometry, cut: Cut
) -> Tensor:
    """Attend exactly within the windows of maps (B, H, W, heads, d), with `bias_table`'s result; see `Softmax`."""
    splits = [-1 if split is None else split for split in geometry.splits[-2:]]
    return exact_attention(query, key, value, bias, *Layout.of(geometry, cut), splits)


@functools.partial(Operator, "nystra::exact_attention")
def exact_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    window: list[int],
    roll: list[int],
    margins: list[int],
    grid: list[int],
    frames: int,
    splits: list[int],
) -> Tensor:
    """Attend exactly within the windows of maps.

    Args:
        query: (B, H, W, heads, d), the scale folded in; float32 or bfloat16, as key and value.
        key: (B, H, W, heads, d).
        value: (B, H, W, heads, d).
        bias: see `bias_table`.
        window: h and w of a window.
        roll: see `nystra.windows.Cut`.
        margins: see `nystra.windows.Cut`.
        grid: windows of an image along each axis.
        frames: see `Layout`.
        splits: first row and column of the last windows whose tokens are masked from those before; -1: none.

    Returns:
        (B, H, W, heads, d), contiguous.
    """
    library = load()
    assert library is not None, "the caller asks `usable` first"
    query, key, value = (with_dense_channels(maps) for maps in (query, key, value))
    output = empty_outputs(query)
    windows = Windows.of(query, window, roll, margins, grid, frames)
    count = windows.heads * windows.images * (windows.size[0] // (frames * window[0])) * (windows.size[1] // window[1])
    if not count:
        return output
    tiles = -(-frames * window[0] * window[1] // library.tile)
    # Parts of a window take its keys together anew, so that there are only as many as threads need to share evenly.
    parts = max(1, min(tiles // TILES, 4 * threads(library) // count))
    # Of all offsets, see `bias_table`; without a bias, the program adds masks to whole vectors.
    offsets = window[1] % library.lanes == 0 if bias is None else bias.dim() == 3
    bias = None if bias is None else bias.contiguous()
    arguments = Arguments.of(
        windows,
        (query, key, value, output),
        (2 if split >= 0 and count > 1 else 1 for split, count in zip(splits, grid, strict=True)),
        None if bias is None else bias.data_ptr(),
        0 if bias is None or offsets else bias.stride(0),
        0 if bias is None or bias.shape[-3 if offsets else -4] == 1 else bias.stride(-3 if offsets else -4),
        offsets,
        Pair(*splits),
        MASKED / math.log(2),
        parts,
    )
    library.run("exact_attention", arguments)
    return output


exact_attention.register_fake(empty_outputs)
