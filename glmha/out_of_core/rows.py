"""Feature maps of which rows are computed when they are read, and maps that are kept, in memory or in a file."""

from __future__ import annotations

import abc
import math
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

Read = Callable[[int, int], Tensor]
"""Gives rows [low, high) of a feature map: (1, C, high - low, W)."""


class Rows(abc.ABC):
    """A feature map (1, C, H, W) that is never whole in memory; torch's operations of the hosts give further ones.

    Args:
        shape: of the map.
    """

    handled: ClassVar[dict[Callable[..., Any], Callable[..., Rows]]] = {}

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = torch.Size(shape)

    @abc.abstractmethod
    def rows(self, low: int, high: int) -> Tensor:
        """Rows [low, high), (1, C, high - low, W)."""

    @abc.abstractmethod
    def forget(self) -> None:
        """Drop what is kept of the last reading."""

    def around(self, low: int, high: int, halo: int) -> tuple[Tensor, slice]:
        """Rows [low, high) with up to `halo` more on either side, as there are, and where those asked for are."""
        first, until = max(0, low - halo), min(self.shape[2], high + halo)
        return self.rows(first, until), slice(low - first, high - first)

    def map(self, function: Callable[[Tensor], Tensor], channels: int, halo: int = 0) -> Rows:
        """Apply a function of an image that looks `halo` rows around each and keeps the size: (1, channels, H, W)."""

        def read(low: int, high: int) -> Tensor:
            rows, inner = self.around(low, high, halo)
            return function(rows)[:, :, inner]

        return Computed((1, channels, *self.shape[2:]), read)

    def contiguous(self, *, memory_format: torch.memory_format = torch.contiguous_format) -> Rows:
        """The map itself."""
        return self

    def __getitem__(self, place: tuple[slice, ...]) -> Rows:
        """Crop at the bottom and on the right: `[:, :, :height, :width]`; other images of the batch are none."""
        if place == slice(1):
            return self
        _, _, rows, columns = place
        height, width = (range(side)[part] for side, part in zip(self.shape[2:], (rows, columns), strict=True))
        shape = (*self.shape[:2], len(height), len(width))
        return Computed(shape, lambda low, high: self.rows(low, high)[..., columns])

    def __add__(self, other: Rows) -> Rows:
        # The other first: in a block it reads some rows around these of the same map.
        return Computed(self.shape, lambda low, high: other.rows(low, high) + self.rows(low, high))

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Rows:
        """Apply an operation of torch that a host has outside its blocks."""
        if function not in cls.handled:
            raise NotImplementedError(f"{function} has no form for feature maps that are read by rows")
        return cls.handled[function](*args, **(kwargs or {}))


class Computed(Rows):
    """A feature map whose rows are computed when they are read.

    Args:
        shape: of the map.
        read: computes rows. The rows read last are kept, for those that read parts of them again.
    """

    def __init__(self, shape: Sequence[int], read: Read) -> None:
        super().__init__(shape)
        self._read = read
        self._last: tuple[int, int, Tensor] | None = None

    def rows(self, low: int, high: int) -> Tensor:
        """See base class."""
        if self._last is None or not self._last[0] <= low <= high <= self._last[1]:
            # Before the next ones are made: both need not fit.
            self._last = None
            self._last = low, high, self._read(low, high)
        first, _, kept = self._last
        return kept[:, :, low - first : high - first]

    def forget(self) -> None:
        """See base class."""
        self._last = None


def _handles(*functions: Callable[..., Any]) -> Callable[[Callable[..., Rows]], Callable[..., Rows]]:
    def register(form: Callable[..., Rows]) -> Callable[..., Rows]:
        Rows.handled.update(dict.fromkeys(functions, form))
        return form

    return register


@_handles(torch.cat)
def _cat(maps: Sequence[Rows], dim: int) -> Rows:
    assert dim == 1, "hosts join channels"
    shape = (1, sum(each.shape[1] for each in maps), *maps[0].shape[2:])
    return Computed(shape, lambda low, high: torch.cat([each.rows(low, high) for each in maps], 1))


@_handles(F.leaky_relu)
def _leaky_relu(x: Rows, negative_slope: float, inplace: bool) -> Rows:
    return x.map(lambda rows: F.leaky_relu(rows, negative_slope), x.shape[1])


@_handles(F.conv2d)
def _convolution(
    x: Rows,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Rows:
    height, width = (
        (side + 2 * margin - reach) // step + 1
        for side, margin, reach, step in zip(x.shape[2:], padding, weight.shape[2:], stride, strict=True)
    )

    def read(low: int, high: int) -> Tensor:
        first = low * stride[0] - padding[0]
        until = (high - 1) * stride[0] - padding[0] + weight.shape[2]
        rows = x.rows(max(0, first), min(x.shape[2], until))
        # Zeros beyond the image alone: inside it, rows around these are read.
        rows = F.pad(rows, (0, 0, max(0, -first), max(0, until - x.shape[2])))
        return F.conv2d(rows, weight, bias, stride, (0, padding[1]), dilation, groups)

    return Computed((1, weight.shape[0], height, width), read)


@_handles(F.conv_transpose2d)
def _transposed_convolution(x: Rows, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], *_: Any) -> Rows:
    scale = stride[0]
    assert stride == (scale, scale) == weight.shape[2:], "hosts enlarge without overlap"
    return _enlarged(x, weight.shape[1], scale, lambda rows: F.conv_transpose2d(rows, weight, bias, stride))


