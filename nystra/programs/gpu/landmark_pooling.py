"""Landmark-centred pooling: what its programs are told, and in which order they run."""

import functools

import torch
import triton
from torch import Tensor

from nystra.programs.gpu import pooling_programs as programs
from nystra.programs.gpu.maps import LEAST, LOG2E, Windows, padded, precision
from nystra.programs.operators import Operator
from nystra.programs.places import Layout
from nystra.programs.pooling_plan import Plan
from nystra.windows.cells import Cells
from nystra.windows.geometry import WindowGeometry
from nystra.windows.partition import Cut

# Most queries of a tile, landmarks that weigh a cell together, keys that meet them at a time.
TILE = 64
LANDMARKS = 16
KEYS = 32


def tile_of(layout: Cells) -> int:
    """Queries that are attended together: those of a block, within what the processors of a device hold."""
    return min(TILE, max(LEAST, triton.next_power_of_2(max(layout.sizes()) * layout.num_cells // layout.num_blocks)))


def tables(plans: list[Plan], device: torch.device) -> list[Tensor]:
    """Put the plans of all kinds of windows where programs read them.

    Returns:
        order: see `Plan`: int32, (N,).
        begin: see `Plan`: int32, (s + 1,).
        tiles: int32, (kinds, n, 8): block; first query and number of queries; first and number, in `seen`, of the cells
            whose summaries its queries see, and of the tokens, in the cells' order, that they see exactly; first row of
            `bias`. Kinds with less tiles than others end with tiles without queries.
        seen: int32.
        mean: see `Plan`: (kinds, heads or 1, m / tile, N, tile); empty: none.
        bias: see `Plan`, kind after kind: (heads or 1, rows, tile); empty: none.
    """
    begins = plans[0].begin.tolist()
    every = range(len(begins) - 1)
    seen: list[int] = []
    kinds, row = [], 0
    for plan in plans:
        runs, tiles = plan.runs.tolist(), []
        for block, first, count, first_run, number, first_row in plan.tiles.tolist():
            near = runs[first_run : first_run + number]
            # Where there is a bias, it tells which summaries a query does not see.
            far = every if plan.bias.numel() else [cell for cell in every if not _holds(near, cell)]
            exact = [token for cell, cells in near for token in range(begins[cell], begins[cell + cells])]
            middle = len(seen) + len(far)
            tiles.append([block, first, count, len(seen), len(far), middle, len(exact), row + first_row])
            seen += [*far, *exact]
        kinds.append(tiles)
        row += plan.bias.shape[1] if plan.bias.numel() else 0
    most = max(map(len, kinds))
    numbers = torch.tensor([[*tiles, *[[0] * 8] * (most - len(tiles))] for tiles in kinds], dtype=torch.int32)
    bias = torch.cat([plan.bias for plan in plans], 1) if plans[0].bias.numel() else plans[0].bias
    mean = torch.stack([plan.mean for plan in plans]) if plans[0].mean.numel() else plans[0].mean
    parts = plans[0].order, plans[0].begin, numbers, torch.tensor(seen, dtype=torch.int32), mean, bias
    return [part.to(device).contiguous() for part in parts]


def _holds(runs: list[list[int]], cell: int) -> bool:
    return any(first <= cell < first + number for first, number in runs)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: list[Tensor],
    cells: Cells,
    geometry: WindowGeometry,
    cut: Cut,
) -> Tensor:
    """Attend within the windows of maps (B, H, W, heads, d), with the result of `tables`; see `LandmarkPooling`."""
    counts = [cells.num_blocks, cells.num_cells]
    kinds = list(geometry.kind_counts[-2:])
    return landmark_pooling(query, key, value, *layout, counts, *Layout.of(geometry, cut), kinds)


@functools.partial(Operator, "nystra::landmark_pooling_gpu")
def landmark_pooling(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    order: Tensor,
    begin: Tensor,
    tiles: Tensor,
    seen: Tensor,
    mean: Tensor,
    bias: Tensor,
    counts: list[int],
    window: list[int],
    roll: list[int],
    margins: list[int],
    grid: list[int],
    frames: int,
    kinds: list[int],
) -> Tensor:
    """Attend within the windows of maps by landmark-centred pooling.

    Args:
        query: (B, H, W, heads, d), the scale folded in; of one dtype as key and value.
        key: (B, H, W, heads, d).
        value: (B, H, W, heads, d).
        order: see `tables`.
        begin: see `tables`.
        tiles: see `tables`.
        seen: see `tables`.
        mean: see `tables`.
        bias: see `tables`.
        counts: blocks and cells of a window.
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
    blocks, cells = counts
    both, wide = windows.number * windows.heads, padded(windows.channels)
    channels = windows.channels
    landmarks = query.new_empty(both, blocks, channels, dtype=torch.float32)
    far_key, far_value = query.new_empty(2, both, blocks, cells, channels).unbind()
    offsets = query.new_empty(both, blocks, cells, dtype=torch.float32)
    has_mean, has_bias = mean.numel() > 0, bias.numel() > 0
    constant: dict[str, int | str] = {"WIDE": wide, "KEYS": KEYS}
    programs.landmarks[(both * blocks,)](
        query, query.stride(), *windows.arguments, order, begin, landmarks, blocks, cells // blocks, **constant
    )
    constant["PRECISION"] = precision()
    groups = triton.cdiv(blocks, LANDMARKS)
    programs.summaries[(both * cells * groups,)](
        key,
        value,
        key.stride(),
        value.stride(),
        *windows.arguments,
        *kinds,
        order,
        begin,
        landmarks,
        mean,
        mean.stride(0) if has_mean else 0,
        mean.stride(1) if has_mean and mean.shape[1] > 1 else 0,
        far_key,
        far_value,
        offsets,
        blocks,
        cells,
        groups,
        LOG2E,
        MEAN_TILE=mean.shape[4] if has_mean else 0,
        LANDMARKS=LANDMARKS,
        **constant,
    )
    programs.outputs_of_queries[(both * tiles.shape[1],)](
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
        order,
        tiles,
        tiles.shape[1],
        seen,
        bias,
        bias.stride(0) if has_bias and len(bias) > 1 else 0,
        far_key,
        far_value,
        offsets,
        blocks,
        cells,
        LOG2E,
        BIAS=has_bias,
        TILE=bias.shape[2] if has_bias else TILE,
        **constant,
    )
    return output


@landmark_pooling.register_fake
def _outputs(query: Tensor, *_: object) -> Tensor:
    return query.new_empty(query.shape)
