"""Adopted sites: what is kept beside a module whose attention a kernel makes from then on."""

from __future__ import annotations

import contextlib
import math
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import checkpoint
from torch.utils._pytree import tree_leaves, tree_map

from nystra.adoption.interception import Interception, unseen
from nystra.adoption.noted import Logits, Weights
from nystra.adoption.product import Product
from nystra.adoption.recovery.layout import Layout, Maps, Window, square, told_window
from nystra.adoption.recovery.recovered import Recovered, Recoveries
from nystra.adoption.recovery.terms import Arrangement
from nystra.kernels.base import Kernel
from nystra.kernels.softmax import Softmax
from nystra.sites.site import ADOPTED
from nystra.windows.geometry import WindowGeometry


class ExactSite:
    """An attention of another library's module, always exact: its keys are of other tokens than its queries.

    Attributes:
        extra: numbers of tokens before and behind those of a map.
        products: number of products in a call of the module that are attended here.
        notes: why products were computed as the host does, each once.
        bypassed: whether the module computes its attention as it did before it was adopted, see `as_host`.
    """

    def __init__(self) -> None:
        self.extra = (0, 0)
        self.products = 1
        self.notes: list[str] = []
        self.bypassed = False

    def attend(self, product: Product, value: Tensor, turn: int, hint: Window | None) -> Tensor:
        """Make the outputs of the site's product of a number in a call: values (*lead, M, d) → (*lead, N, d).

        Args:
            product: of queries and keys.
            value: (*lead, M, d).
            turn: number of the product in the call of the module.
            hint: h and w of the map that the call's arguments tell, used where neither the user nor a bias tells.
        """
        return fused(product, value)

    def note(self, reason: str) -> None:
        """Note that a product is computed as the host does."""
        if reason not in self.notes:
            self.notes.append(reason)


class AdoptedSite(ExactSite):
    """An attention of another library's module: its kernel, and what was recovered of its products.

    Attributes:
        kernel: makes outputs of queries, keys and values.
        window_size: h and w of the windows of its first product, in tokens.
        num_heads: h.
        maps: what tells the sides of whole maps; None: nothing does.
    """

    def __init__(
        self,
        layout: Layout,
        num_heads: int,
        head_channels: int,
        given: Layout | None = None,
        maps: Maps | None = None,
    ) -> None:
        super().__init__()
        self.kernel: Kernel = Softmax()
        self.window_size: tuple[int, ...] = layout.window
        self.extra = layout.extra
        self.maps = maps
        self.num_heads = num_heads
        self._head_channels = head_channels
        self._given = given
        self._recoveries: dict[int, Recoveries] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of copies and files what calls recover again."""
        return {**vars(self), "_recoveries": {}}

    @property
    def head_channels(self) -> int:
        """Channels d of a head."""
        return self._head_channels

    def forget_tables(self) -> None:
        """Free what was recovered and the tables that kernels kept; the next calls make anew what they need."""
        self._recoveries.clear()

    def attend(self, product: Product, value: Tensor, turn: int, hint: Window | None) -> Tensor:
        """See base class; by the kernel where it can."""
        if product.sides[0] != product.sides[1]:
            self.note(f"{product.sides[1]} keys for {product.sides[0]} queries")
            return fused(product, value)
        layout = self.layout(product, hint)
        if layout is None and any(self.extra):
            before, after = self.extra
            self.note(f"nothing tells the sides of a map of {product.sides[0] - before - after} tokens beside others")
            return fused(product, value)
        recovered = self.recover(product, turn, layout)
        obstacle = recovered.obstacle(product)
        if obstacle is not None:
            self.note(obstacle)
            return product.compute().softmax(-1) @ value
        channels = product.query.shape[-1]
        try:
            self.kernel.cost(recovered.window, channels)
            if any(recovered.extra):
                self.kernel.require_masses()
        except ValueError as error:
            self.note(str(error))
            return fused(product, value)
        if value.shape[-1] != channels:
            self.note(f"values of {value.shape[-1]} channels for queries of {channels}")
            return fused(product, value)
        return attend_windows(self.kernel, recovered.arrangement, recovered.geometries(product), product, value)

    def layout(self, product: Product, hint: Window | None) -> Layout | None:
        """The layout of a product's tokens that anything but a bias tells; None: nothing does."""
        tokens = product.sides[0]
        if self._given is not None and self._given.tokens == tokens:
            return self._given
        inside = tokens - sum(self.extra)
        sides = None if self.maps is None else self.maps.of(inside, product.lead)
        sides = sides or hint or (square(inside) if inside > 0 else None)
        return None if sides is None else Layout(sides, *self.extra)

    def recover(self, product: Product, turn: int, layout: Layout | None) -> Recovered:
        """Recover the geometry of the product of a number in a call, see `attend`, from its layout, if that is told."""
        return self._recoveries.setdefault(turn, Recoveries()).of(product, layout)

    def note(self, reason: str) -> None:
        """Note, and warn once, that a product is computed as the host does."""
        if reason not in self.notes and not isinstance(self.kernel, Softmax):
            warnings.warn(f"attention is computed as the network does: {reason}", stacklevel=2)
        super().note(reason)


