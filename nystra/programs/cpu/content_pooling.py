"""Content pooling natively: blocks of queries and cells of keys by content, summaries and near cells in one softmax."""

import ctypes
import functools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nystra.programs.cpu.library import load
from nystra.programs.cpu.maps import Attention, Windows, outputs_and_masses, with_dense_channels
from nystra.programs.operators import Operator
from nystra.programs.places import Layout
from nystra.windows.clusters import splits
from nystra.windows.geometry import WindowGeometry
from nystra.windows.partition import Cut


class Arguments(Attention):
    """Arguments of the program, see `source/content_pooling.cpp`."""

    _fields_ = (
        ("further_query", ctypes.c_void_p),
        ("further_key", ctypes.c_void_p),
        ("further", ctypes.c_int64),
        ("further_kind", ctypes.c_int64),
        ("further_head", ctypes.c_int64),
        ("masks", ctypes.c_int64),
        ("bias", ctypes.c_void_p),
        ("bias_head", ctypes.c_int64),
        ("blocks", ctypes.c_int64),
        ("cells", ctypes.c_int64),
        ("near", ctypes.c_int64),
        ("query_parts", ctypes.c_void_p),
        ("key_parts", ctypes.c_void_p),
        ("query_levels", ctypes.c_int64),
        ("key_levels", ctypes.c_int64),
    )


class Further(NamedTuple):
    """Further channels of queries and keys in windows of all kinds, and the bias of near cells, for the program.

    Attributes:
        query: (kinds, heads or 1, N, channels), those of the mask first.
        key: as queries.
        masks: number of channels for the mask.
        bias: of all offsets from key to query, (heads, 2h - 1, 2w - 1), in units of log2; None: there is none.
    """

    query: Tensor
    key: Tensor
    masks: int
    bias: Tensor | None

    @classmethod
    def of(cls, kinds: Sequence[tuple[Tensor, Tensor, int, Tensor | None, bool] | None]) -> "Further | None":
        """Lay out the channels of all kinds of windows, see `nystra.kernels.content_pooling.BiasChannels`.

        Args:
            kinds: of each kind of window; None: it has neither bias nor mask.

        Returns:
            None where no kind has any.
        """
        present = [kind for kind in kinds if kind is not None]
        if not present:
            return None
        heads = max(len(kind[0]) for kind in present)
        masks = max(kind[2] for kind in present)
        most = masks + max(kind[0].shape[2] - kind[2] for kind in present)
        tokens, bias = present[0][0].shape[1], present[0][3]

        def laid_out(kind: tuple[Tensor, Tensor, int, Tensor | None, bool] | None, side: Literal[0, 1]) -> Tensor:
            if kind is None:
                return torch.zeros(heads, tokens, most, device=present[0][0].device)
            channels, own = kind[side], kind[2]
            mask = F.pad(channels[..., :own].float(), (0, masks - own))
            rest = channels[..., own:].float()
            return F.pad(torch.cat([mask, rest], 2), (0, most - masks - rest.shape[2])).expand(heads, -1, -1)

        queries, keys = (torch.stack([laid_out(kind, side) for kind in kinds]) for side in (0, 1))
        return cls(queries, keys, masks, None if bias is None else bias.float() * math.log2(math.e))


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    further: Further | None,
    geometry: WindowGeometry,
    cut: Cut,
    sizes: tuple[int, int, int],
    *,
    masses: bool,
) -> Tensor:
    """Pool by content within the windows of maps (B, H, W, heads, d), see `ContentPooling`.

    Args:
        query: the scale folded in.
        key: as queries.
        value: as queries.
        further: None: there is neither bias nor mask.
        geometry: of the windows.
        cut: of the maps into windows.
        sizes: blocks of queries, cells of keys, and cells that a block attends exactly.
        masses: whether those of keys are wanted; of float32 only.

    Returns:
        (B, H, W, heads, d), or with `masses` (B, H, W, heads, d + 1): the last channel is the masses.
    """
    channels = further or (None, None, 0, None)
    layout, kinds = Layout.of(geometry, cut), list(geometry.kind_counts[-2:])
    return content_pooling(query, key, value, *channels, *layout, kinds, *sizes, masses)


@functools.partial(Operator, "nystra::content_pooling")
def content_pooling(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    further_query: Tensor | None,
    further_key: Tensor | None,
    masks: int,
    bias: Tensor | None,
    window: list[int],
    roll: list[int],
    margins: list[int],
    grid: list[int],
    frames: int,
    kinds: list[int],
    blocks: int,
    cells: int,
    near: int,
    masses: bool,
) -> Tensor:
    """Pool by content within the windows of maps.

    Args:
        query: (B, H, W, heads, d), the scale folded in; float32 or bfloat16, as key and value.
        key: (B, H, W, heads, d).
        value: (B, H, W, heads, d).
        further_query: further channels of queries, (kinds, heads or 1, N, channels), float32; None: there are none.
        further_key: those of keys, whose products with the former are mask and bias.
        masks: number of the further channels that are the mask, the first of them.
        bias: see `Further`.
        window: h and w of a window.
        roll: see `nystra.windows.Cut`.
        margins: see `nystra.windows.Cut`.
        grid: windows of an image along each axis.
        frames: see `Layout`.
        kinds: kinds of windows along each axis, 2 where the last ones differ from the others.
        blocks: of queries, at most as many as tokens.
        cells: of keys, at most as many as tokens.
        near: cells that a block attends exactly.
        masses: whether those of keys are wanted; of float32 only.

    Returns:
        (B, H, W, heads, d), contiguous, or d + 1 channels, the last of which is the masses.
    """
    library = load()
    assert library is not None, "the caller asks `usable` first"
    query, key, value = (with_dense_channels(maps) for maps in (query, key, value))
    output = outputs_and_masses(query, masses)
    if not output.numel():
        return output
    parts = [splits(blocks, 2), splits(cells, 4)]
    levels = [(ctypes.c_int32 * len(part))(*part) for part in parts]
    if further_query is not None and further_key is not None:
        further_query, further_key = further_query.contiguous(), further_key.contiguous()
    if bias is not None:
        bias = bias.contiguous()
    arguments = Arguments.of(
        Windows.of(query, window, roll, margins, grid, frames),
        (query, key, value, output[..., : query.shape[-1]]),
        kinds,
        *(None if further is None else further.data_ptr() for further in (further_query, further_key)),
        0 if further_query is None else further_query.shape[3],
        0 if further_query is None else further_query.stride(0),
        0 if further_query is None or further_query.shape[1] == 1 else further_query.stride(1),
        masks,
        None if bias is None else bias.data_ptr(),
        0 if bias is None or len(bias) == 1 else bias.stride(0),
        blocks,
        cells,
        near,
        *(ctypes.addressof(level) for level in levels),
        *(len(part) for part in parts),
        mass=output[..., query.shape[-1] :] if masses else None,
    )
    library.run("content_pooling", arguments)
    return output


content_pooling.register_fake(outputs_and_masses)
