"""Programs as operators of torch, and when they may be called."""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from nystra.functional import differentiated


class _State:
    allowed = True


@contextlib.contextmanager
def plain_torch() -> Iterator[None]:
    """Let kernels run as plain torch within the context, in all threads: the reference of tests and benchmarks."""
    before, _State.allowed = _State.allowed, False
    try:
        yield
    finally:
        _State.allowed = before


class Operator:
    """A program as one of torch's operators, that is called directly where torch has nothing to do with it.

    The way through torch takes 40 to 60 µs more, as long as attention in a small window.

    Args:
        name: of the operator.
        function: calls the program; all arguments have type hints.
    """

    def __init__(self, name: str, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._operator = torch.library.custom_op(name, function, mutates_args=())
        self.register_fake = self._operator.register_fake

    def __call__(self, *arguments: Any) -> Tensor:
        """Run the program."""
        if torch.compiler.is_compiling() or _is_watched(arguments):
            return self._operator(*arguments)
        return self._function(*arguments)


def _is_watched(arguments: tuple[Any, ...]) -> bool:
    """Whether something of torch's wants to know of an operator: a trace, a transformation, a profiler."""
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.maybe_current_level() is not None
        or torch._C._get_tracing_state() is not None
        or torch._C._autograd._profiler_enabled()
        or not _are_plain(part for part in arguments if isinstance(part, Tensor))
    )


def _are_plain(tensors: Iterable[Tensor]) -> bool:
    """Whether tensors are torch's own: those of other classes may hold something else, or nothing."""
    return all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors)


def _is_foreign(tensors: Iterable[Tensor]) -> bool:
    """Whether a call is one of a batch under `torch.vmap`, or tensors are of classes that no program knows."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.maybe_current_level() is not None or not _are_plain(
        # What a trace gives in their place.
        tensor
        for tensor in tensors
        if not type(tensor).__module__.startswith("torch._subclasses.")
    )


def takes(
    tensors: tuple[Tensor, ...], parameters: Iterable[Tensor], device: str, dtypes: Collection[torch.dtype]
) -> bool:
    """Whether programs can take tensors and may be called here.

    Args:
        tensors: inputs: of one of `dtypes`, on such a device, without gradients.
        parameters: what tables are made of: of any dtype, on such a device, without gradients.
        device: type of the programs' devices.
        dtypes: that the programs know.
    """
    every = (*tensors, *parameters)
    if not _State.allowed or _is_foreign(every) or differentiated(every):
        return False
    dtype = tensors[0].dtype
    fits = all(tensor.device.type == device for tensor in every) and all(tensor.dtype == dtype for tensor in tensors)
    return fits and dtype in dtypes
