"""Constructor arguments of a DehazeFormer, inferred from the tensors of a checkpoint."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from nystra.hosts.dehazeformer.blocks import ConvType
from nystra.hosts.dehazeformer.network import HEADS, attending, widened


def infer_arguments(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Infer the constructor arguments of a DehazeFormer from its state dict.

    The heads of a level where no block attends leave no trace and do not matter: they are given as in released models.

    Args:
        weights: bare state dict.

    Raises:
        KeyError: if a parameter that an argument is inferred from is missing.
    """
    halves = [weights[f"patch_{name}.weight"].shape[0] for name in ("embed.proj", "merge1.proj", "merge2.proj")]
    doubles = [weights[f"patch_{name}.proj.0.weight"].shape[0] // 4 for name in ("split1", "split2")]
    arguments: dict[str, Any] = {
        "in_chans": weights["patch_embed.proj.weight"].shape[1],
        "out_chans": weights["patch_unembed.proj.0.weight"].shape[0],
        "embed_dims": halves + doubles,
        **{name: [] for name in ("mlp_ratios", "depths", "num_heads", "attn_ratio", "conv_type")},
    }
    for level, dim in enumerate(arguments["embed_dims"]):
        prefix = f"layer{level + 1}.blocks."
        blocks = sorted({int(key.split(".")[2]) for key in weights if key.startswith(prefix)})
        hidden = weights[f"{prefix}0.mlp.mlp.0.weight"].shape[0]
        attend = [f"{prefix}{block}.attn." for block in blocks if f"{prefix}{block}.attn.QK.weight" in weights]
        heads = HEADS[level]
        if attend:
            heads = weights[f"{attend[0]}attn.meta.2.weight"].shape[0]
            positions = weights[f"{attend[0]}attn.relative_positions"].shape
            arguments["window_size"] = math.isqrt(positions[0])
            if positions != (positions[0], positions[0], 2):
                raise ValueError(f"relative_positions of shape {tuple(positions)}")
        arguments["mlp_ratios"].append(ratio(hidden, dim, functools.partial(widened, dim)))
        arguments["depths"].append(len(blocks))
        arguments["num_heads"].append(heads)
        arguments["attn_ratio"].append(ratio(len(attend), len(blocks), functools.partial(attending, len(blocks))))
        arguments["conv_type"].append(convolution(weights, f"{prefix}0.attn."))
    return arguments


def ratio(part: int, whole: int, count: Callable[[float], int]) -> float:
    """Quotient part / whole, or slightly more where `count` of it would be rounded below part."""
    return part / whole if count(part / whole) == part else (part + 0.5) / whole


def convolution(weights: Mapping[str, Tensor], prefix: str) -> ConvType:
    """Find the kind of a block's convolution; None where a block only attends.

    Raises:
        KeyError: if the block has neither a convolution nor attention.
    """
    if f"{prefix}conv.0.weight" in weights:
        return "Conv"
    if f"{prefix}conv.weight" in weights:
        return "DWConv"
    if f"{prefix}QK.weight" in weights:
        return None
    raise KeyError(f"{prefix}conv.weight")
