"""Released checkpoints of window-attention networks: infer the architecture from the tensors, load strictly."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from glmha.checkpoints import CheckpointError, StateDict, build_host, read_weights
from nystra.hosts import dehazeformer, swinir, uformer
from nystra.sites import BiasMode


class Family(NamedTuple):
    """A family of networks.

    Attributes:
        mark: a key that every state dict of the family has, and no other family's.
        host: its class.
        infer_arguments: state dict → constructor arguments.
    """

    mark: str
    host: Callable[..., nn.Module]
    infer_arguments: Callable[[StateDict], dict[str, Any]]


FAMILIES = (
    Family(
        "layers.0.residual_group.blocks.0.attn.qkv.weight",
        swinir.SwinIR,
        swinir.infer_arguments,
    ),
    Family("encoderlayer_0.blocks.0.attn.relative_position_bias_table", uformer.Uformer, uformer.infer_arguments),
    Family("patch_unembed.proj.0.weight", dehazeformer.DehazeFormer, dehazeformer.infer_arguments),
)


def family_of(weights: StateDict) -> Family | None:
    """The family that a bare state dict is of; None: none of this half of the package."""
    return next((family for family in FAMILIES if family.mark in weights), None)


def load_pretrained(
    source: str | Path | Mapping[str, Any],
    *,
    window_size: int | None = None,
    position_bias: BiasMode = "keep",
    **overrides: Any,
) -> nn.Module:
    """Build the host that a checkpoint belongs to and load it strictly.

    Args:
        source: path of a .pth, .pt, .ckpt or .safetensors file, or a loaded checkpoint or state dict. Wrappers
            (`params_ema`, `params`, `state_dict`) and prefixes (`module.`) are stripped.
        window_size: side of the windows to attend in; None: the trained one.
        position_bias: what becomes of the trained position bias: "keep" (every offset keeps its bias, offsets beyond
            the trained ones take the nearest one's), "interpolate" (the trained range of offsets is stretched to the
            window's), "drop" (neither bias nor shift masks, PnP-Nystra's "original").
        **overrides: constructor arguments of the host that replace the inferred ones: what tensors cannot tell, such as
            Uformer's `shift_flag` or SwinIR's `img_range`.

    Returns:
        SwinIR, Uformer or DehazeFormer with exact attention, in eval mode and float32, on the CPU.

    Raises:
        CheckpointError: if the file is missing, truncated, holds anything but tensors in plain containers, belongs to
            another family, or does not fit the inferred architecture.
        ValueError: if `window_size` or `position_bias` is out of range.
    """
    weights, name = read_weights(source)
    family = family_of(weights)
    if family is None:
        raise CheckpointError(
            f"{name} must be a SwinIR, Uformer or DehazeFormer checkpoint; its first keys are {list(weights)[:3]}. "
            "Restormer, MST and MST++ are loaded by glmha.load_pretrained"
        )
    try:
        arguments = family.infer_arguments(weights)
    except KeyError as error:
        raise CheckpointError(f"{name} lacks the key {error}: it is incomplete or of another architecture") from None
    net: Any = build_host(family.host, arguments, overrides, weights, name)
    if window_size is not None or position_bias != "keep":
        net.set_window(net.window_size if window_size is None else window_size, position_bias)
    return net
