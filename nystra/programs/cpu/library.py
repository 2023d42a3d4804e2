"""The compiled programs: which object this processor takes, and how they are called."""

import ctypes
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from nystra.programs.cpu.digest import digest_sources
from nystra.programs.operators import takes

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


def usable(*tensors: Tensor, parameters: Iterable[Tensor] = ()) -> Library | None:
    """Give the programs if they can take tensors: of one dtype that they know, on the processor, without gradients.

    Args:
        *tensors: inputs.
        parameters: what tables are made of: of any dtype, on the processor, without gradients.
    """
    library = load()
    return library if library is not None and takes(tensors, parameters, "cpu", DTYPES) else None
