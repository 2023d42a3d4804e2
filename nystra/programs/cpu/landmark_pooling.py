"""Landmark-centred pooling natively."""

import ctypes
import functools

from torch import Tensor

from nystra.programs.cpu.library import load
from nystra.programs.cpu.maps import Attention, Windows, outputs_and_masses, with_dense_channels
from nystra.programs.operators import Operator
from nystra.programs.places import Layout
from nystra.programs.pooling_plan import Plan
from nystra.windows.cells import Cells
from nystra.windows.geometry import WindowGeometry
from nystra.windows.partition import Cut


class Kind(ctypes.Structure):
    """What windows of one kind have in common, see `source/landmark_pooling.cpp`."""

    _fields_ = (
        ("tile", ctypes.c_void_p),
        ("tiles", ctypes.c_int64),
        ("run", ctypes.c_void_p),
        ("mean", ctypes.c_void_p),
        ("mean_head", ctypes.c_int64),
        ("bias", ctypes.c_void_p),
        ("bias_head", ctypes.c_int64),
    )


class Arguments(Attention):
    """Arguments of the program, see `source/landmark_pooling.cpp`."""

    _fields_ = (
        ("order", ctypes.c_void_p),
        ("blocks", ctypes.c_int64),
        ("cells", ctypes.c_int64),
        ("begin", ctypes.c_void_p),
        ("kind", ctypes.POINTER(Kind)),
    )


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plans: list[Plan],
    layout: Cells,
    geometry: WindowGeometry,
    cut: Cut,
    *,
    masses: bool,
) -> Tensor:
    """Attend within the windows of maps (B, H, W, heads, d) by the plans of all kinds; see `LandmarkPooling`.

    Returns:
        (B, H, W, heads, d), or with `masses` (B, H, W, heads, d + 1): the last channel is the masses of keys.
    """
    return landmark_pooling(
        query,
        key,
        value,
        [table for plan in plans for table in plan],
        [layout.num_blocks, layout.num_cells],
        *Layout.of(geometry, cut),
        list(geometry.kind_counts[-2:]),
        masses,
    )


@functools.partial(Operator, "nystra::landmark_pooling")
def landmark_pooling(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plans: list[Tensor],
    counts: list[int],
    window: list[int],
    roll: list[int],
    margins: list[int],
    grid: list[int],
    frames: int,
    kinds: list[int],
    masses: bool,
) -> Tensor:
    """Attend within the windows of maps by landmark-centred pooling.

    Args:
        query: (B, H, W, heads, d), the scale folded in; float32 or bfloat16, as key and value.
        key: (B, H, W, heads, d).
        value: (B, H, W, heads, d).
        plans: parts of the `Plan` of each kind of window, one after the other.
        counts: blocks and cells of a window.
        window: h and w of a window.
        roll: see `nystra.windows.Cut`.
        margins: see `nystra.windows.Cut`.
        grid: windows of an image along each axis.
        frames: see `Layout`.
        kinds: of windows, along each axis: 2 where the last ones differ from the others, else 1.
        masses: whether those of keys are wanted; of float32 only.

    Returns:
        (B, H, W, heads, d), contiguous, or d + 1 channels, the last of which is the masses.
    """
    library = load()
    assert library is not None, "the caller asks `usable` first"
    query, key, value = (with_dense_channels(maps) for maps in (query, key, value))
    output = outputs_and_masses(query, masses)
    windows = Windows.of(query, window, roll, margins, grid, frames)
    if not output.numel():
        return output
    parts = [Plan(*plans[i : i + len(Plan._fields)]) for i in range(0, len(plans), len(Plan._fields))]
    arguments = Arguments.of(
        windows,
        (query, key, value, output[..., : query.shape[-1]]),
        kinds,
        parts[0].order.data_ptr(),
        *counts,
        parts[0].begin.data_ptr(),
        (Kind * len(parts))(
            *(
                Kind(
                    plan.tiles.data_ptr(),
                    len(plan.tiles),
                    plan.runs.data_ptr(),
                    *_table(plan.mean),
                    *_table(plan.bias),
                )
                for plan in parts
            )
        ),
        mass=output[..., query.shape[-1] :] if masses else None,
    )
    library.run("landmark_pooling", arguments)
    return output


def _table(table: Tensor) -> tuple[int | None, int]:
    """Address, and stride of heads."""
    if not table.numel():
        return None, 0
    return table.data_ptr(), table.stride(0) if len(table) > 1 else 0


landmark_pooling.register_fake(outputs_and_masses)
