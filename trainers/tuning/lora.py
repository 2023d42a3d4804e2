"""Low-rank adapters (LoRA, Hu et al. 2022) of attentions' projections, as peft makes them, on weights, not layers.

Hosts read the weights of their projections, to fold scales into them and to join maps. peft's layers would leave those
readers with the unadapted weight; here the weight itself is W + B·A, wherever it is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from glmha.attention.base import ChannelAttention
from nystra.hosts.dehazeformer.blocks import Attention
from nystra.hosts.table_attention import TableAttention
from nystra.sites.site import ADOPTED, WindowAttention


class LowRank(nn.Module):
    """Adds a product of two small matrices to a weight: a parametrisation.

    Args:
        weight: (C_out, C_in) or, of a 1×1 convolution, (C_out, C_in, 1, 1).
        rank: of the product; it is 0 at first.

    Raises:
        ValueError: if peft is not installed.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        try:
            # Takes seconds to import, and is wanted by few.
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise ValueError(
                "trainable (adapters) must have peft to make them, which is not installed: "
                'pip install --editable ".[finetune]"'
            ) from error
        shell = nn.ModuleDict({"weight": nn.Linear(weight.shape[1], weight.shape[0], bias=False)})
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=["weight"]), shell)
        layer: Any = shell["weight"]
        # The layer's own weight is the one that this module is registered on.
        layer.base_layer = nn.Identity()
        self.layer = layer.to(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """Add the product to a weight."""
        return weight + self.layer.get_delta_weight("default").view_as(weight)


def add_lora(modules: Sequence[nn.Module], rank: int) -> None:
    """Give the weights of linear maps trainable low-rank adapters; the weights themselves are frozen.

    Args:
        modules: linear maps and 1×1 convolutions.
        rank: of the adapters, at least 1.

    Raises:
        ValueError: if `rank` is below 1 or peft is not installed.
    """
    if rank < 1:
        raise ValueError(f"adapter_rank ({rank}) must be at least 1")
    for module in modules:
        weight = module.get_parameter("weight").requires_grad_(False)
        # Small maps are of full rank with less.
        parametrize.register_parametrization(module, "weight", LowRank(weight, min(rank, *weight.shape[:2])))


def merge_lora(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of the plain architecture, with the adapters added to the weights.

    Args:
        net: the adapted net.
        state: its state dict, at any time of training.
    """
    # Of a sharded network, the first process alone has a state dict.
    result = dict(state)
    for name, module in net.named_modules() if state else ():
        if parametrize.is_parametrized(module, "weight"):
            prefix = f"{name}.parametrizations.weight."
            own = {key.removeprefix(prefix): result.pop(key) for key in state if key.startswith(prefix)}
            weight = own.pop("original")
            adapter: Any = module.parametrizations["weight"][0]
            low_rank = {key.removeprefix("0."): value for key, value in own.items()}
            with torch.no_grad():
                result[f"{name}.weight"] = torch.func.functional_call(adapter, low_rank, (weight,))
    return result


def holders(net: nn.Module) -> Iterator[nn.Module]:
    """The modules that hold an attention's projections and position bias."""
    for module in net.modules():
        # DehazeFormer's window attention is given queries, keys and values by the module around it.
        around = isinstance(module, Attention) and module.attn is not None
        if around or isinstance(module, TableAttention | ChannelAttention) or ADOPTED in vars(module):
            yield module


def projections(net: nn.Module) -> list[nn.Module]:
    """Linear maps and 1×1 convolutions of a net's attentions, without those that make a position bias."""
    inside = {
        id(part)
        for module in net.modules()
        if isinstance(module, WindowAttention) and (bias := module.position_bias()) is not None
        for part in bias.parameters()
    }
    return [
        part
        for holder in holders(net)
        for part in holder.modules()
        if isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1))
        if id(part.weight) not in inside
    ]
