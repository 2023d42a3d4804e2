"""Files of trained channel-attention modules with inputs of theirs."""

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from glmha.attention.base import ChannelAttention
from glmha.shared.checkpoint_files import CheckpointError, read

IMAGES = (0, 1)
"""Numbers of the images whose inputs a file holds."""


@dataclass(frozen=True)
class TrainedModule:
    """An exact attention and what reached it.

    Attributes:
        name: of the module in the file.
        attention: without gradients.
        inputs: for each of `IMAGES`, (1, C, H, W).
    """

    name: str
    attention: ChannelAttention
    inputs: tuple[Tensor, ...]


def read_modules(path: Path) -> list[TrainedModule]:
    """Read every module of a file.

    Args:
        path: safetensors file with `block{i}.weight.*` (an exact attention in Restormer's layout) and
            `block{i}.image{j}.input` (C, H, W), j = 0 and 1, of every module i.

    Raises:
        CheckpointError: if the file cannot be read or holds no such modules.
    """
    tensors = read(path)
    numbers = sorted({int(match[1]) for key in tensors if (match := re.match(r"block(\d+)\.weight\.", key))})
    result = []
    try:
        for number in numbers:
            prefix = f"block{number}.weight."
            weights = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            dense = ChannelAttention(weights["project_out.weight"].shape[0], weights["temperature"].shape[0])
            dense.load_state_dict(weights)
            inputs = tuple(tensors[f"block{number}.image{image}.input"][None] for image in IMAGES)
            result.append(TrainedModule(f"block{number}", dense.requires_grad_(requires_grad=False), inputs))
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"modules ({path}) must hold exact attentions and two inputs of each: {error}") from None
    if not result:
        raise CheckpointError(f"modules ({path}) must hold tensors block0.weight.*, got {list(tensors)[:3]}")
    return result
