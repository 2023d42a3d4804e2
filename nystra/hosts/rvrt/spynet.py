"""SpyNet's optical flow, coarse to fine (Ranjan and Black, 2017), and warping by a flow."""

from collections import OrderedDict
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Means and standard deviations of ImageNet's channels.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEVELS = 6
# Pairs of pictures have this many pixels at a time, or are one: 64 channels of them take 64 MiB.
MOST_PIXELS = 2**18


def warp(features: Tensor, flow: Tensor, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Take features from where a flow points to.

    Args:
        features: (B, C, H, W).
        flow: (B, 2, H, W): (right, down), in pixels.
        padding: what lies beyond the edges: zeros, or the values of the edge.

    Returns:
        The shape of `features`; bilinear between pixels.
    """
    places = []
    for axis, side in enumerate(reversed(features.shape[-2:])):
        own = torch.arange(side, dtype=flow.dtype, device=flow.device)
        place = flow[:, axis] + (own if axis == 0 else own.unsqueeze(1))
        places.append(2 * place / max(side - 1, 1) - 1)
    return F.grid_sample(features, torch.stack(places, -1), padding_mode=padding, align_corners=True)


class FlowLevel(nn.Module):
    """Five convolutions from two pictures and a flow, (B, 8, H, W), to the rest of the flow, (B, 2, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((8, 32, 64, 32, 16, 2)):
            layers += [nn.Conv2d(inputs, outputs, 7, padding=3), nn.ReLU()]
        self.basic_module = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 8, H, W) to (B, 2, H, W)."""
        return self.basic_module(x)


class SpyNet(nn.Module):
    """Optical flow between two pictures by six levels of halved sizes, under the keys of BasicSR and RVRT."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList(FlowLevel() for _ in range(LEVELS))
        for name, values in OrderedDict(mean=MEAN, std=STD).items():
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, reference: Tensor, other: Tensor) -> Tensor:
        """Estimate where each pixel of a picture lies in another one.

        Args:
            reference: (B, 3, H, W), range [0, 1].
            other: the shape of `reference`.

        Returns:
            Flow from the reference to the other, (B, 2, H, W): (right, down), in pixels.
        """
        count = max(1, MOST_PIXELS // (reference.shape[2] * reference.shape[3]))
        pieces = zip(reference.split(count), other.split(count), strict=True)
        return torch.cat([self._flow(*pair) for pair in pieces])

    def _flow(self, reference: Tensor, other: Tensor) -> Tensor:
        height, width = reference.shape[-2:]
        # Sides that are halved five times.
        size = tuple(-(-side // 32) * 32 for side in (height, width))
        pictures = []
        for picture in (reference, other):
            levels = [(F.interpolate(picture, size, mode="bilinear", align_corners=False) - self.mean) / self.std]
            for _ in range(LEVELS - 1):
                levels.insert(0, F.avg_pool2d(levels[0], 2))
            pictures.append(levels)
        flow = reference.new_zeros(len(reference), 2, *pictures[0][0].shape[-2:])
        for level, module in enumerate(self.basic_module):
            if level:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            first, second = (levels[level] for levels in pictures)
            flow = flow + module(torch.cat([first, warp(second, flow, "border"), flow], 1))
        flow = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
        return flow * flow.new_tensor([width / size[1], height / size[0]]).view(2, 1, 1)
