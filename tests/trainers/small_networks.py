"""Small networks with the same random weights at every call, and what a task computes of a batch of noise."""

from pathlib import Path
from typing import Any

import torch

import glmha
from nystra.hosts.dehazeformer.network import DehazeFormer
from nystra.hosts.rvrt.network import RVRT
from nystra.hosts.swinir.network import SwinIR


def swinir() -> SwinIR:
    torch.manual_seed(0)
    return SwinIR(img_size=16, embed_dim=8, depths=[2], num_heads=[2], window_size=4, mlp_ratio=2.0)


def dehazeformer() -> DehazeFormer:
    torch.manual_seed(0)
    return DehazeFormer(
        embed_dims=(4, 8, 8, 8, 4), depths=(1, 2, 1, 1, 1), num_heads=(1, 2, 2, 1, 1), attn_ratio=(0, 0.5, 1, 0, 0)
    )


def rvrt() -> RVRT:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_blocks": [1, 1, 1], "depths": [1, 1, 1], "embed_dims": [6] * 3, "num_heads": [1] * 3}
    return RVRT(**sizes, window_size=[2, 4, 4], upscale=1, deformable_groups=2, attention_heads=2)


def restormer(attention: Any = glmha.ChannelAttention) -> glmha.Restormer:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"dim": 8, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1, "heads": [1, 1, 2, 2]}
    return glmha.Restormer(**sizes, attention=attention)


def batch(size: int = 16) -> dict:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 1, 3, size, size, generator=generator)
    return {"input": images[0], "target": images[1], "name": ["image"]}


def objective(task, given=None) -> torch.Tensor:
    task.log_dict = lambda values: task.__dict__.setdefault("logged", {}).update(values)
    given = batch() if given is None else given
    return task.objective(task.call(given), given)


def last(folder: Path) -> Path:
    return max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
