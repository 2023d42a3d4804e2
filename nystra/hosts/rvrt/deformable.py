"""Deformable attention of a clip's frames to other frames: every query chooses where its keys and values lie."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Numbers that are sampled at a time: 16 MiB of float32.
MOST_SAMPLES = 2**22


def deformable_attention(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, heads: int, taps: tuple[int, int] = (3, 3)
) -> Tensor:
    """Attend from every pixel to T·K places that are chosen for it, K in each of T frames.

    Query frame i meets the frames i, i + 1, … of keys and values, counted modulo T. Around a query's own place lie the
    K taps of a small window, each moved by an offset; keys and values there are interpolated, and 0 beyond the edges.

    Frames and rows are taken piece by piece, so that memory for what is sampled does not grow with them: also in
    training, where each piece is sampled again in the backward pass. Gradients are those of this function. Upstream's
    backward operator multiplies those that pass through the keys by (C / heads)^-½ a second time, which changes the
    gradients of keys and of offsets; networks were trained with that, and outputs do not depend on it.

    Args:
        query: (B, T, C, H, W).
        key: the shape of `query`.
        value: the shape of `query`.
        offsets: (B, T, T, G, K, 2, H, W) of query frame, frame met, group, tap and (down, right), in pixels. Groups
            split the channels of keys and values together: the first half moves keys, the other half values.
        heads: of attention; divide C.
        taps: rows and columns of the window, odd; K = rows·columns.

    Returns:
        The shape of `query`.

    Raises:
        ValueError: if `offsets` do not fit, or `heads` and groups do not divide the channels.
    """
    batch, frames, channels, height, width = query.shape
    count = math.prod(taps)
    expected = (batch, frames, frames, *offsets.shape[3:4], count, 2, height, width)
    if offsets.shape != expected or channels % heads or 2 * channels % offsets.shape[3] or offsets.shape[3] % 2:
        raise ValueError(
            f"offsets {tuple(offsets.shape)} must be (B, T, T, groups, {count}, 2, H, W) for queries "
            f"{tuple(query.shape)}, an even number of groups and heads ({heads}) must divide the channels"
        )
    rows = max(1, MOST_SAMPLES // (2 * batch * frames * count * channels * width))
    both = torch.cat([key, value], 2).unflatten(2, (offsets.shape[3], -1))
    scaled = query.unflatten(2, (heads, -1)) * (channels // heads) ** -0.5
    attended = []
    for frame in range(frames):
        met = both.roll(-frame, 1).flatten(0, 2)
        pieces = []
        for first in range(0, height, rows):
            part = slice(first, first + rows)
            arguments = met, scaled[:, frame, ..., part, :], offsets[:, frame, ..., part, :], first, taps
            recompute = torch.is_grad_enabled()
            pieces.append(checkpoint(_attend, *arguments, use_reentrant=False) if recompute else _attend(*arguments))
        attended.append(torch.cat(pieces, 2))
    return torch.stack(attended, 1)


def _attend(met: Tensor, query: Tensor, offsets: Tensor, first: int, taps: tuple[int, int]) -> Tensor:
    """Attend from some rows of a frame.

    Args:
        met: keys and values of the frames as they are met, (B·T·G, c, H, W).
        query: (B, heads, d, rows, W), scaled.
        offsets: (B, T, G, K, 2, rows, W).
        first: the first of the rows.
        taps: rows and columns of the window.
    """
    batch, heads, channels, rows, width = query.shape
    frames, _, count = offsets.shape[1:4]
    sampled = F.grid_sample(met, _places(offsets, first, taps, met.shape[2], width), align_corners=True)
    # Of keys and of values: (B, T, heads, d, K, rows, W).
    sampled = sampled.view(batch, frames, 2, heads, channels, count, rows, width)
    key, value = sampled.unbind(2)
    logits = (key * query[:, None, :, :, None]).sum(3)
    weights = logits.transpose(1, 2).flatten(2, 3).softmax(2).unflatten(2, (frames, count)).transpose(1, 2)
    return (value * weights.unsqueeze(3)).sum((1, 4)).flatten(1, 2)


def _places(offsets: Tensor, first: int, taps: tuple[int, int], height: int, width: int) -> Tensor:
    """Places of the taps as `grid_sample` takes them, (B·T·G, K·rows, W, 2)."""
    down, right = offsets.unbind(4)
    rows = torch.arange(first, first + down.shape[-2], dtype=offsets.dtype, device=offsets.device)
    columns = torch.arange(width, dtype=offsets.dtype, device=offsets.device)
    tap_rows, tap_columns = (
        torch.arange(side, dtype=offsets.dtype, device=offsets.device) - side // 2 for side in taps
    )
    down = down + (tap_rows.repeat_interleave(taps[1]).view(-1, 1, 1) + rows.unsqueeze(1))
    right = right + (tap_columns.repeat(taps[0]).view(-1, 1, 1) + columns)
    scales = (2 / max(side - 1, 1) for side in (width, height))
    places = torch.stack([axis * scale - 1 for axis, scale in zip((right, down), scales, strict=True)], -1)
    return places.flatten(0, 2).flatten(1, 2)
