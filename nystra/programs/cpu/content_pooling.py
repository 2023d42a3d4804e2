"""Content pooling natively: blocks of queries and cells of keys by content, summaries and near cells in one softmax."""

import ctypes
import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from nystra.programs.cpu.library import Operator, load
from nystra.programs.cpu.maps import Map, Pair, Windows, with_dense_channels
from nystra.windows.clusters import splits
from nystra.windows.geometry import WindowGeometry
from nystra.windows.partition import Cut


class Arguments(ctypes.Structure):
    """Arguments of the program, see `source/content_pooling.cpp`."""

    _fields_ = (
        ("windows", Windows),
        ("query", Map),
        ("key", Map),
        ("value", Map),
        ("output", Map),
        ("further_query", ctypes.c_void_p),
        ("further_key", ctypes.c_void_p),
        ("further", ctypes.c_int64),
        ("further_kind", ctypes.c_int64),
        ("further_head", ctypes.c_int64),
        ("kinds", Pair),
        ("blocks", ctypes.c_int64),
        ("cells", ctypes.c_int64),
        ("near", ctypes.c_int64),
        ("query_parts", ctypes.c_void_p),
        ("key_parts", ctypes.c_void_p),
        ("query_levels", ctypes.c_int64),
        ("key_levels", ctypes.c_int64),
        ("half", ctypes.c_int32),
    )


def stack_channels(kinds: list[tuple[Tensor, Tensor] | None]) -> tuple[Tensor, Tensor] | None:
    """Lay out the further channels of queries and keys in windows of all kinds for the program.

    Args:
        kinds: for each kind of window both of shape (heads or 1, N, channels), or None: it has neither bias nor mask.

    Returns:
        Both of shape (kinds, heads or 1, N, most channels); None where no kind has any.
    """
    present = [kind for kind in kinds if kind is not None]
    if not present:
        return None
    heads, most = (max(kind[0].shape[axis] for kind in present) for axis in (0, 2))
    tokens = present[0][0].shape[1]

    def laid_out(channels: Tensor | None) -> Tensor:
        if channels is None:
            return torch.zeros(heads, tokens, most, device=present[0][0].device)
        return F.pad(channels.float(), (0, most - channels.shape[2])).expand(heads, -1, -1)

    queries, keys = (torch.stack([laid_out(kind and kind[side]) for kind in kinds]) for side in (0, 1))
    return queries, keys


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    further: tuple[Tensor, Tensor] | None,
    geometry: WindowGeometry,
    cut: Cut,
    sizes: tuple[int, int, int],
) -> Tensor:
    """Pool by content within the windows of maps (B, H, W, heads, d), see `ContentPooling`.

    Args:
        query: the scale folded in.
        key: as queries.
        value: as queries.
        further: see `stack_channels`.
        geometry: of the windows.
        cut: of the maps into windows.
        sizes: blocks of queries, cells of keys, and cells that a block attends exactly.

    Returns:
        (B, H, W, heads, d).
    """
    further_query, further_key = further or (None, None)
    windows = list(cut.window), list(cut.roll), list(cut.margins), list(geometry.grid)
    return content_pooling(query, key, value, further_query, further_key, *windows, list(geometry.kind_counts), *sizes)


@functools.partial(Operator, "nystra::content_pooling")
def content_pooling(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    further_query: Tensor | None,
    further_key: Tensor | None,
    window: list[int],
    roll: list[int],
    margins: list[int],
    grid: list[int],
    kinds: list[int],
    blocks: int,
    cells: int,
    near: int,
) -> Tensor:
    """Pool by content within the windows of maps.

    Args:
        query: (B, H, W, heads, d), the scale folded in; float32 or bfloat16, as key and value.
        key: (B, H, W, heads, d).
        value: (B, H, W, heads, d).
        further_query: further channels of queries, (kinds, heads or 1, N, channels), float32; None: there are none.
        further_key: those of keys, whose products with the former are bias and mask.
        window: h and w of a window.
        roll: see `nystra.windows.Cut`.
        margins: see `nystra.windows.Cut`.
        grid: windows of an image along each axis.
        kinds: kinds of windows along each axis, 2 where the last ones differ from the others.
        blocks: of queries; divides the number of tokens.
        cells: of keys; divides the number of tokens.
        near: cells that a block attends exactly.

    Returns:
        (B, H, W, heads, d), contiguous.
    """
    library = load()
    assert library is not None, "the caller asks `usable` first"
    query, key, value = (with_dense_channels(maps) for maps in (query, key, value))
    output = query.new_empty(query.shape)
    if not output.numel():
        return output
    parts = [splits(blocks, 2), splits(cells, 4)]
    levels = [(ctypes.c_int32 * len(part))(*part) for part in parts]
    if further_query is not None and further_key is not None:
        further_query, further_key = further_query.contiguous(), further_key.contiguous()
    arguments = Arguments(
        Windows.of(query, window, roll, margins, grid),
        *(Map.of(maps) for maps in (query, key, value, output)),
        *(None if further is None else further.data_ptr() for further in (further_query, further_key)),
        0 if further_query is None else further_query.shape[3],
        0 if further_query is None else further_query.stride(0),
        0 if further_query is None or further_query.shape[1] == 1 else further_query.stride(1),
        Pair(*kinds),
        blocks,
        cells,
        near,
        *(ctypes.addressof(level) for level in levels),
        *(len(part) for part in parts),
        query.dtype == torch.bfloat16,
    )
    library.run("content_pooling", arguments)
    return output


@content_pooling.register_fake
def _(query: Tensor, *_: object) -> Tensor:
    return query.new_empty(query.shape)
