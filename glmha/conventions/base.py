"""The interface of conventions: parameter names, projections and output of channel attention in a family of hosts.

An attention of this package owns its parameters under its host's names, so that checkpoints keep their keys; the
convention knows those names. It turns an image into cosines and values, and an attention matrix and values into an
image. The attention itself (`glmha.attention`) makes the matrix of the cosines.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from glmha import functional
from glmha.cpu import gradients
from glmha.cpu.row_bands import trains_plainly

# Maps the paper's Q, as an image (B, C, H, W), to the factor (1 + αa) of every input channel, (B, C); Eqs. (4), (5).
Calibrate = Callable[[Tensor], Tensor]


class AttentionModule(Protocol):
    """The sizes of an attention module, and access to the parameters that a convention registers on it.

    Attributes:
        channels: C.
        heads: h.
    """

    channels: int
    heads: int

    @property
    def key_channels(self) -> int:
        """C', the channels of keys and values."""

    # A convention's parameters and layers are attributes, as on every `nn.Module`; their names are the convention's.
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
        """Project an image to queries, keys and values.

        Args:
            module: the attention, whose parameters are used.
            x: image, (B, C, H, W).
            calibrate: the input's re-weighting for keys and values, Eq. (5); None: the input as it is.

        Returns:
            Tokens of queries (B, N, C), keys and values (B, N, C').
        """

    @abc.abstractmethod
    def output(
        self, module: AttentionModule, attention: Tensor, value: Tensor, x: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Apply the attention matrix to the values and project to an image.

        Args:
            module: the attention, whose parameters are used.
            attention: (B, h, d, d'), rows sum to 1.
            value: tokens (B, N, C').
            x: the attention's input, (B, C, H, W).
            mask: mask features where the convention is mask-guided, else None.

        Returns:
            Image (B, C, H, W).

        Raises:
            ValueError: if `mask` does not suit the convention.
        """

    def similarity(self, module: AttentionModule, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor]:
        """Compute the cosines of queries and keys.

        Args:
            module: the attention, whose parameters are used.
            x: image, (B, C, H, W).
            calibrate: see `tokens`.

        Returns:
            Cosines (B, h, d, d'), float32 at least, and values (B, N, C').
        """
        query, key, value = self.tokens(module, x, calibrate)
        plain = trains_plainly(x) and not functional.computes_in_float16(x)
        similarity = gradients.similarity if plain else functional.similarity
        return similarity(query, key, module.heads), value
