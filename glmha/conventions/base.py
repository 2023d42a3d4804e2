"""How each family of hosts stores and applies channel attention: parameter names, projections, output.

An attention of this package owns its parameters under its host's names, so that checkpoints keep their keys; the
convention knows those names. It turns an image into cosines and values, and an attention matrix and values into an
image. What lies between, from cosines to attention matrix, is the attention's own (`glmha.attention`).
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from glmha import functional
from glmha.cpu import gradients
from glmha.cpu.row_bands import trains_plainly

# Maps the paper's Q, as an image (B, C, H, W), to the factor (1 + αa) of every input channel, (B, C); Eqs. (4), (5).
Calibrate = Callable[[Tensor], Tensor]


class AttentionModule(Protocol):
    """An attention module as far as a convention knows it.

    The parameters that a convention registers on the module are the convention's own business.

    Attributes:
        channels: C.
        heads: h.
        key_channels: C', the channels of keys and values.
    """

    channels: int
    heads: int

    @property
    def key_channels(self) -> int:
        """C', the channels of keys and values."""

    def get_parameter(self, target: str) -> nn.Parameter:
        """Find a parameter by its path, as `torch.nn.Module.get_parameter` does."""

    # `nn.Module` finds parameters and submodules this way.
    def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None: ...


class Convention(abc.ABC):
    """Builds a host's parameters on an attention module and applies them; the module is the only state."""

    @abc.abstractmethod
    def build(self, module: AttentionModule) -> None:
        """Register the parameters on `module` under the host's names."""

    @abc.abstractmethod
    def temperature(self, module: AttentionModule) -> Tensor:
        """1/β of Eq. (2), per head, shape (h, 1, 1)."""

    @abc.abstractmethod
    def tokens(self, module: AttentionModule, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, N, C), keys and values (B, N, C') of an image (B, C, H, W)."""

    @abc.abstractmethod
    def output(
        self, module: AttentionModule, attention: Tensor, value: Tensor, x: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Apply the attention matrix (B, h, d, d') to the values and project to an image like `x`."""

    def similarity(self, module: AttentionModule, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor]:
        """Cosines (B, h, d, d') of queries and keys, and the values (B, N, C')."""
        query, key, value = self.tokens(module, x, calibrate)
        plain = trains_plainly(x) and not functional.computes_in_float16(x)
        similarity = gradients.similarity if plain else functional.similarity
        return similarity(query, key, module.heads), value
