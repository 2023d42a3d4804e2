"""Guided deformable attention: features of the clip before are brought to where the next clip needs them."""

import torch
from torch import Tensor, nn

from nystra.hosts.layers import add_branch, mlp
from nystra.hosts.rvrt.blocks import FrameConv, Numbered
from nystra.hosts.rvrt.deformable import deformable_attention

# Of the network that finds offsets.
CHANNELS = 64


class GuidedAlignment(nn.Module):
    """Attend from a clip to the clip before, at places that optical flow guides to and a network corrects.

    Args:
        dim: C.
        taps: rows and columns of the window around each place, odd.
        heads: of attention; divide 2C.
        groups: of channels of keys and values that have offsets of their own; even, divide 4C.
        frames: T, frames of a clip.
        max_residue_magnitude: largest correction of the flow, in pixels.
    """

    def __init__(
        self, dim: int, taps: tuple[int, int], heads: int, groups: int, frames: int, max_residue_magnitude: float = 10.0
    ) -> None:
        super().__init__()
        self.taps, self.heads, self.groups, self.frames = taps, heads, groups, frames
        self.max_residue_magnitude = max_residue_magnitude
        leaky = nn.LeakyReLU(0.1)
        inner = {number: FrameConv(CHANNELS, CHANNELS) for number in (2, 4, 6, 8)}
        corrections = FrameConv(CHANNELS, 2 * frames * groups * taps[0] * taps[1], side=1)
        # At first places are those of the flow.
        nn.init.zeros_(corrections.weight)
        if corrections.bias is not None:
            nn.init.zeros_(corrections.bias)
        self.conv_offset = Numbered(
            {
                0: FrameConv(dim * (1 + frames) + 2 * frames, CHANNELS, side=1),
                **{number + part: layer for number, conv in inner.items() for part, layer in ((-1, leaky), (0, conv))},
                9: leaky,
                10: corrections,
            }
        )
        self.proj_q, self.proj_k, self.proj_v = (Numbered({1: nn.Linear(dim, 2 * dim)}) for _ in range(3))
        self.proj = Numbered({1: nn.Linear(2 * dim, dim)})
        self.mlp = Numbered({1: mlp(dim, 2 * dim)})

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, warped: list[Tensor], flows: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Align the features of the clip before.

        Args:
            query: features of the clip, (B, T, H, W, C).
            key: those of the clip before.
            value: what was propagated to the clip before, and is to be aligned.
            warped: for each of the T frames that a query meets in turn, the values warped by its flow, (B, T, H, W, C).
            flows: from each frame of the clip to the frame that it meets, (B, T, 2, H, W): (right, down), in pixels.

        Returns:
            The aligned values (B, T, H, W, C), and the flows with the corrections' means over groups and taps.
        """
        tokens_last = [flow.permute(0, 1, 3, 4, 2) for flow in flows]
        corrections = self.conv_offset(torch.cat([query, *warped, *tokens_last], -1))
        count = self.taps[0] * self.taps[1]
        offsets = self.max_residue_magnitude * corrections.permute(0, 1, 4, 2, 3).contiguous().tanh()
        offsets = offsets.unflatten(2, (self.frames, self.groups, count, 2))
        # Offsets are (down, right).
        guides = torch.stack([flow.flip(2) for flow in flows], 2)
        offsets = offsets + guides[:, :, :, None, None]
        query, key, value = (
            projection(x).permute(0, 1, 4, 2, 3).contiguous()
            for projection, x in ((self.proj_q, query), (self.proj_k, key), (self.proj_v, value))
        )
        attended = deformable_attention(query, key, value, offsets, self.heads, self.taps)
        result = add_branch(self.proj(attended.permute(0, 1, 3, 4, 2)), self.mlp)
        return result, list(offsets.mean((3, 4)).flip(3).unbind(2))
