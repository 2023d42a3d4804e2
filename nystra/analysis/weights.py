"""Weights of window attention, exact or approximated, as matrices."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nystra.kernels.base import Kernel
from nystra.windows.geometry import WindowKind


def attention_weights(
    kernel: Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kind: WindowKind,
    tokens: Sequence[int] | None = None,
) -> Tensor:
    """The weights with which a kernel sums values: the derivative of its outputs by the values.

    Exact attention's are the softmax. Kernels that choose by values, as `ContentPooling` does its clusters, keep what
    they chose. The weights of approximations need neither be positive nor sum to 1.

    Args:
        kernel: of the site.
        query: (W, h, N, d), scale folded in.
        key: (W, h, N, d).
        value: (W, h, N, d).
        kind: window, bias and mask.
        tokens: numbers of the n queries whose weights are wanted; None: of all N.

    Returns:
        Shape (W, h, n, N), a row for each query.

    Examples:
        >>> import torch
        >>> from nystra import LandmarkPooling, Softmax
        >>> from nystra.analysis import attention_weights
        >>> from nystra.windows import WindowKind
        >>> kind = WindowKind((4, 4), split=(None, None), bias=None, device=torch.device("cpu"))
        >>> query, key, value = torch.randn(3, 1, 2, 16, 4, generator=torch.Generator().manual_seed(0))
        >>> exact = attention_weights(Softmax(), query, key, value, kind)
        >>> torch.allclose(exact, (query @ key.mT).softmax(3), atol=1e-6)
        True
        >>> attention_weights(LandmarkPooling(4, 4), query, key, value, kind, tokens=[5]).shape
        torch.Size([1, 2, 1, 16])
    """
    with torch.enable_grad():
        values = value.detach().clone().requires_grad_()
        attended = kernel.attend(query.detach(), key.detach(), values, kernel.tables(kind, query.dtype))
        # Every channel of the values is summed with the same weights: the first one tells them.
        rows = [
            torch.autograd.grad(attended[:, :, number, 0].sum(), values, retain_graph=True)[0][..., 0]
            for number in (range(query.shape[2]) if tokens is None else tokens)
        ]
    return torch.stack(rows, 2)
