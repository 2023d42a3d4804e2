"""Landmark-centred pooling in three programs: landmarks, their summaries of all cells, and the outputs of queries.

Only landmarks and summaries are written between them, m·(1 + 2s) vectors of a window and head. What they are told is
described where they are called (`nystra.programs.gpu.landmark_pooling`).
"""

import triton
import triton.language as tl

from nystra.programs.gpu.maps import further, kind_of, loaded, located


@triton.jit
def landmarks(
    query,
    query_strides,
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
    order,
    begin,
    landmarks,
    blocks,
    cells_of_block,
    WIDE: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Mean query of each block, (windows·h, m, d): one block."""
    program = tl.program_id(0)
    block = program % blocks
    head = program // blocks % heads
    window = program // blocks // heads
    start = tl.load(begin + block * cells_of_block)
    end = tl.load(begin + (block + 1) * cells_of_block)
    total = tl.zeros([WIDE], tl.float32)
    for first in range(start, end, KEYS):
        numbers = first + tl.arange(0, KEYS)
        present = numbers < end
        tokens = tl.load(order + numbers, mask=present, other=0)
        image, row, column, _ = located(tokens, present, window, rows, columns, row_windows, column_windows, tall, wide)
        queries = loaded(query, image, row, column, present, head, query_strides, channels, WIDE)
        total += tl.sum(queries.to(tl.float32), 0)
    channel = tl.arange(0, WIDE)
    place = landmarks + program.to(tl.int64) * channels + channel
    tl.store(place, total / (end - start), mask=channel < channels)


@triton.jit
def summaries(
    key,
    value,
    key_strides,
    value_strides,
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
    order,
    begin,
    landmarks,
    mean,
    mean_kind,
    mean_head,
    far_key,
    far_value,
    offsets,
    blocks,
    cells,
    groups,
    log2e,
    MEAN_TILE: tl.constexpr,  # landmarks whose bias lies side by side; 0: there is none
    LANDMARKS: tl.constexpr,
    WIDE: tl.constexpr,
    KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Key, value and offset of a cell for each of some landmarks: (windows·h, m, s, d) and (windows·h, m, s)."""
    program = tl.program_id(0)
    cell = program // groups % cells
    both = (program // groups // cells).to(tl.int64)
    head = program // groups // cells % heads
    window = program // groups // cells // heads
    mine = program % groups * LANDMARKS + tl.arange(0, LANDMARKS)
    valid = mine < blocks
    channel = tl.arange(0, WIDE)
    held = channel < channels
    place = landmarks + (both * blocks + mine)[:, None] * channels + channel[None, :]
    centre = tl.load(place, mask=valid[:, None] & held[None, :], other=0.0)
    if MEAN_TILE > 0:
        kind = kind_of(window, grid_rows, grid_columns, row_kinds, column_kinds).to(tl.int64)
        table = mean + kind * mean_kind + head.to(tl.int64) * mean_head
        by_landmark = mine // MEAN_TILE * (tall * wide * MEAN_TILE) + mine % MEAN_TILE
    end = tl.load(begin + cell + 1)
    most = tl.full([LANDMARKS], -float("inf"), tl.float32)
    total = tl.zeros([LANDMARKS], tl.float32)
    mean_key = tl.zeros([LANDMARKS, WIDE], tl.float32)
    mean_value = tl.zeros([LANDMARKS, WIDE], tl.float32)
    for first in range(tl.load(begin + cell), end, KEYS):
        numbers = first + tl.arange(0, KEYS)
        present = numbers < end
        tokens = tl.load(order + numbers, mask=present, other=0)
        image, row, column, _ = located(tokens, present, window, rows, columns, row_windows, column_windows, tall, wide)
        keys = loaded(key, image, row, column, present, head, key_strides, channels, WIDE)
        values = loaded(value, image, row, column, present, head, value_strides, channels, WIDE)
        logits = tl.dot(centre.to(keys.dtype), tl.trans(keys), input_precision=PRECISION) * log2e
        if MEAN_TILE > 0:
            both_valid = valid[:, None] & present[None, :]
            logits += tl.load(table + by_landmark[:, None] + numbers[None, :] * MEAN_TILE, mask=both_valid, other=0.0)
        logits = tl.where(present[None, :], logits, -float("inf"))
        weights, kept, most, total = further(logits, most, total)
        weights = weights.to(keys.dtype)
        mean_key = mean_key * kept + tl.dot(weights, keys, input_precision=PRECISION)
        mean_value = mean_value * kept + tl.dot(weights, values, input_precision=PRECISION)
    mean_key = (mean_key / total[:, None]).to(far_key.dtype.element_ty)
    mean_value = (mean_value / total[:, None]).to(far_value.dtype.element_ty)
    summary = (both * blocks + mine) * cells + cell
    place = summary[:, None] * channels + channel[None, :]
    written = valid[:, None] & held[None, :]
    tl.store(far_key + place, mean_key, mask=written)
    tl.store(far_value + place, mean_value, mask=written)
    # Exact at the landmark: there the logit of a summary is its mass.
    at_landmark = tl.sum(mean_key.to(tl.float32) * centre, 1) * log2e
    tl.store(offsets + summary, most + tl.log2(total) - at_landmark, mask=valid)


@triton.jit
def outputs_of_queries(
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
    order,
    tiles,
    tile_count,
    seen,
    bias,
    bias_head,
    far_key,
    far_value,
    offsets,
    blocks,
    cells,
    log2e,
    BIAS: tl.constexpr,
    TILE: tl.constexpr,
    WIDE: tl.constexpr,
    KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Attend to the summaries that a tile of queries sees, and to tokens: one tile of one window and head."""
    program = tl.program_id(0)
    both = (program // tile_count).to(tl.int64)
    head = program // tile_count % heads
    window = program // tile_count // heads
    kind = kind_of(window, grid_rows, grid_columns, row_kinds, column_kinds)
    tile = tiles + (kind * tile_count + program % tile_count) * 8
    block, start, count = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    first_far, far_count = tl.load(tile + 3), tl.load(tile + 4)
    first_exact, exact_count, bias_row = tl.load(tile + 5), tl.load(tile + 6), tl.load(tile + 7)
    place_in_tile = tl.arange(0, TILE)
    valid = place_in_tile < count
    mine = tl.load(order + start + place_in_tile, mask=valid, other=0)
    image, row, column, inside = located(mine, valid, window, rows, columns, row_windows, column_windows, tall, wide)
    queries = loaded(query, image, row, column, valid, head, query_strides, channels, WIDE)
    channel = tl.arange(0, WIDE)
    held = channel < channels
    table = bias + head.to(tl.int64) * bias_head + bias_row.to(tl.int64) * TILE + place_in_tile
    most = tl.full([TILE], -float("inf"), tl.float32)
    total = tl.zeros([TILE], tl.float32)
    result = tl.zeros([TILE, WIDE], tl.float32)
    for first in range(0, far_count, KEYS):
        numbers = first + tl.arange(0, KEYS)
        present = numbers < far_count
        summary = (both * blocks + block) * cells + tl.load(seen + first_far + numbers, mask=present, other=0)
        place = summary[:, None] * channels + channel[None, :]
        read = present[:, None] & held[None, :]
        keys = tl.load(far_key + place, mask=read, other=0.0)
        values = tl.load(far_value + place, mask=read, other=0.0)
        logits = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * log2e
        logits += tl.load(offsets + summary, mask=present, other=-float("inf"))[None, :]
        if BIAS:
            known = valid[:, None] & present[None, :]
            logits += tl.load(table[:, None] + numbers[None, :] * TILE, mask=known, other=0.0)
        weights, kept, most, total = further(logits, most, total)
        result = result * kept + tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
    for first in range(0, exact_count, KEYS):
        numbers = first + tl.arange(0, KEYS)
        present = numbers < exact_count
        tokens = tl.load(seen + first_exact + numbers, mask=present, other=0)
        tokens = tl.load(order + tokens, mask=present, other=0)
        _, row_of, column_of, _ = located(
            tokens, present, window, rows, columns, row_windows, column_windows, tall, wide
        )
        keys = loaded(key, image, row_of, column_of, present, head, key_strides, channels, WIDE)
        values = loaded(value, image, row_of, column_of, present, head, value_strides, channels, WIDE)
        logits = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * log2e
        if BIAS:
            known = valid[:, None] & present[None, :]
            logits += tl.load(table[:, None] + (far_count + numbers)[None, :] * TILE, mask=known, other=0.0)
        logits = tl.where(present[None, :], logits, -float("inf"))
        weights, kept, most, total = further(logits, most, total)
        result = result * kept + tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
    place = output + image * output_strides[0] + row * output_strides[1] + column * output_strides[2]
    place += head.to(tl.int64) * output_strides[3]
    written = inside[:, None] & held[None, :]
    result = (result / total[:, None]).to(output.dtype.element_ty)
    tl.store(place[:, None] + channel[None, :], result, mask=written)
