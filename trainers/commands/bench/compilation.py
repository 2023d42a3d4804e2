"""Networks compiled block by block, which takes seconds where a whole network takes minutes."""

import copy
from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn

_RECOMPILE_LIMIT = 256


def compiled_blocks(net: nn.Module) -> nn.Module:
    """A copy of a network whose blocks are compiled, for one size of image.

    Blocks that are alike are compiled once. What lies between them (convolutions that change the resolution, sums)
    stays as it is.

    Args:
        net: a network that stacks modules of its own in `nn.Sequential` or `nn.ModuleList`.
    """
    # Every network compiles the same code anew; beyond torch's limit of 8 it would silently run as it is.
    torch._dynamo.config.recompile_limit = _RECOMPILE_LIMIT
    result = copy.deepcopy(net)
    for block in blocks(result):
        block.compile(dynamic=False)
    return result


def blocks(net: nn.Module) -> Iterator[nn.Module]:
    """Modules that a network stacks and that stack none themselves, such as transformer blocks.

    What occurs once is none, nor is a single layer with what stands around it.
    """
    stacked = [
        each
        for container in net.modules()
        if isinstance(container, nn.Sequential | nn.ModuleList)
        for each in container
        if not _of_torch(each) and len({type(layer) for layer in each.modules() if _weighted(layer)}) > 1
    ]
    occurring = Counter(type(each) for each in stacked)
    repeated = {id(each) for each in stacked if occurring[type(each)] > 1}
    for each in stacked:
        inside = {id(module) for module in each.modules()} - {id(each)}
        if id(each) in repeated and not inside & repeated:
            yield each


def _of_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.")


def _weighted(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))
