"""Constructor arguments of an RVRT, inferred from the tensors of a checkpoint."""

import math
from typing import Any

from torch import Tensor

from nystra.hosts.rvrt.network import BRANCHES
from nystra.hosts.rvrt.propagation import CLIP_FRAMES
from nystra.hosts.table_attention import trained_window

# Taps of the deformable attention of every released network; the number of groups follows.
ATTENTION_WINDOW = (3, 3)


def infer_arguments(weights: dict[str, Tensor]) -> dict[str, Any]:
    """Infer the constructor arguments of an RVRT from its state dict.

    What tensors cannot tell is as in the released models: windows of 3×3 in the deformable attention, with as many
    heads as groups, and corrections of at most 10 pixels.
    """

    def count(prefix: str) -> int:
        return len({key.removeprefix(prefix).partition(".")[0] for key in weights if key.startswith(prefix)})

    enlarges = "feat_extract.1.weight" not in weights
    stages = [
        "feat_extract" if enlarges else "feat_extract.6",
        *(f"backbone.{name}" for name in BRANCHES),
        "reconstruction",
    ]
    first = weights["feat_extract.main.1.weight" if enlarges else "feat_extract.1.weight"]
    dim, channels = first.shape[:2]
    inputs = [channels if enlarges else dim, *((2 + index) * dim for index in range(len(BRANCHES))), 5 * dim]
    tables = [
        weights[f"{stage}.main.5.0.residual_group.blocks.0.attn.relative_position_bias_table"] for stage in stages
    ]
    side = trained_window(tables[0])
    hidden = len(weights["reconstruction.main.5.0.residual_group.blocks.0.mlp.fc1.weight"])
    offsets = len(weights["deform_align.backward_1.conv_offset.10.weight"])
    deformable_groups = offsets // (2 * CLIP_FRAMES * math.prod(ATTENTION_WINDOW))
    chosen = [stages[0], stages[1], stages[-1]]
    return {
        "upscale": 4 if enlarges else 1,
        "window_size": [(len(tables[1]) // (2 * side - 1) ** 2 + 1) // 2, side, side],
        "num_blocks": [count(f"{stage}.main.5.") for stage in chosen],
        "depths": [count(f"{stage}.main.5.0.residual_group.blocks.") for stage in chosen],
        "embed_dims": [len(weights[f"{stage}.main.1.weight"]) for stage in chosen],
        "num_heads": [table.shape[1] for table in (tables[0], tables[1], tables[-1])],
        "mlp_ratio": (hidden + (0.5 if hidden % dim else 0)) / dim,
        "qkv_bias": "reconstruction.main.5.0.residual_group.blocks.0.attn.qkv_self.bias" in weights,
        "inputconv_groups": [
            size // weights[f"{stage}.main.1.weight"].shape[1] for size, stage in zip(inputs, stages, strict=True)
        ],
        "deformable_groups": deformable_groups,
        "attention_heads": deformable_groups,
        "nonblind_denoising": channels == 4,
    }
