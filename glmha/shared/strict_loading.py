"""A network built for weights and loaded strictly, after its sizes were compared without memory for them."""

import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode

from glmha.shared.checkpoint_files import CheckpointError, shortened
from glmha.shared.state_dicts import StateDict, held_bytes

Host = TypeVar("Host", bound=nn.Module)


@dataclass(frozen=True)
class Undetermined:
    """Stands for a constructor argument that the weights do not tell.

    Attributes:
        reason: what is missing, for the message.
    """

    reason: str


# Faults of constructors at arguments that were inferred from shapes which no such network has.
UNFIT = (ValueError, RuntimeError, LookupError, ArithmeticError, AttributeError, TypeError, MemoryError)
# A network may have tables beside its weights, of indices and offsets.
TABLE_BYTES = 256 * 2**20
_ON_META = (torch.empty, torch.randn)
_COUNTED = (torch.zeros, torch.ones)


def build_host(
    host: Callable[..., Host],
    arguments: Mapping[str, Any],
    overrides: Mapping[str, Any],
    weights: StateDict,
    name: str,
) -> Host:
    """Build a network and load it strictly.

    Args:
        host: class of the network.
        arguments: constructor arguments inferred from the weights.
        overrides: constructor arguments that the user gave; they replace the inferred ones.
        weights: bare state dict.
        name: what to call the checkpoint in messages.

    Returns:
        The network, in eval mode and float32.

    Raises:
        CheckpointError: if an override is no argument or the weights do not fit.
        ValueError: if the value of an override is out of range.
    """
    chosen = {**arguments, **overrides}
    for argument, value in chosen.items():
        if isinstance(value, Undetermined):
            raise CheckpointError(f"{name} does not tell {argument}, because {value.reason}; give it: {argument}=…")
    try:
        blueprint = _blueprint(host, chosen, weights)
    except TypeError as error:
        if not overrides:
            raise _unfit(name, host, arguments, error) from None
        raise CheckpointError(
            f"overrides must be arguments of {host.__name__}, got {sorted(overrides)}: {error}"
        ) from None
    except UNFIT as error:
        if overrides and isinstance(error, ValueError):
            raise
        raise _unfit(name, host, arguments, error) from None
    try:
        with warnings.catch_warnings():
            # Nothing is copied to where there is no memory; names and shapes are compared all the same.
            warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")
            blueprint.load_state_dict(weights, strict=True)
        _require_values(blueprint, weights)
    except (RuntimeError, ValueError) as error:
        raise _unfit(name, host, arguments, error) from None
    net = host(**chosen)
    net.load_state_dict(weights, strict=True)
    return net.float().eval()


def _unfit(name: str, host: Callable[..., Any], arguments: Mapping[str, Any], error: Exception) -> CheckpointError:
    # Classes by their names alone.
    given = shortened(re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", str(dict(arguments))))
    return CheckpointError(f"{name} does not fit {host.__name__}({given}): {shortened(str(error))}")


def _require_values(blueprint: nn.Module, weights: StateDict) -> None:
    for key, _ in blueprint.named_parameters():
        if key in weights and not weights[key].isfinite().all():
            raise ValueError(f"{key} must be finite, got NaN or Inf: choose another checkpoint")
    own = blueprint.state_dict()
    for key, value in weights.items():
        if key in own and own[key].is_floating_point() != value.is_floating_point():
            kinds = ["real numbers" if tensor.is_floating_point() else "integers" for tensor in (own[key], value)]
            raise ValueError(f"{key} must hold {kinds[0]}, got {kinds[1]}")


def _blueprint(host: Callable[..., Host], arguments: Mapping[str, Any], weights: StateDict) -> Host:
    """Build a network whose parameters have shapes but no memory; tables that it computes are real.

    Raises:
        ValueError: if it comes to more parameters, or larger tables, than weights of this size can be of.
    """
    with _Limited(held_bytes(weights)), _counted(2 * len(weights) + 64, held_bytes(weights)):
        return host(**arguments)


class _Limited(TorchFunctionMode):
    """Puts parameters on the meta device as they are made, and refuses tables larger than `held` bytes explain.

    `torch.device("meta")` would have every index table computed there, for which torch imports its compiler: seconds.
    """

    def __init__(self, held: int) -> None:
        super().__init__()
        self.free = 4 * held + TABLE_BYTES

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch's, elsewhere or not at all."""
        kwargs = kwargs or {}
        if function in _ON_META:
            kwargs = {**kwargs, "device": "meta"}
        elif function in _COUNTED:
            size = kwargs.get("size", args)
            shape = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
            self.free -= 4 * torch.Size(shape).numel()
            if self.free < 0:
                raise ValueError("its tables would be larger than its weights explain")
        elif function.__name__.endswith("_") and not function.__name__.endswith("__"):
            # Initial values.
            target = args[0] if args else kwargs.get("tensor")
            if isinstance(target, Tensor) and target.is_meta:
                return target
        return function(*args, **kwargs)


@contextmanager
def _counted(parameters: int, held: int) -> Iterator[None]:
    """Refuse networks of more parameters, or larger buffers, in the course of their construction."""
    thread = threading.get_ident()
    left = {"parameters": parameters, "bytes": 2 * held + TABLE_BYTES}

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        # The hooks are called for modules of other threads as well.
        if tensor is None or threading.get_ident() != thread:
            return
        left["parameters"] -= isinstance(tensor, nn.Parameter)
        left["bytes"] -= 0 if tensor.is_meta else tensor.numel() * tensor.element_size()
        if min(left.values()) < 0:
            raise ValueError("it has not the entries for so many or so large modules")

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
