"""Constructor arguments of a SwinIR, inferred from the tensors of a checkpoint."""

import math
from typing import Any

from torch import Tensor

from glmha.shared.strict_loading import Undetermined
from nystra.hosts.swinir.network import UPSAMPLING_CHANNELS
from nystra.hosts.table_attention import trained_window


def infer_arguments(weights: dict[str, Tensor]) -> dict[str, Any]:
    """Infer the constructor arguments of a SwinIR from its state dict; training images are taken to be square.

    What tensors cannot tell is as in the released models: `img_range` is 255 for windows of 7 without upsampler (JPEG).
    """

    def count(prefix: str) -> int:
        return len({key.removeprefix(prefix).partition(".")[0] for key in weights if key.startswith(prefix)})

    embed_dim, in_chans = weights["conv_first.weight"].shape[:2]
    groups = [f"layers.{index}.residual_group.blocks." for index in range(max(count("layers."), 1))]
    tables = [weights[f"{group}0.attn.relative_position_bias_table"] for group in groups]
    window = trained_window(tables[0])
    hidden = len(weights[f"{groups[0]}0.mlp.fc1.weight"])
    upsampler, upscale = "", 1
    if "conv_up1.weight" in weights:
        upsampler, upscale = "nearest+conv", 4 if "conv_up2.weight" in weights else 2
    elif "conv_before_upsample.0.weight" in weights:
        rows = [len(weights[f"upsample.{2 * index}.weight"]) for index in range(count("upsample."))]
        upsampler, upscale = "pixelshuffle", math.prod(math.isqrt(row // UPSAMPLING_CHANNELS) for row in rows)
    elif "upsample.0.weight" in weights:
        upsampler, upscale = "pixelshuffledirect", math.isqrt(len(weights["upsample.0.weight"]) // in_chans)
    embedding = weights.get("absolute_pos_embed")
    mask = next((value for key, value in weights.items() if key.endswith(".attn_mask")), None)
    img_size: int | Undetermined
    if embedding is not None:
        img_size = math.isqrt(embedding.shape[1])
    elif mask is not None:
        if mask.shape[1:] != (window**2, window**2):
            raise ValueError(f"attn_mask of shape {tuple(mask.shape)}, where windows have {window} tokens a side")
        img_size = window * math.isqrt(len(mask))
    elif not any(key.endswith(".relative_position_index") for key in weights):
        # Saved without buffers. Windows are shifted, as in every released model; of what training images, is not read.
        img_size = 2 * window
    elif any(count(group) > 1 for group in groups):
        img_size = Undetermined(
            f"no block has an attn_mask: of training images of one window (img_size={window}) it would never shift "
            "windows, of larger ones it would"
        )
    else:
        img_size = window
    return {
        "img_size": img_size,
        "in_chans": in_chans,
        "embed_dim": embed_dim,
        "depths": [count(group) for group in groups],
        "num_heads": [table.shape[1] for table in tables],
        "window_size": window,
        # Upstream takes ⌊C·ratio⌋.
        "mlp_ratio": (hidden + (0.5 if hidden % embed_dim else 0)) / embed_dim,
        "qkv_bias": f"{groups[0]}0.attn.qkv.bias" in weights,
        "ape": embedding is not None,
        "patch_norm": "patch_embed.norm.weight" in weights,
        "upscale": upscale,
        "img_range": 255.0 if window == 7 and not upsampler else 1.0,
        "upsampler": upsampler,
        "resi_connection": "1conv" if "conv_after_body.weight" in weights else "3conv",
    }
