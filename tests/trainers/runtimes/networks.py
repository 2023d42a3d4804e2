"""Small hosts with random weights, under any attention."""

import functools
from typing import Any

import torch
from torch import nn

import glmha
import nystra
from tests.glmha.randomised import randomise

CHANNEL: dict[str, Any] = {
    "CSA": glmha.ChannelAttention,
    "GLMHA": glmha.GLMHA,
    "uncalibrated GLMHA": functools.partial(glmha.GLMHA, alpha=0),
    "Linformer": glmha.LinformerChannelAttention,
    "Performer": functools.partial(glmha.PerformerChannelAttention, features=8),
    "Reformer": glmha.ReformerChannelAttention,
}
ONE_SIZE = ("Performer", "Reformer")
KERNELS: dict[str, nystra.Kernel] = {
    "Softmax": nystra.Softmax(),
    "LandmarkPooling": nystra.LandmarkPooling(4, 16),
    "own cells": nystra.LandmarkPooling(4, 16, "own"),
    "uneven cells": nystra.LandmarkPooling(9, 9, "none"),
    "Nystrom": nystra.Nystrom(4, 16),
    "published": nystra.Nystrom.as_published(4),
    "ContentPooling": nystra.ContentPooling(4, 16, 2),
}


def _restormer(attention: Any) -> nn.Module:
    sizes = {"dim": 8, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1, "heads": (1, 2, 2, 2)}
    return glmha.Restormer(**sizes, attention=attention)


HOSTS: dict[str, Any] = {
    "Restormer": _restormer,
    "MST": lambda attention: glmha.RGBMST(dim=8, stage=1, num_blocks=(1, 1), attention=attention),
    "MST++": lambda attention: glmha.MSTPlusPlus(n_feat=8, out_channels=8, stage=1, attention=attention),
    "SwinIR": lambda: nystra.SwinIR(
        img_size=16, embed_dim=16, depths=[2], num_heads=[2], window_size=8, upscale=2, upsampler="pixelshuffledirect"
    ),
    "Uformer": lambda: nystra.Uformer(
        img_size=None, embed_dim=4, depths=[2, 1, 1, 1, 1, 1, 1, 1, 1], num_heads=[1] * 9, win_size=4, modulator=True
    ),
    "DehazeFormer": lambda: nystra.DehazeFormer(
        embed_dims=(4, 4, 8, 4, 4), num_heads=(1, 1, 2, 1, 1), depths=(1, 1, 2, 1, 1), attn_ratio=(0, 0, 1, 0, 0)
    ),
}


def make(host: str, attention: str) -> nn.Module:
    """A host under an attention, with the same weights at every call."""
    torch.manual_seed(0)
    if attention in CHANNEL:
        return randomise(HOSTS[host](CHANNEL[attention])).eval()
    net = randomise(HOSTS[host]()).eval()
    nystra.substitute(net, KERNELS[attention])
    return net
