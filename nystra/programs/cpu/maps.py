"""Windows of feature maps as the programs read them: in place, by strides."""

import ctypes
import functools
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from nystra.programs.places import in_frames, places

Pair = ctypes.c_int64 * 2
Sources = ctypes.POINTER(ctypes.c_int32)


class Map(ctypes.Structure):
    """Address and strides of a feature map (B, H, W, heads, d), see `source/maps.h`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("image", ctypes.c_int64),
        ("row", ctypes.c_int64),
        ("column", ctypes.c_int64),
        ("head", ctypes.c_int64),
    )

    @classmethod
    def of(cls, maps: Tensor) -> "Map":
        """Describe maps whose channels lie side by side; they must outlive the result."""
        return cls(maps.data_ptr(), *maps.stride()[:4])


class Windows(ctypes.Structure):
    """Feature maps cut into windows, see `source/maps.h`."""

    _fields_ = (
        ("images", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("size", Pair),
        ("window", Pair),
        ("source", Sources * 2),
        ("inside", Pair * 2),
        ("grid", Pair),
    )

    @classmethod
    def of(
        cls, maps: Tensor, window: list[int], roll: list[int], margins: list[int], grid: list[int], frames: int
    ) -> "Windows":
        """Describe the windows of maps, see `Layout`.

        Args:
            maps: any of queries, keys and values, (B, frames·H, W, heads, d).
            window: h and w of a window.
            roll: of the maps.
            margins: of the maps.
            grid: windows of an image along each axis.
            frames: that a window reaches over.
        """
        sides = maps.shape[1] // frames, maps.shape[2]
        numbers = [places(sides[axis], roll[axis], *margins[2 * axis : 2 * axis + 2]) for axis in (0, 1)]
        if frames > 1:
            numbers[0] = in_frames(numbers[0], window[0], frames)
        axes = [sources(axis) for axis in numbers]
        return cls(
            len(maps),
            *maps.shape[3:],
            Pair(*(len(axis) for axis in axes)),
            Pair(frames * window[0], window[1]),
            (Sources * 2)(*(ctypes.cast(axis, Sources) for axis in axes)),
            (Pair * 2)(
                Pair(margins[0], margins[0] + maps.shape[1]),
                Pair(margins[2], margins[2] + sides[1]),
            ),
            Pair(*grid),
        )


class Attention(ctypes.Structure):
    """What every program of attention is given, see `source/maps.h`; subclasses have what is a program's own."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = (
        ("windows", Windows),
        ("query", Map),
        ("key", Map),
        ("value", Map),
        ("output", Map),
        ("mass", Map),
        ("kinds", Pair),
        ("half", ctypes.c_int64),
    )

    @classmethod
    def of(
        cls, windows: Windows, maps: Sequence[Tensor], kinds: Iterable[int], *own: Any, mass: Tensor | None = None
    ) -> Self:
        """Describe a call; tensors must outlive the result.

        Args:
            windows: of the maps.
            maps: queries, keys, values and outputs, whose channels lie side by side.
            kinds: of windows along each axis, 2 where the last ones differ from the others.
            *own: fields of the subclass.
            mass: room for masses, (B, H, W, heads, 1), float32; None: they are not wanted.
        """
        masses = Map() if mass is None else Map.of(mass)
        return cls(windows, *map(Map.of, maps), masses, Pair(*kinds), maps[0].dtype == torch.bfloat16, *own)


def empty_outputs(query: Tensor, *_: object) -> Tensor:
    """Room for the outputs of queries (B, H, W, heads, d), contiguous."""
    return query.new_empty(query.shape)


def outputs_and_masses(query: Tensor, *arguments: Any) -> Tensor:
    """Room for the outputs of queries (B, H, W, heads, d), and for masses behind them, if the last argument is true."""
    return query.new_empty((*query.shape[:-1], query.shape[-1] + bool(arguments[-1])))


@functools.lru_cache(maxsize=256)
def sources(numbers: tuple[int, ...]) -> ctypes.Array[ctypes.c_int32]:
    """Numbers of rows (columns) as programs read them."""
    return (ctypes.c_int32 * len(numbers))(*numbers)


def with_dense_channels(maps: Tensor) -> Tensor:
    """Maps whose channels lie side by side: themselves, as those of every host do, or a copy."""
    return maps if maps.stride(-1) == 1 else maps.contiguous()
