"""A call in place of `torch.nn.functional.scaled_dot_product_attention`, for forwards of one's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from nystra.adoption.operations import hiding
from nystra.adoption.product import Product
from nystra.adoption.recovery.layout import Layout, Window, square
from nystra.adoption.recovery.recovered import Recoveries
from nystra.adoption.site import attend_windows, fused
from nystra.kernels.base import Kernel
from nystra.kernels.softmax import Softmax
from nystra.windows.geometry import WindowGeometry, WindowKind
from nystra.windows.position_bias import DenseBias, TableBias

# What kernels keep of a table of biases, as long as the table lives.
_TABLES: Any = WeakIdKeyDictionary()
_RECOVERIES = Recoveries()


class _Caller:
    """Owner of products that are computed where they are called."""

    def attend(self, product: Product, value: Tensor) -> Tensor:
        return fused(product, value)

    def unforeseen(self, noted: Tensor, reason: str) -> None:
        pass

    def is_recomputed(self) -> bool:
        return False

    def place(self) -> None:
        pass


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    window: Window | None = None,
    extra: tuple[int, int] = (0, 0),
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    kernel: Kernel | None = None,
) -> Tensor:
    """Attend by a kernel, as `torch.nn.functional.scaled_dot_product_attention` does exactly.

    Args:
        query: (..., h, N, d); leading sides are windows, or images where tokens are a whole map.
        key: as queries; (..., h, M, d) with M other than N for exact attention only.
        value: as keys.
        window: h and w of the tokens' map, N = h·w; None: a square if N is one, else a sequence, 1×N.
        extra: numbers of tokens before and behind the map's: class tokens, registers, text. N counts them, too.
        bias: table of offsets, ((2h - 1)·(2w - 1), heads) as Swin stores it, or of pairs of tokens, (heads or 1, N, N);
            of pairs only where there are extra tokens.
        mask: as torch's `attn_mask`: booleans, true where a token is seen, or numbers that are added; broadcast to
            (..., h, N, N), or repeated if it is of the windows of one image, (windows, N, N) or (windows, 1, N, N).
            The masks of shifted windows are known again, and kernels follow them exactly; any other is taken as a bias.
        scale: of the products; None: 1/√d.
        kernel: makes the outputs; None: `Softmax`, exact attention.

    Returns:
        (..., h, N, d), dtype of `value`.

    Raises:
        ValueError: if shapes do not fit each other, or the kernel does not fit the window.

    Examples:
        >>> import torch
        >>> from nystra import LandmarkPooling, attend
        >>> query, key, value = torch.rand(3, 5, 2, 64, 16)
        >>> exact = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        >>> torch.allclose(attend(query, key, value), exact, atol=1e-5)
        True
        >>> attend(query, key, value, window=(4, 16), kernel=LandmarkPooling(4, 16)).shape
        torch.Size([5, 2, 64, 16])
        >>> attend(query, key, value, window=(7, 9), extra=(1, 0), kernel=LandmarkPooling(4, 16)).shape
        torch.Size([5, 2, 64, 16])
    """
    kernel = Softmax() if kernel is None else kernel
    if query.dim() < 3 or query.shape[:-2] != key.shape[:-2] or key.shape[:-1] != value.shape[:-1]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (query, key, value))
        raise ValueError(
            f"query, key and value must be (..., heads, tokens, channels) of the same windows, got {shapes}"
        )
    tokens, channels = query.shape[-2:]
    inside = tokens - sum(extra)
    if min(extra) < 0 or inside < 1:
        raise ValueError(f"extra {extra} must be numbers of tokens that leave some of the {tokens} to a map")
    window = window or square(inside) or (1, inside)
    layout = Layout(window, *extra)
    if layout.tokens != tokens:
        raise ValueError(f"window ({layout}) must hold the {tokens} tokens of a query")
    product = Product(query * (channels**-0.5 if scale is None else scale), key, _Caller(), query.dim() - 3)
    heads, keys = query.shape[-3], key.shape[-2]
    table: TableBias | None = None
    if bias is not None and bias.dim() == 2 and keys == tokens and not any(extra):
        if bias.shape != ((2 * window[0] - 1) * (2 * window[1] - 1), heads):
            raise ValueError(
                f"bias {tuple(bias.shape)} must be ((2h - 1)·(2w - 1), heads) of a {window[0]}×{window[1]} window and "
                f"{heads} heads, or (heads, N, N)"
            )
        table = TableBias(bias, window)
    elif bias is not None:
        if bias.dim() != 3 or bias.shape[0] not in (1, heads) or bias.shape[1:] != (tokens, keys):
            raise ValueError(f"bias {tuple(bias.shape)} must be ({heads}, {tokens}, {keys}), or a table of offsets")
        product.terms.append((product.lead, bias))
    if mask is not None:
        product.terms.append(_term(mask, product))
    if keys != tokens or value.shape[-1] != channels:
        if not isinstance(kernel, Softmax):
            raise ValueError(
                f"kernel ({kernel}) needs as many keys as queries and as many channels of values, got {tokens} queries "
                f"of {channels} channels, {keys} keys, {value.shape[-1]} channels of values: attend exactly"
            )
        return fused(product, value)
    kernel.cost(window, channels)
    if any(extra):
        kernel.require_masses()
    recovered = _RECOVERIES.of(product, layout)
    most = 0.0 if table is None else float(table.table.detach().max() - table.table.detach().min())
    obstacle = recovered.obstacle(product, most)
    if obstacle is not None:
        if isinstance(kernel, Softmax):
            if table is not None:
                places = WindowKind(window, (None, None), table, query.device)
                product.terms.append((product.lead, places.all_logits()))
            return fused(product, value)
        raise ValueError(f"mask must be of few kinds of windows for {kernel}, got {obstacle}")
    geometries = recovered.geometries(product)
    if table is not None:
        geometries = [(members, _with_table(geometry, table)) for members, geometry in geometries]
    return attend_windows(kernel, recovered.arrangement, geometries, product, value)


def _with_table(geometry: WindowGeometry, table: TableBias) -> WindowGeometry:
    """The same windows with a table of biases added to their bias."""
    tables = _TABLES.setdefault(table.table, {})
    if geometry.bias is None:
        return WindowGeometry(geometry.window, geometry.grid, geometry.shift, table, tables)
    (*_, kind) = next(geometry.kinds(table.table.device))
    places = kind.positions()
    dense = geometry.bias.between(places, places) + table.between(places, places)
    return WindowGeometry(geometry.window, geometry.grid, geometry.shift, DenseBias(dense, geometry.window))


def _term(mask: Tensor, product: Product) -> tuple[tuple[int, ...], Tensor]:
    """A mask as a term of a product, with the leading sides of the view to which it is added.

    Raises:
        ValueError: if it fits none.
    """
    lead, sides = product.lead, product.sides
    if mask.dtype == torch.bool:
        mask = hiding(~mask, product.query.dtype)
    whole = (*lead, *sides)
    if mask.dim() == 3 and len(lead) == 2 and len(mask) > 1:
        if len(mask) == lead[1]:
            raise ValueError(
                f"mask {tuple(mask.shape)} may be of {lead[1]} heads or of {lead[1]} windows: give (1, heads, N, N) or "
                "(windows, 1, N, N)"
            )
        mask = mask.unsqueeze(1)
    if mask.dim() == 4 and len(lead) == 2 and lead[0] % len(mask) == 0 and 1 < len(mask) < lead[0]:
        # Of the windows of one image, as Swin's networks keep it.
        return (lead[0] // len(mask), len(mask), lead[1]), mask
    try:
        fits = torch.broadcast_shapes(mask.shape, whole) == whole
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"mask {tuple(mask.shape)} must be broadcast to {whole}, or be of the windows of an image, "
            f"(windows, {sides[0]}, {sides[1]})"
        )
    return lead, mask