def attend_windows(
    kernel: Kernel,
    arrangement: Arrangement,
    geometries: list[tuple[Tensor | None, WindowGeometry]],
    product: Product,
    value: Tensor,
) -> Tensor:
    """Attend by a kernel within the windows of a product: values (*lead, N, d) → the same shape."""
    query, key, values = (arrangement.apart(tensor) for tensor in (product.query, product.key, value))
    if len(geometries) == 1:
        return arrangement.together(kernel(query, key, values, geometries[0][1]))
    attended = torch.empty_like(values)
    for members, geometry in geometries:
        attended[members] = kernel(query[members], key[members], values[members], geometry)
    return arrangement.together(attended)


def fused(product: Product, value: Tensor) -> Tensor:
    """Attend exactly by torch's fused program: values (*lead, M, d) → (*lead, N, d)."""
    lead = product.lead
    # Torch has its program for two leading axes.
    sides = (math.prod(lead[:-1]), lead[-1]) if len(lead) > 1 else (lead[0], 1)
    query, key, value = (tokens.reshape(*sides, *tokens.shape[-2:]) for tokens in (product.query, product.key, value))
    mask: Tensor | None = None
    for at, term in product.terms:
        laid_out = _laid_out(term, at, sides).to(query.dtype)
        mask = laid_out if mask is None else mask + laid_out
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
    return attended.reshape(*lead, *attended.shape[-2:])


def _laid_out(term: Tensor, at: tuple[int, ...], sides: tuple[int, int]) -> Tensor:
    """A term that was added to a view with some leading sides, as one of windows and heads: (W or 1, h or 1, N, M)."""
    windows, heads = sides
    own = (1,) * (len(at) + 2 - term.dim()) + tuple(term.shape)
    term = term.reshape(own)
    if all(side == 1 for side in own[:-2]):
        return term.reshape(1, 1, *own[-2:])
    if heads > 1 and at[-1] == heads:
        if all(side == 1 for side in own[:-3]):
            return term.reshape(1, own[-3], *own[-2:])
        return term.expand(*at[:-1], *own[-3:]).reshape(windows, own[-3], *own[-2:])
    return term.expand(*at, *own[-2:]).reshape(windows, heads, *own[-2:])


class _Call:
    """The products of one call of a module; several threads may call it at once."""

    def __init__(self, site: ExactSite, arguments: tuple[Any, ...]) -> None:
        self.site = site
        self.arguments = arguments
        self.turn = 0
        self.differentiated = torch.is_grad_enabled()
        self.of_weights: list[str] = []
        self.of_products: list[str] = []

    def attend(self, product: Product, value: Tensor) -> Tensor:
        turn, self.turn = self.turn, self.turn + 1
        return self.site.attend(
            product, value, turn, told_window(self.arguments, product.sides[0] - sum(self.site.extra))
        )

    def unforeseen(self, noted: Tensor, reason: str) -> None:
        (self.of_weights if isinstance(noted, Weights) else self.of_products).append(reason)

    def is_recomputed(self) -> bool:
        if not self.differentiated or not _within_checkpoint():
            return False
        self.of_weights.append("attention is computed again in the backward pass (torch.utils.checkpoint)")
        return True

    def place(self) -> None:
        pass

    def end(self) -> None:
        """Note why less attention than on the sample was made by the kernel."""
        if self.turn < self.site.products:
            # Modules may compute other products than those of attention.
            for reason in self.of_weights or self.of_products[:1] or ["attention was not met as on the sample"]:
                self.site.note(reason)


def _forward(own: type[nn.Module], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return own.forward(module, *args, **kwargs)


def _within_checkpoint() -> bool:
    """Whether a part of the adopted module's forward is going on that recomputes what it computes now."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code is not _forward.__code__:
        if frame.f_code.co_filename == checkpoint.__file__:
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def as_host(net: nn.Module) -> Iterator[None]:
    """Let adopted modules of a net compute attention as they did before, within the context."""
    sites = [site for site in (vars(module).get(ADOPTED) for module in net.modules()) if site is not None]
    before = [site.bypassed for site in sites]
    for site in sites:
        site.bypassed = True
    try:
        yield
    finally:
        for site, was in zip(sites, before, strict=True):
            site.bypassed = was


def require_softmax(site: ExactSite | None) -> None:
    """Refuse to export what is not the host's own arithmetic.

    Raises:
        RuntimeError: if another kernel than exact attention is at work.
    """
    if isinstance(site, AdoptedSite) and not isinstance(site.kernel, Softmax):
        raise RuntimeError(
            f"an adopted network must attend exactly to be exported or traced, got {site.kernel}: give it "
            "nystra.Softmax() by nystra.substitute, or release it (nystra.release)"
        )


@torch.compiler.disable
def call(own: type[nn.Module], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module's own forward with its attention made by its site."""
    site: ExactSite | None = vars(module).get(ADOPTED)
    if site is None or site.bypassed:
        with unseen():
            return own.forward(module, *args, **kwargs)
    made = _Call(site, (*args, *kwargs.values()))
    with Interception(made):
        result = _forward(own, module, args, kwargs)
    made.end()
    # What is no softmax would else be computed where nobody sees what is written meanwhile.
    if any(isinstance(each, Logits) for each in tree_leaves(result)):
        result = tree_map(lambda each: each.materialise() if isinstance(each, Logits) else each, result)
    return result
