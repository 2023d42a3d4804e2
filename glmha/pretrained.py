"""Released and own checkpoints: infer the architecture from the tensors, load strictly."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from glmha.hosts.mst import mst_arguments
from glmha.hosts.mst_plus_plus import mst_plus_plus_arguments
from glmha.hosts.restormer import Restormer, restormer_arguments
from glmha.shared.checkpoint_files import CheckpointError, StateDict, build_host, read_weights


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
