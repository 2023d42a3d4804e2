"""Observation of the queries, keys and values of window attentions while a net runs."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nystra.kernels.base import Cost, Kernel
from nystra.sites.site import Site
from nystra.windows.geometry import WindowGeometry, WindowKind

Observer = Callable[[str, Tensor, Tensor, Tensor, WindowGeometry], None]


@contextmanager
def observed(sites: Mapping[str, Site], observer: Observer) -> Iterator[None]:
    """Call an observer with (name, query, key, value, geometry) before every attention of some sites.

    Args:
        sites: by name; they attend as before, and have the same kernels afterwards.
        observer: called for each attention; must not change the tensors.
    """
    kernels = {name: site.kernel for name, site in sites.items()}
    for name, site in sites.items():
        site.kernel = _Observed(name, site.kernel, observer)
    try:
        yield
    finally:
        for name, site in sites.items():
            site.kernel = kernels[name]


@dataclasses.dataclass(frozen=True)
class _Observed(Kernel):
    name: str
    kernel: Kernel
    observer: Observer

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, geometry: WindowGeometry) -> Tensor:
        self.observer(self.name, query, key, value, geometry)
        return self.kernel(query, key, value, geometry)

    def require_masses(self) -> None:
        self.kernel.require_masses()

    def cost(self, window: tuple[int, ...], channels: int) -> Cost:
        return self.kernel.cost(window, channels)

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> Any:
        return self.kernel.tables(kind, dtype)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Any) -> Tensor:
        return self.kernel.attend(query, key, value, tables)
