"""Networks from checkpoints, as released or as trained here: architecture inferred from tensors, loaded strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from glmha.hosts.mst import MST, RGBMST, RealMST, mst_arguments
from glmha.hosts.mst_plus_plus import CassiMSTPlusPlus, MSTPlusPlus, mst_plus_plus_arguments
from glmha.hosts.restormer import Restormer, restormer_arguments
from glmha.shared.families import Families, Family
from glmha.shared.state_dicts import read_weights

# Keys that MST's three classes share, and MST++'s two; upstream's name of a convolution that two of the five have.
MST_MARK = "encoder_layers.0.0.blocks.0.0.rescale"
MST_PLUS_PLUS_MARK = "body.0.embedding.weight"
FUSION_MARK = "fution.weight"

FAMILIES: Families[nn.Module] = Families(
    (
        Family(("encoder_level1.0.attn.temperature",), Restormer, restormer_arguments),
        Family((MST_PLUS_PLUS_MARK, FUSION_MARK), CassiMSTPlusPlus, mst_plus_plus_arguments),
        Family((MST_PLUS_PLUS_MARK,), MSTPlusPlus, mst_plus_plus_arguments),
        Family((MST_MARK, "embedding_1.weight"), RGBMST, mst_arguments),
        Family((MST_MARK, FUSION_MARK), RealMST, mst_arguments),
        Family((MST_MARK,), MST, mst_arguments),
    ),
    refusal="{name} must be of Restormer, MST or MST++; its keys begin with {keys}. Window-attention models "
    "(SwinIR, Uformer, DehazeFormer, RVRT) belong to nystra",
)


def load_pretrained(source: str | Path | Mapping[str, Any], **overrides: Any) -> nn.Module:
    """Build the host that a checkpoint belongs to and load it strictly.

    Args:
        source: path of a .pth, .pt, .ckpt or .safetensors file; or, as text, a name of `lowrank models`, an address
            (https://…, hf://OWNER/NAME); or a loaded checkpoint or state dict. Wrappers (`params_ema`, `params`,
            `state_dict`) and prefixes (`module.`, `net.`, `_orig_mod.`) are stripped.
        **overrides: constructor arguments of the host that replace the inferred ones.

    Returns:
        Restormer, MST, RealMST, RGBMST, MSTPlusPlus or CassiMSTPlusPlus, in eval mode and float32, on the CPU.

    Raises:
        CheckpointError: if the file is missing, truncated, holds anything but tensors in plain containers, belongs to
            another family, or does not fit the inferred architecture.

    Examples:
        >>> import glmha
        >>> net = glmha.Restormer(dim=8, num_blocks=(1, 2, 1, 1), num_refinement_blocks=1, attention=glmha.GLMHA)
        >>> again = glmha.load_pretrained({"state_dict": net.state_dict()})
        >>> type(again).__name__, len(again.encoder_level2), type(again.latent[0].attn).__name__
        ('Restormer', 2, 'GLMHA')
    """
    weights, name = read_weights(source)
    return FAMILIES.build(weights, name, overrides)
