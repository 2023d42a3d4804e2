"""Linear maps to queries, keys, values and outputs, absorbed into the few vectors of kernels with landmarks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nystra.programs.cpu.linear_maps import linear

QUERY, KEY, VALUE = range(3)


class Projections(NamedTuple):
    """The maps of tokens to queries, keys and values of all heads, and of their outputs back to tokens.

    A kernel of landmarks needs the products of tokens' queries and keys with a few vectors only, and weighted sums of
    values. With x·W_qᵀ·k = x·(W_qᵀ·k) these are products with the tokens x themselves: the maps are *absorbed* into
    the vectors, and the output map into the sums. Of m vectors for each of h heads that costs 4·h·m·C multiply-adds a
    token, instead of 4·C² for the maps and 4·m·C for the products.

    Attributes:
        weight: (3, h, d, C), the scale in the queries'.
        bias: (3, h, d); None: none.
        output: (h, d, C).
        output_bias: (C,); None: none.
    """

    weight: Tensor
    bias: Tensor | None
    output: Tensor
    output_bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, output: nn.Linear, heads: int) -> Projections:
        """Take apart weights (3C, C) and biases (3C,) of queries, keys and values, and the output map, by heads."""
        shape = (3, heads, -1)
        return cls(
            weight.unflatten(0, shape),
            None if bias is None else bias.unflatten(0, shape),
            output.weight.T.unflatten(0, (heads, -1)),
            output.bias,
        )

    def to(self, dtype: torch.dtype) -> Projections:
        """The same maps in another precision."""
        return Projections(*(None if part is None else part.to(dtype) for part in self))  # type: ignore[arg-type]

    def heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (W, h, N, d) of tokens (W, N, C)."""
        query, key, value = (mapped.transpose(1, 2) for mapped in self.maps(tokens))
        return query, key, value

    def maps(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (..., h, d) of features (..., C)."""
        bias = None if self.bias is None else self.bias.flatten()
        mapped = linear(features, self.weight.flatten(0, 2), bias).unflatten(-1, self.weight.shape[:3])
        query, key, value = mapped.unbind(-3)
        return query, key, value

    def logits(self, tokens: Tensor, *pairs: tuple[int, Tensor]) -> Tensor:
        """Products of projected tokens with vectors, by one product with the tokens.

        Args:
            tokens: (W, N, C).
            *pairs: `QUERY`, `KEY` or `VALUE`, and vectors (W, h, m, d).

        Returns:
            Those of the first pair, head by head, then those of the next: (W, N, pairs·h·m).
        """
        maps = torch.cat([(vectors @ self.weight[part]).flatten(1, 2) for part, vectors in pairs], 1).transpose(1, 2)
        if self.bias is None:
            return tokens @ maps
        offsets = [(vectors @ self.bias[part].unsqueeze(2)).flatten(1) for part, vectors in pairs]
        return torch.baddbmm(torch.cat(offsets, 1).unsqueeze(1), tokens, maps)

    def sums(self, part: int, sums: Tensor, masses: Tensor) -> Tensor:
        """Weighted sums of projected tokens from those of the tokens.

        Args:
            part: `QUERY`, `KEY` or `VALUE`.
            sums: of tokens, (W, h, m, C).
            masses: sums of the weights, (W, h, m).

        Returns:
            Shape (W, h, m, d).
        """
        result = sums @ self.weight[part].transpose(1, 2).to(sums.dtype)
        return result if self.bias is None else result + masses.unsqueeze(3) * self.bias[part].unsqueeze(1)

    def mix(self, weights: Tensor, vectors: Tensor) -> Tensor:
        """Weigh vectors for every token and map the result back.

        Args:
            weights: head by head, (W, N, h·m).
            vectors: (W, h, m, d).

        Returns:
            Shape (W, N, C).
        """
        maps = (vectors @ self.output.to(vectors.dtype)).flatten(1, 2)
        if self.output_bias is None:
            return weights @ maps
        return torch.baddbmm(self.output_bias.to(weights.dtype), weights, maps)
