"""Constructor arguments of a Uformer, inferred from the tensors of a checkpoint."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nystra.hosts.table_attention import trained_window
from nystra.hosts.uformer.network import LEVELS


def infer_arguments(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Infer the constructor arguments of a Uformer from its state dict.

    `shift_flag` and `img_size` leave no trace: they stay at their defaults, which are the released models' values.

    Args:
        weights: bare state dict.

    Raises:
        KeyError: if a parameter that an argument is inferred from is missing.
    """
    levels = [
        *(f"encoderlayer_{index}" for index in range(LEVELS)),
        "conv",
        *(f"decoderlayer_{index}" for index in range(LEVELS)),
    ]
    first = f"{levels[0]}.blocks.0"
    embed_dim, dd_in = weights["input_proj.proj.0.weight"].shape[:2]
    tables = [weights[f"{level}.blocks.0.attn.relative_position_bias_table"] for level in levels]
    local = f"{first}.mlp.linear1.0.weight"
    hidden = weights[local if local in weights else f"{first}.mlp.fc1.weight"].shape[0]
    return {
        "in_chans": weights["output_proj.proj.0.weight"].shape[0],
        "dd_in": dd_in,
        "embed_dim": embed_dim,
        "depths": [
            len({key.split(".")[2] for key in weights if key.startswith(f"{level}.blocks.")}) for level in levels
        ],
        "num_heads": [table.shape[1] for table in tables],
        "win_size": trained_window(tables[0]),
        "mlp_ratio": hidden / embed_dim,
        "qkv_bias": f"{first}.attn.qkv.to_q.bias" in weights,
        "token_mlp": "leff" if local in weights else "ffn",
        "modulator": f"{levels[-1]}.blocks.0.modulator.weight" in weights,
    }
