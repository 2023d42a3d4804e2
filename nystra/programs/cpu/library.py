"""The compiled programs: which object this processor takes, and how they are called."""

import contextlib
import ctypes
import platform
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nystra.functional import differentiated
from nystra.programs.cpu.digest import digest_sources

FOLDER = Path(__file__).parent
# Objects by torch's name for what the processor has, the widest vectors first.
OBJECTS = {"AVX512": ("avx512", "avx2"), "AVX2": ("avx2",), "aarch64": ("neon",)}
DTYPES = (torch.float32, torch.bfloat16)


class Library(NamedTuple):
    """Loaded programs.

    Attributes:
        code: entry points.
        lanes: floats of a vector.
        tile: queries that are attended together.
        parallel: address of OpenMP's entry point in the library that torch has loaded; None: one thread.
    """

    code: ctypes.CDLL
    lanes: int
    tile: int
    parallel: int | None

    def run(self, program: str, arguments: ctypes.Structure) -> None:
        """Run a program on torch's threads; other Python threads go on meanwhile.

        Raises:
            MemoryError: if there is no memory for its intermediate results.
        """
        if getattr(self.code, program)(ctypes.byref(arguments), ctypes.c_void_p(self.parallel), threads(self)):
            raise MemoryError(f"no memory for the native program {program}")


def threads(library: Library) -> int:
    """Threads that a program runs on."""
    return torch.get_num_threads() if library.parallel else 1


def object_file() -> tuple[Path | None, str]:
    """Find the object for this processor: its file or None, and a phrase for people."""
    machine = platform.machine()
    capability = "aarch64" if machine in ("aarch64", "arm64") else torch.backends.cpu.get_cpu_capability()
    names = OBJECTS.get(capability, ())
    for name in names:
        path = FOLDER / f"programs_{name}.so"
        if path.exists():
            if not _is_of_these_sources(path):
                return None, "none: they are of other sources; compile them: python -m nystra.programs.cpu.build"
            return path, name
    if names:
        return None, "none: they are compiled where a C++ compiler is there when this package is installed"
    return None, f"none for this processor ({machine}, {capability})"


def _is_of_these_sources(path: Path) -> bool:
    """Whether an object is of the present sources: after an update of a checkout its entry points may be others."""
    try:
        entry = ctypes.CDLL(str(path)).sources_digest
    except (AttributeError, OSError):
        return False
    entry.restype = ctypes.c_char_p
    return digest_sources() in ("", entry().decode())


def load() -> Library | None:
    """Give the programs for this processor; None: there are none."""
    return _LIBRARY


def _load() -> Library | None:
    path, _ = object_file()
    if path is None:
        return None
    code = ctypes.CDLL(str(path))
    return Library(code, code.lane_count(), code.tile_size(), _parallel())


def _parallel() -> int | None:
    # Two pools of threads in one process would spin against each other: torch's own runs the programs.
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError):
        return None


# At the import: torch.compile could not trace how an object is found and loaded.
_LIBRARY = _load()


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


def usable(*tensors: Tensor, parameters: Iterable[Tensor] = ()) -> Library | None:
    """Give the programs if they can take tensors: of one dtype that they know, on the processor, without gradients.

    Args:
        *tensors: inputs.
        parameters: what tables are made of: of any dtype, on the processor, without gradients.
    """
    library = load() if _State.allowed else None
    every = (*tensors, *parameters)
    if library is None or _is_foreign(every) or differentiated(every):
        return None
    dtype = tensors[0].dtype
    fits = all(tensor.device.type == "cpu" for tensor in every) and all(tensor.dtype == dtype for tensor in tensors)
    return library if fits and dtype in DTYPES else None
