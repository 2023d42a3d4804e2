"""SpyNet's optical flow (Ranjan and Black, 2017) as RVRT has it, and warping by a flow."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def warp(x: Tensor, flow: Tensor, padding: str = "zeros") -> Tensor:
    """Sample features (B, C, H, W) where a flow (B, 2, H, W) of (right, down) points to."""
    height, width = x.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([columns, rows]).to(flow) + flow
    sides = torch.tensor([max(width - 1, 1), max(height - 1, 1)]).to(flow).view(2, 1, 1)
    grid = (2 * places / sides - 1).permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, padding_mode=padding, align_corners=True)


class FlowLevel(nn.Module):
    """Five convolutions of 7×7 of a level of SpyNet."""

    def __init__(self) -> None:
        super().__init__()
        sides = pairwise((8, 32, 64, 32, 16, 2))
        layers = [layer for pair in sides for layer in (nn.Conv2d(*pair, 7, padding=3), nn.ReLU())]
        self.basic_module = nn.Sequential(*layers[:-1])


class SpyNet(nn.Module):
    """Optical flow from pictures (B, 3, H, W) to others, all pairs at once."""

    def __init__(self) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList(FlowLevel() for _ in range(6))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, reference: Tensor, other: Tensor) -> Tensor:
        height, width = reference.shape[2:]
        size = (math.ceil(height / 32) * 32, math.ceil(width / 32) * 32)
        pyramids = []
        for picture in (reference, other):
            pyramid = [(F.interpolate(picture, size, mode="bilinear", align_corners=False) - self.mean) / self.std]
            for _ in range(5):
                pyramid.insert(0, F.avg_pool2d(pyramid[0], 2, 2))
            pyramids.append(pyramid)
        flow = torch.zeros(len(reference), 2, size[0] // 64, size[1] // 64).to(reference)
        for level, (first, second) in enumerate(zip(*pyramids, strict=True)):
            flow = 2 * F.interpolate(flow, first.shape[2:], mode="bilinear", align_corners=True) if level else flow
            if not level:
                flow = torch.zeros(len(first), 2, *first.shape[2:]).to(first)
            pair = torch.cat([first, warp(second, flow, "border"), flow], 1)
            flow = flow + self.basic_module[level].basic_module(pair)
        flow = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
        return flow * torch.tensor([width / size[1], height / size[0]]).to(flow).view(2, 1, 1)