@_handles(F.pixel_shuffle)
def _pixel_shuffle(x: Rows, scale: int) -> Rows:
    return _enlarged(x, x.shape[1] // scale**2, scale, lambda rows: F.pixel_shuffle(rows, scale))


def _enlarged(x: Rows, channels: int, scale: int, function: Callable[[Tensor], Tensor]) -> Rows:
    def read(low: int, high: int) -> Tensor:
        first = low // scale
        rows = function(x.rows(first, -(-high // scale)))
        return rows[:, :, low - first * scale : high - first * scale]

    return Computed((1, channels, x.shape[2] * scale, x.shape[3] * scale), read)


@_handles(F.pixel_unshuffle)
def _pixel_unshuffle(x: Rows, scale: int) -> Rows:
    shape = (1, x.shape[1] * scale**2, x.shape[2] // scale, x.shape[3] // scale)
    return Computed(shape, lambda low, high: F.pixel_unshuffle(x.rows(low * scale, high * scale), scale))


@_handles(F.pad)
def _reflected(x: Rows, pad: Sequence[int], mode: str, value: float | None) -> Rows:
    left, right, above, below = pad
    assert (mode, left, above) == ("reflect", 0, 0), "hosts reflect at the bottom and on the right"
    height = x.shape[2]

    def read(low: int, high: int) -> Tensor:
        numbers = [height - 1 - abs(height - 1 - number) for number in range(low, high)]
        first = min(numbers)
        rows = x.rows(first, max(numbers) + 1)[:, :, [number - first for number in numbers]]
        return F.pad(rows, (0, right, 0, 0), mode="reflect") if right else rows

    return Computed((1, x.shape[1], height + below, x.shape[3] + right), read)


class Kept(Rows):
    """A feature map that is written once, rows from the top on, and read often."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device, file: IO[bytes] | None) -> None:
        super().__init__(shape)
        self._dtype, self._device, self._file = dtype, device, file
        # Channels last, so that rows lie side by side.
        self._row = shape[3] * shape[1]
        self._memory = torch.empty(0 if file else shape[2] * self._row, dtype=dtype)

    def write(self, low: int, rows: Tensor) -> None:
        """Write rows from number `low` on."""
        flat = rows.permute(0, 2, 3, 1).to("cpu", self._dtype).contiguous().flatten()
        if self._file is None:
            self._memory[low * self._row : low * self._row + len(flat)] = flat
        else:
            self._file.seek(low * self._row * flat.element_size())
            self._file.write(flat.view(torch.uint8).numpy().data)

    def forget(self) -> None:
        """Nothing but what is kept anyway."""

    def rows(self, low: int, high: int) -> Tensor:
        """Rows [low, high); those of a file are read anew each time."""
        if self._file is None:
            flat = self._memory[low * self._row : high * self._row]
        else:
            size = self._dtype.itemsize
            self._file.seek(low * self._row * size)
            flat = torch.empty((high - low) * self._row, dtype=self._dtype)
            self._file.readinto(flat.view(torch.uint8).numpy().data)  # type: ignore[attr-defined]  # of files of bytes
        return flat.view(1, high - low, self.shape[3], self.shape[1]).permute(0, 3, 1, 2).to(self._device)


class Store:
    """Keeps feature maps in memory as far as it goes, and then in files that have no name.

    Args:
        memory: bytes for the maps in memory.
        band: bytes for what is made of the rows that are worked on together.
        folder: for the files; None: the system's for temporary files.
        device: that rows are read to.
    """

    def __init__(self, memory: int, band: int, folder: Path | None, device: torch.device) -> None:
        self.free = memory
        self._band = band
        self._folder = folder
        self._device = device

    def keep(self, x: Rows) -> Kept:
        """Compute a map and keep it until nobody has the result any more."""
        if isinstance(x, Kept):
            return x
        kept: Kept | None = None
        for low, high in self.bands(x):
            rows = x.rows(low, high)
            kept = kept or self._room(x.shape, rows.dtype)
            kept.write(low, rows)
        x.forget()
        assert kept is not None, "images have rows"
        return kept

    def bands(self, x: Rows, widest: int = 12) -> Iterator[tuple[int, int]]:
        """Rows that are worked on together: (low, high), from the top.

        Args:
            x: the map.
            widest: how many times the channels of the map are in memory at once.
        """
        rows = max(8, self._band // (4 * widest * x.shape[1] * x.shape[3]))
        for low in range(0, x.shape[2], rows):
            yield low, min(x.shape[2], low + rows)

    def _room(self, shape: Sequence[int], dtype: torch.dtype) -> Kept:
        size = math.prod(shape) * dtype.itemsize
        if size > self.free:
            # Closed, and so removed, with the last that reads it: not by a context.
            file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
            kept = Kept(shape, dtype, self._device, file)
            weakref.finalize(kept, file.close)
            return kept
        kept = Kept(shape, dtype, self._device, None)
        self.free -= size
        weakref.finalize(kept, self._give_back, size)
        return kept

    def _give_back(self, size: int) -> None:
        self.free += size
