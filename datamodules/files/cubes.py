"""Spectral cubes and masks in MATLAB files, of either generation: the one place that reads and writes them."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from datamodules.errors import DataError
from datamodules.files.atomic import atomic_file

CUBE_KEYS = ("cube", "img_expand", "img", "Omsi")
"""Names of a cube in data sets: ARAD_1K, CAVE as MST arranges it (both names), and single scenes."""

# Exceptions of scipy and h5py for files that are damaged or of no MATLAB format, found by damaging some.
_UNREADABLE = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, UnboundLocalError),
    *(zlib.error, MatReadError),
)

Window = tuple[slice, slice]
"""Rows and columns of a part, as slices without a step."""

# Height, width and bands, where they are known.
Shape = tuple[int | None, ...]


def read_cube(
    path: str | Path,
    keys: Sequence[str] = CUBE_KEYS,
    *,
    bands: int | None = None,
    size: tuple[int, int] | None = None,
    window: Window | None = None,
) -> NDArray:
    """Read a spectral cube, or a part of it, as MATLAB shows it.

    Of a file of version 7.3 (HDF5), which stores axes in reverse, only what lies under the window is read; older files
    are read whole.

    Args:
        path: the .mat file.
        keys: what the variable may be called; the first that the file holds counts.
        bands: that the cube must have; None: any number.
        size: height and width that the whole cube must have; None: any.
        window: rows and columns to read; None: all.

    Returns:
        Shape (H, W, bands), with the type and the values that are stored, finite.

    Raises:
        DataError: if the file is missing, damaged, or has no such variable, or that is no cube of real, finite values
            with so many bands and of that size.
    """
    path = Path(path)
    return _checked(_read(path, keys, (*(size or (None, None)), bands), window), path)


def list_cubes(folder: Path) -> list[Path]:
    """List the MATLAB files of a folder, sorted by name; their suffix counts in either case.

    Args:
        folder: where; need not exist.
    """
    files = folder.iterdir() if folder.is_dir() else []
    return sorted(path for path in files if path.suffix.lower() == ".mat" and not path.name.startswith("."))


def read_mask(path: str | Path, keys: Sequence[str] = ("mask",)) -> NDArray:
    """Read a coded aperture.

    Args:
        path: the .mat file.
        keys: what the variable may be called; the first that the file holds counts.

    Returns:
        Shape (H, W), float32.

    Raises:
        DataError: as `read_cube`, or if it is no matrix.
    """
    path = Path(path)
    return _checked(_read(path, keys, (None, None), None), path).astype(np.float32)


def read_blocks(path: str | Path, key: str) -> NDArray:
    """Read blocks of photographs, as SIDD's validation files hold them.

    Args:
        path: the .mat file.
        key: what the variable is called.

    Returns:
        Shape (scenes, blocks, H, W, 3), uint8.

    Raises:
        DataError: as `read_cube`, or if the values are no 8-bit levels.
    """
    path = Path(path)
    blocks = _read(path, (key,), (None, None, None, None, 3), None)
    if blocks.dtype != np.uint8:
        raise DataError(f"blocks of {path} must be uint8, got {blocks.dtype}; download the file again")
    return blocks


def write_cube(path: str | Path, cube: NDArray) -> None:
    """Write a cube as the variable `cube` of a .mat file (version 5, compressed) or of an .npz file.

    Args:
        path: its suffix decides the format; the file is complete or not there.
        cube: shape (H, W, bands).

    Raises:
        ValueError: if the suffix is neither.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".mat", ".npz"):
        raise ValueError(f"suffix of {path} must be .mat or .npz, got '{path.suffix}'")
    with atomic_file(path) as file:
        if path.suffix == ".mat":
            # Its stubs know paths only.
            scipy.io.savemat(file, {"cube": cube}, do_compression=True)  # type: ignore[arg-type]
        else:
            np.savez_compressed(file, cube=cube)


def _read(path: Path, keys: Sequence[str], wanted: Shape, window: Window | None) -> NDArray:
    if not path.is_file():
        raise DataError(f"cube {path} must be a file, got nothing there; check the path")
    try:
        return (_read_hdf5 if h5py.is_hdf5(path) else _read_older)(path, keys, wanted, window)
    except DataError:
        raise
    except _UNREADABLE as error:
        raise DataError(
            f"cube {path} must be a complete MATLAB file, got: {error}; copy or download it again, or remove it "
            "together with its counterpart"
        ) from error


def _read_hdf5(path: Path, keys: Sequence[str], wanted: Shape, window: Window | None) -> NDArray:
    with h5py.File(path, "r") as file:
        stored = file[_chosen(path, keys, [key for key in file if not key.startswith("#")])]
        if not isinstance(stored, h5py.Dataset):
            raise DataError(f"variable {stored.name} of {path} must be an array, got a group; save the array itself")
        _check_shape(path, stored.shape[::-1], wanted)
        rows, columns = window or (slice(None), slice(None))
        # MATLAB stores column by column, and so its axes come in reverse.
        return np.ascontiguousarray(stored[..., columns, rows].T)


def _read_older(path: Path, keys: Sequence[str], wanted: Shape, window: Window | None) -> NDArray:
    key = _chosen(path, keys, [name for name, _, _ in scipy.io.whosmat(path)])
    stored = scipy.io.loadmat(path, variable_names=[key])[key]
    _check_shape(path, stored.shape, wanted)
    rows, columns = window or (slice(None), slice(None))
    return np.ascontiguousarray(stored[rows, columns])


def _chosen(path: Path, keys: Sequence[str], found: Sequence[str]) -> str:
    for key in keys:
        if key in found:
            return key
    raise DataError(
        f"cube {path} must hold the variable {' or '.join(keys)}, got {', '.join(found) or 'none'}; "
        "rename the variable, or replace the file"
    )


def _check_shape(path: Path, shape: Sequence[int], wanted: Shape) -> None:
    fits = len(shape) == len(wanted) and all(want in (None, have) for want, have in zip(wanted, shape, strict=True))
    if not fits or 0 in shape:
        names = ("height", "width", "bands") if len(wanted) < 4 else ("scenes", "blocks", "height", "width", "channels")
        kind = " × ".join(name if want is None else f"{want} {name}" for name, want in zip(names, wanted, strict=False))
        got = "×".join(map(str, shape))
        raise DataError(f"cube {path} must be {kind}, got {got}; replace the file, or choose data and net that agree")


def _checked(array: NDArray, path: Path) -> NDArray:
    if array.dtype.kind not in "fiu":
        raise DataError(f"cube {path} must hold real numbers, got {array.dtype}; save it as numbers")
    if not np.isfinite(array).all():
        raise DataError(f"cube {path} must be finite, got NaN or infinite values; copy or download it again")
    return array
