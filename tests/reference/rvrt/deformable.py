"""RVRT's deformable attention as its operator computes it, sample by sample of every tap, nothing left out."""

import torch
from torch import Tensor


def bilinear(image: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Sample images (B, c, H, W) at places (B, h, w): (B, c, h, w); what lies outside counts as 0."""
    height, width = image.shape[2:]
    top, left = row.floor(), column.floor()
    result = torch.zeros(*image.shape[:2], *row.shape[1:], dtype=image.dtype)
    for down in (0, 1):
        for right in (0, 1):
            y, x = top + down, left + right
            weight = (1 - (row - y).abs()) * (1 - (column - x).abs())
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            number = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long()
            values = image.flatten(2).gather(2, number.flatten(1).unsqueeze(1).expand(-1, image.shape[1], -1))
            result = result + values.view_as(result) * (weight * inside).unsqueeze(1)
    return result


def deform_attn(q: Tensor, kv: Tensor, offset: Tensor, heads: int, groups: int, clip: int, kernel: int = 3) -> Tensor:
    """Attend from query frame b to frames (n + b) % clip, n = 0 … clip - 1, of keys and values b // clip.

    Args:
        q: (B·clip, 1, C, H, W).
        kv: (B, clip, 2C, H, W).
        offset: (B·clip, clip·groups·kernel²·2, H, W), of (down, right).
        heads: of attention.
        groups: of the channels of keys and values together.
        clip: frames of a clip.
        kernel: side of the window of taps.
    """
    frames, _, channels, height, width = q.shape
    offset = offset.view(frames, clip, groups, kernel**2, 2, height, width)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    sampled = torch.zeros(frames, clip, kernel**2, 2 * channels, height, width, dtype=q.dtype)
    size = 2 * channels // groups
    for frame in range(frames):
        for n in range(clip):
            image = kv[frame // clip, (n + frame) % clip].unflatten(0, (groups, size))
            for tap in range(kernel**2):
                down, right = offset[frame, n, :, tap].unbind(1)
                row = rows + tap // kernel - kernel // 2 + down
                column = columns + tap % kernel - kernel // 2 + right
                sampled[frame, n, tap] = bilinear(image, row, column).flatten(0, 1)
    key, value = (part.unflatten(3, (heads, -1)).flatten(1, 2) for part in sampled.split(channels, 3))
    query = q[:, 0].unflatten(1, (heads, -1)).unsqueeze(1)
    weights = ((query * (channels // heads) ** -0.5) * key).sum(3).softmax(1)
    return (weights.unsqueeze(3) * value).sum(1).flatten(1, 2).unsqueeze(1)
