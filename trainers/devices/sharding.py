"""Training that shards parameters, gradients and optimiser states over the devices (FSDP2)."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


class FullySharded(ModelParallelStrategy):
    """Lightning's strategy of `fully_shard` over all devices, on GPUs and, unlike its `fsdp`, on CPUs.

    Blocks of the hosts are gathered one at a time. A checkpoint is one file, as without it: it resumes with any number
    of devices and strategy, and loads as weights.

    Args:
        timeout: after which a process that waits for another one gives up.

    Examples:
        >>> from trainers import FullySharded
        >>> strategy = FullySharded()
        >>> strategy.lightning_restore_optimizer
        True
    """

    def __init__(self, timeout: timedelta = timedelta(minutes=30)) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=timeout)

    def setup_environment(self) -> None:
        """Take all devices for data."""
        # Known only now; Lightning would take the number of nodes.
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    # Lightning's own way of reading a file loses what modules say of themselves (`get_extra_state`).

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether `load_optimizer_state_dict` is asked to."""
        return True

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint, in every process."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Share out the weights of a checkpoint."""
        task = self.lightning_module
        if task is not None:
            own = task.state_dict()
            weights = {key: shard_of(value, own.get(key)) for key, value in checkpoint["state_dict"].items()}
            task.load_state_dict(weights, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Share out the optimisers' states of a checkpoint, which has them by number or, if shared out, by name."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            names = [name for group in saved["param_groups"] for name in group["params"]]
            number = {name: index for index, name in enumerate(names)}
            state = {
                number[name]: {key: shard_of(value, parameters[number[name]]) for key, value in values.items()}
                for name, values in saved["state"].items()
            }
            groups = [
                {**group, "params": [number[name] for name in group["params"]]} for group in saved["param_groups"]
            ]
            optimizer.load_state_dict({"state": state, "param_groups": groups})


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


def shard_of(value: Any, like: Any) -> Any:
    """Return this process's shard of a whole tensor if `like` is sharded and of its shape, else the value itself."""
    if isinstance(like, DTensor) and isinstance(value, Tensor) and value.shape == like.shape:
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be shared out, as one."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
