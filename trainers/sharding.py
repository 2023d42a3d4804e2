"""Training whose parameters, gradients and optimiser states are shared out over the devices (FSDP2)."""

from datetime import timedelta

from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor


class FullySharded(ModelParallelStrategy):
    """Lightning's strategy of `fully_shard` over all devices, on GPUs and, unlike its `fsdp`, on CPUs.

    Blocks of the hosts are gathered one at a time. A checkpoint is one file, as without it: it resumes with any number
    of devices and strategy, and loads as weights.

    Args:
        timeout: after which a process that waits for another one gives up.
    """

    def __init__(self, timeout: timedelta = timedelta(minutes=30)) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=timeout)

    def setup_environment(self) -> None:
        """Take all devices for data."""
        # Known only now; Lightning would take the number of nodes.
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


# Recipes name it: --trainer.strategy fully_sharded.
StrategyRegistry.register("fully_sharded", FullySharded, description=str(FullySharded.__doc__).splitlines()[0])


def shard(net: nn.Module, mesh: DeviceMesh) -> None:
    """Share out the parameters of a network: of each of its blocks that may recompute, and of the rest.

    Args:
        net: one of the hosts, or any network; left alone if it is shared out already.
        mesh: the devices.
    """
    if isinstance(net, FSDPModule):
        return
    for module in net.modules():
        if hasattr(module, "recompute"):
            fully_shard(module, mesh=mesh)
    fully_shard(net, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be shared out, as one."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
