"""Propagation of clips' features to and fro through a film: flows between clips, alignment, refinement."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nystra.hosts.rvrt.spynet import warp

CLIP_FRAMES = 2
"""Frames of a clip: flows between clips are composed for two."""


def propagate(
    branches: list[list[Tensor]],
    flows: Tensor | list[list[Tensor]],
    align: nn.Module,
    refine: nn.Module,
    backward: bool,
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Propagate features from clip to clip.

    Args:
        branches: features of every clip, (B, T, H, W, C), of all branches so far.
        flows: between neighbouring frames of the film, in the order in which it is gone through, (B, F - 1, 2, H, W),
            each from the later to the earlier one; or, for each clip but the first, those that were corrected before.
        align: a `GuidedAlignment`, brings what was propagated to the next clip.
        refine: maps all branches and the aligned features, side by side, to what is added to the latter.
        backward: whether the film is gone through from its end.

    Returns:
        The new branch, and for each clip but the first the corrected flows.
    """
    if backward:
        branches = [[clip.flip(1) for clip in reversed(branch)] for branch in branches]
    propagated = torch.zeros_like(branches[0][0])
    result, corrected = [], []
    for number, clips in enumerate(zip(*branches, strict=True)):
        if number:
            guides = between_clips(flows, number) if isinstance(flows, Tensor) else flows[number - 1]
            features = propagated.permute(0, 1, 4, 2, 3)
            warped = [
                warp(part.flatten(0, 1), flow.flatten(0, 1)).unflatten(0, part.shape[:2]).permute(0, 1, 3, 4, 2)
                for part, flow in zip((features, features.flip(1)), guides, strict=True)
            ]
            before = branches[-1][number - 1]
            propagated, guides = align(clips[-1], before, propagated, warped, guides)
            corrected.append(guides)
        propagated = propagated + refine(torch.cat([*clips, propagated], -1))
        result.append(propagated)
    if backward:
        result = [clip.flip(1) for clip in reversed(result)]
    return result, corrected


def between_clips(flows: Tensor, number: int) -> list[Tensor]:
    """Compose flows from the two frames of a clip, 2 and 3, to those of the clip before, 0 and 1.

    Args:
        flows: between neighbouring frames, see `propagate`.
        number: of the clip, >= 1.

    Returns:
        To the frames that are met first, 2 → 0 and 3 → 1, and then, 2 → 1 and 3 → 0: (B, 2, 2, H, W) each.
    """
    first = CLIP_FRAMES * number - 2
    one, two, three = flows[:, first : first + 3].unbind(1)
    two_zero = two + warp(one, two)
    three_one = three + warp(two, three)
    three_zero = three + warp(two_zero, three)
    return [torch.stack([two_zero, three_one], 1), torch.stack([two, three_zero], 1)]
