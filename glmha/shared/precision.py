"""Which products stay in float32 under half precision."""

import torch
from torch import Tensor


def computes_in_float16(x: Tensor) -> bool:
    """Whether products of a tensor are float16's: its own type, or what autocast makes of it."""
    if x.dtype == torch.float16:
        return True
    device = x.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return False
    return torch.get_autocast_dtype(device) == torch.float16


def at_least_float32(tensor: Tensor) -> Tensor:
    """Widen half precision to float32 and leave float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
