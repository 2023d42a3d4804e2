"""Released and own checkpoints: infer the architecture from the tensors, load strictly."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from glmha.attention import GLMHA, AttentionFactory, ChannelAttention, decode_options
from glmha.checkpoints import CheckpointError, StateDict, build_host, read_weights
from glmha.comparisons import LinformerChannelAttention, PerformerChannelAttention, ReformerChannelAttention
from glmha.mst import MST, RGBMST, RealMST
from glmha.mst_plus_plus import CassiMSTPlusPlus, MSTPlusPlus
from glmha.restormer import Restormer

# Attentions whose state dicts name them.
RECORDED: dict[str, Callable[..., nn.Module]] = {
    attention.__name__: attention
    for attention in (GLMHA, LinformerChannelAttention, PerformerChannelAttention, ReformerChannelAttention)
}


def load_pretrained(source: str | Path | Mapping[str, Any], **overrides: Any) -> nn.Module:
    """Build the host that a checkpoint belongs to and load it strictly.

    Args:
        source: path of a .pth, .pt, .ckpt or .safetensors file, or a loaded checkpoint or state dict. Wrappers
            (`params_ema`, `params`, `state_dict`) and prefixes (`module.`, `net.`, `_orig_mod.`) are stripped.
        **overrides: constructor arguments of the host that replace the inferred ones.

    Returns:
        Restormer, MST, RealMST, RGBMST, MSTPlusPlus or CassiMSTPlusPlus, in eval mode and float32, on the CPU.

    Raises:
        CheckpointError: if the file is missing, truncated, holds anything but tensors in plain containers, belongs to
            another family, or does not fit the inferred architecture.
    """
    weights, name = read_weights(source)
    host, arguments = infer(weights, name)
    return build_host(host, arguments, overrides, weights, name)


def infer(weights: StateDict, name: str) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    """Find the host class and its constructor arguments from keys and shapes.

    Raises:
        CheckpointError: if the keys are of no host of this package, some are missing, or shapes do not fit them.
    """
    try:
        if "encoder_level1.0.attn.temperature" in weights:
            return Restormer, restormer_arguments(weights)
        if "body.0.embedding.weight" in weights:
            return mst_plus_plus_arguments(weights)
        if "encoder_layers.0.0.blocks.0.0.rescale" in weights:
            return mst_arguments(weights)
    except KeyError as error:
        raise CheckpointError(f"{name} lacks the key {error}: it is incomplete or of another architecture") from None
    except (IndexError, ValueError) as error:
        raise CheckpointError(f"{name} has tensors of other shapes than its keys promise: {error}") from None
    raise CheckpointError(
        f"{name} must be of Restormer, MST or MST++; its keys begin with {list(weights)[:3]}. Window-attention models "
        "(SwinIR, Uformer, DehazeFormer) belong to nystra"
    )


def restormer_arguments(weights: StateDict) -> dict[str, Any]:
    """Constructor arguments of a Restormer."""
    levels = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")
    dim, inp_channels = weights["patch_embed.proj.weight"].shape[:2]
    hidden = [weights[f"{level}.0.ffn.project_out.weight"].shape[1] for level in levels]
    return {
        "inp_channels": inp_channels,
        "out_channels": weights["output.weight"].shape[0],
        "dim": dim,
        "num_blocks": [count(weights, level) for level in levels],
        "num_refinement_blocks": count(weights, "refinement"),
        "heads": [weights[f"{level}.0.attn.temperature"].shape[0] for level in levels],
        "ffn_expansion_factor": expansion([dim * 2**level for level in range(4)], hidden),
        "bias": "encoder_level1.0.ffn.project_in.bias" in weights,
        "LayerNorm_type": "WithBias" if "encoder_level1.0.norm1.body.bias" in weights else "BiasFree",
        "dual_pixel_task": "skip_conv.weight" in weights,
        "attention": [recorded_attention(weights, f"{level}.0.attn.") for level in levels],
    }


def mst_arguments(weights: StateDict) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    """Class and constructor arguments of one of the MST variants."""
    host: Callable[..., nn.Module] = MST
    if "embedding_1.weight" in weights:
        host = RGBMST
    elif "fution.weight" in weights:
        host = RealMST
    stage = count(weights, "encoder_layers")
    levels = [f"encoder_layers.{level}.0." for level in range(stage)] + ["bottleneck."]
    return host, {
        "dim": weights["mapping.weight"].shape[0],
        "stage": stage,
        "num_blocks": [count(weights, f"{level}blocks") for level in levels],
        "attention": [recorded_attention(weights, f"{level}blocks.0.0.") for level in levels],
    }


def mst_plus_plus_arguments(weights: StateDict) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    """Class and constructor arguments of MST++."""
    levels = ("encoder_layers.0.0.", "encoder_layers.1.0.", "bottleneck.")
    n_feat, in_channels = weights["conv_in.weight"].shape[:2]
    return CassiMSTPlusPlus if "fution.weight" in weights else MSTPlusPlus, {
        "in_channels": in_channels,
        "out_channels": weights["conv_out.weight"].shape[0],
        "n_feat": n_feat,
        "stage": count(weights, "body"),
        "attention": [recorded_attention(weights, f"body.0.{level}blocks.0.0.") for level in levels],
    }


def recorded_attention(weights: StateDict, prefix: str) -> AttentionFactory:
    """The attention that a checkpoint of ours recorded for a level; released checkpoints are exact attention."""
    recorded = weights.get(f"{prefix}_extra_state")
    if recorded is None:
        return ChannelAttention
    try:
        options = decode_options(recorded)
        attention = RECORDED[options.pop("class")]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{prefix}_extra_state must record one of {', '.join(RECORDED)}, got {error!r}") from None
    return functools.partial(attention, **options)


def count(weights: StateDict, prefix: str) -> int:
    """Number of entries of the module list `prefix`, at least one.

    Raises:
        KeyError: if there is none.
    """
    entries = {key[len(prefix) + 1 :].partition(".")[0] for key in weights if key.startswith(f"{prefix}.")}
    if not entries:
        raise KeyError(f"{prefix}.0")
    return len(entries)


def expansion(channels: list[int], hidden: list[int]) -> float:
    """A factor with ⌊C·factor⌋ = hidden at every level; the published 2.66 where it is one."""
    low = max(h / c for c, h in zip(channels, hidden, strict=True))
    high = min((h + 1) / c for c, h in zip(channels, hidden, strict=True))
    return 2.66 if low <= 2.66 < high else (low + high) / 2
