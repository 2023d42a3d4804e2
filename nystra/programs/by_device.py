"""Attention over feature maps by the programs that a kernel has for their device."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from torch import Tensor

from nystra.programs.cpu.library import usable
from nystra.programs.gpu import availability as gpu
from nystra.windows.geometry import WindowGeometry
from nystra.windows.partition import Cut


class HasPrograms(Hashable, Protocol):
    """What is asked of a kernel, see `nystra.kernels.base.Kernel`."""

    @property
    def has_program(self) -> bool:
        """Whether `attend_natively` may have a program."""

    @property
    def has_gpu_program(self) -> bool:
        """Whether `attend_on_gpu` has a program."""

    def attend_natively(
        self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut, /
    ) -> Tensor | None:
        """By a program for processors."""

    def attend_on_gpu(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut, /) -> Tensor:
        """By a program for graphics processors."""

    def window_by_window(
        self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut, /
    ) -> Tensor:
        """By plain torch."""


def has_program_for(kernel: HasPrograms, features: Tensor) -> bool:
    """Whether a kernel has a program that takes maps like these."""
    return (kernel.has_program and usable(features) is not None) or (kernel.has_gpu_program and gpu.usable(features))


def attend_by_program(
    kernel: HasPrograms, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry, cut: Cut
) -> Tensor | None:
    """Attend within the windows of maps (B, H, W, h, d), of films (B, T, H, W, h, d); None: plain torch is to do it.

    On graphics processors a program is taken where it is faster than plain torch.
    """
    on_gpu = gpu.usable(query, key, value, parameters=geometry.parameters)
    if not (kernel.has_gpu_program if on_gpu else kernel.has_program) or not query.shape == key.shape == value.shape:
        return None
    maps = query, key, value
    if len(cut.window) == 3 and not (cut.roll[0] or geometry.shift[0] or any(cut.margins)):
        # Programs know rows and columns: the frames that windows reach over lie below each other.
        maps = tuple(each.unflatten(1, (-1, cut.window[0])).flatten(0, 1).flatten(1, 2) for each in maps)
    elif len(cut.window) != 2:
        return None
    if not on_gpu:
        attended = kernel.attend_natively(*maps, geometry, cut)
        return None if attended is None else attended.view(query.shape)
    faster = gpu.is_faster(
        (kernel, geometry.window, any(geometry.shift), geometry.bias is not None),
        lambda: kernel.attend_on_gpu(*maps, geometry, cut),
        lambda: kernel.window_by_window(query, key, value, geometry, cut),
        query,
    )
    return kernel.attend_on_gpu(*maps, geometry, cut).view(query.shape) if faster else None
