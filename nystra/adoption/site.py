"""Adopted sites: what is kept beside a module whose attention a kernel makes from then on."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from nystra.adoption.interception import Interception, unseen
from nystra.adoption.noted import Logits, Weights
from nystra.adoption.product import Product
from nystra.adoption.recovery.layout import Layout, Maps, Window, square, told_window
from nystra.adoption.recovery.recovered import Recovered, Recoveries
from nystra.adoption.recovery.terms import Arrangement
from nystra.kernels.base import Kernel
from nystra.kernels.softmax import Softmax
from nystra.sites.site import ADOPTED, sites_of
from nystra.windows.geometry import WindowGeometry


class AdoptedSite:
    """An attention of another library's module: its kernel, and what was recovered of its products.

    Attributes:
        kernel: makes outputs of queries, keys and values.
        window_size: h and w of the windows of its first product, in tokens.
        num_heads: h.
        extra: numbers of tokens before and behind those of a window.
        maps: what tells the sides of whole maps; None: nothing does.
        products: number of products in a call of the module that kernels take.
        notes: why products were computed as the host does, each once.
        bypassed: whether the module computes its attention as it did before it was adopted, see `as_host`.
    """

    def __init__(
        self,
        layout: Layout,
        num_heads: int,
        head_channels: int,
        given: Layout | None = None,
        maps: Maps | None = None,
    ) -> None:
        self.kernel: Kernel = Softmax()
        self.window_size, self.extra = layout.window, layout.extra
        self.maps = maps
        self.num_heads = num_heads
        self.products = 1
        self.notes: list[str] = []
        self.bypassed = False
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
        """Make the outputs of the site's product of a number in a call: values (*lead, M, d) → (*lead, N, d).

        Args:
            product: of queries and keys.
            value: (*lead, M, d).
            turn: number of the product in the call of the module.
            hint: h and w that the call's arguments tell, used where neither the user nor a bias tells.
        """
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
        for told in (self._given, None if hint is None else Layout(hint)):
            if told is not None and told.tokens == tokens:
                return told
        inside = tokens - sum(self.extra)
        sides = None if self.maps is None else self.maps.of(inside, product.lead)
        sides = sides or (square(inside) if inside > 0 else None)
        return None if sides is None else Layout(sides, *self.extra)

    def recover(self, product: Product, turn: int, layout: Layout | None) -> Recovered:
        """Recover the geometry of the product of a number in a call, see `attend`, from its layout, if that is told."""
        return self._recoveries.setdefault(turn, Recoveries()).of(product, layout)

    def note(self, reason: str) -> None:
        """Note, and warn once, that a product is computed as the host does."""
        if reason not in self.notes:
            self.notes.append(reason)
            if not isinstance(self.kernel, Softmax):
                warnings.warn(f"attention is computed as the network does: {reason}", stacklevel=2)


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
    """Attend exactly by torch's fused program where terms allow it: values (*lead, M, d) → (*lead, N, d)."""
    if any(at != product.lead for at, _ in product.terms):
        return product.compute().softmax(-1).to(value.dtype) @ value
    mask: Tensor | None = None
    for _, term in product.terms:
        mask = term if mask is None else mask + term
    if mask is not None:
        mask = mask.to(product.query.dtype)
    return F.scaled_dot_product_attention(product.query, product.key, value, attn_mask=mask, scale=1.0)


class _Call:
    """The products of one call of a module; several threads may call it at once."""

    def __init__(self, site: AdoptedSite, arguments: tuple[Any, ...]) -> None:
        self.site = site
        self.arguments = arguments
        self.turn = 0
        self.of_weights: list[str] = []
        self.of_products: list[str] = []

    def attend(self, product: Product, value: Tensor) -> Tensor:
        turn, self.turn = self.turn, self.turn + 1
        return self.site.attend(product, value, turn, told_window(self.arguments, product.sides[0]))

    def unforeseen(self, noted: Tensor, reason: str) -> None:
        (self.of_weights if isinstance(noted, Weights) else self.of_products).append(reason)

    def place(self) -> None:
        pass

    def end(self) -> None:
        """Note why less attention than on the sample was made by the kernel."""
        if self.turn < self.site.products:
            # Modules may compute other products than those of attention.
            for reason in self.of_weights or self.of_products[:1] or ["attention was not met as on the sample"]:
                self.site.note(reason)


@contextlib.contextmanager
def as_host(net: nn.Module) -> Iterator[None]:
    """Let adopted modules of a net compute attention as they did before, within the context."""
    sites = [site for site in sites_of(net).values() if isinstance(site, AdoptedSite)]
    before = [site.bypassed for site in sites]
    for site in sites:
        site.bypassed = True
    try:
        yield
    finally:
        for site, was in zip(sites, before, strict=True):
            site.bypassed = was


@torch.compiler.disable
def call(own: type[nn.Module], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module's own forward with its attention made by its site."""
    site: AdoptedSite | None = vars(module).get(ADOPTED)
    if site is None or site.bypassed:
        with unseen():
            return own.forward(module, *args, **kwargs)
    made = _Call(site, (*args, *kwargs.values()))
    with Interception(made):
        result = own.forward(module, *args, **kwargs)
    made.end()
    # What is no softmax would else be computed where nobody sees what is written meanwhile.
    if any(isinstance(each, Logits) for each in tree_leaves(result)):
        result = tree_map(lambda each: each.materialise() if isinstance(each, Logits) else each, result)
    return result
