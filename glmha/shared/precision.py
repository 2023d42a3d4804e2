"""Precision of products: float16 recognised, half precision widened to float32."""

import torch
from torch import Tensor


def computes_in_float16(x: Tensor) -> bool:
    """Return whether products of a tensor are computed in float16, by its type or under autocast."""
    if x.dtype == torch.float16:
        return True
    device = x.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return False
    return torch.get_autocast_dtype(device) == torch.float16


def at_least_float32(tensor: Tensor) -> Tensor:
    """Widen half precision to float32 and leave float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
