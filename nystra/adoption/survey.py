"""What attention a network computes on a sample, in which of its modules, and whether kernels could make it."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import math
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nystra.adoption.interception import Interception
from nystra.adoption.noted import Weights
from nystra.adoption.product import Product
from nystra.adoption.recovery import Recovered, Window
from nystra.adoption.site import AdoptedSite, kept_window, told_window
from nystra.sites.site import WindowAttention

# Largest difference of recovered attention from the host's, of the largest output, in float32.
TOLERANCE = 1e-4


class Call(NamedTuple):
    """A call of a module, as it is going on.

    Attributes:
        name: of the module.
        module: that is called.
        arguments: of the call.
    """

    name: str
    module: nn.Module
    arguments: tuple[Any, ...]


@dataclasses.dataclass
class Found:
    """A product that was met on the sample.

    Attributes:
        module: the innermost that both makes the product and uses it.
        call: number of the module's call.
        tokens: number of queries.
        heads: number of heads.
        channels: of a head.
        recovered: of the product's terms, None if it is not taken for another reason.
        reason: why kernels do not take the product, empty if they do.
        kept: the window that attributes tell.
    """

    module: nn.Module
    call: int
    tokens: int
    heads: int
    channels: int
    recovered: Recovered | None = None
    reason: str = ""
    kept: Window | None = None


def survey_attention(net: nn.Module, sample: Any, given: Mapping[str, Window]) -> dict[str, list[Found]]:
    """Softmax attentions that a net computes on a sample, by the name of the innermost module.

    Args:
        net: any module; it runs as in eval mode, and stays in its mode.
        sample: a tensor, a tuple of arguments or a mapping of named ones.
        given: windows by name or pattern, see `nystra.adopt`.
    """
    surveyor = _Surveyor(given)
    with _evaluating(net), _stacked(net, surveyor.stack), torch.no_grad(), Interception(surveyor):
        if isinstance(sample, Mapping):
            net(**sample)
        else:
            net(*sample) if isinstance(sample, tuple) else net(sample)
    return surveyor.found


def given_window(name: str, windows: Mapping[str, Window]) -> Window | None:
    """The window that a user gave for a module, or for one around it."""
    parts = name.split(".")
    around = [".".join(parts[: count + 1]) for count in range(len(parts))]
    fitting = (
        window for pattern, window in windows.items() if any(fnmatch.fnmatchcase(each, pattern) for each in around)
    )
    return next(fitting, None)


class _Surveyor:
    """Computes attention as the host does, and finds out whether kernels could."""

    def __init__(self, given: Mapping[str, Window]) -> None:
        self.stack: list[Call] = []
        self.found: dict[str, list[Found]] = {}
        self.given = given
        self.attended: weakref.WeakSet[Product] = weakref.WeakSet()

    def attend(self, product: Product, value: Tensor) -> Tensor:
        expected = product.copy().compute().softmax(-1).to(value.dtype) @ value
        self.attended.add(product)
        around = self._around(product)
        found = self._begin(product, around)
        self._examine(found, around, product, value, expected)
        return expected

    def unforeseen(self, noted: Tensor, reason: str) -> None:
        # Other products than those of attention are computed as well.
        if isinstance(noted, Weights) and noted.product not in self.attended:
            self._begin(noted.product, self._around(noted.product)).reason = reason

    def place(self) -> list[Call]:
        return list(self.stack)

    def _around(self, product: Product) -> list[Call]:
        """Modules around both the product and its use, the innermost last."""
        pairs = zip(product.origin, self.stack, strict=False)
        return [now for before, now in pairs if before is now]

    def _begin(self, product: Product, around: list[Call]) -> Found:
        name, module, _ = around[-1]
        heads = product.lead[-1] if len(product.lead) > 1 else 1
        found = Found(module, id(around[-1]), product.sides[0], heads, product.query.shape[-1])
        self.found.setdefault(name, []).append(found)
        return found

    def _examine(self, found: Found, around: list[Call], product: Product, value: Tensor, expected: Tensor) -> None:
        name, module, arguments = around[-1]
        if isinstance(module, WindowAttention):
            found.reason = "a site already"
        elif "forward" in vars(module):
            found.reason = "its forward was exchanged already, by another library"
        elif found.tokens <= found.channels:
            found.reason = f"{found.tokens} tokens of {found.channels} channels: channel attention, or nothing to save"
        if found.reason:
            return
        found.kept = kept_window(module, [each.module for each in around[:-1]], found.tokens)
        hint = given_window(name, self.given) or found.kept or told_window(arguments, found.tokens)
        site = AdoptedSite((1, found.tokens), 1, found.channels, None)
        recovered = found.recovered = site.recover(product, 0, hint)
        found.heads = max(1, math.prod(recovered.arrangement.heads))
        found.reason = recovered.reason or ""
        if not found.reason:
            attended = site.attend(product, value, 0, hint)
            difference = float((attended - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
            limit = max(TOLERANCE, 10 * torch.finfo(value.dtype).eps)
            if site.notes or not difference <= limit:
                found.reason = "; ".join(site.notes) or f"the recovered attention differs by {difference:.1e}"


@contextlib.contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Let all modules behave as in eval mode, without the call that some do more at."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def _stacked(net: nn.Module, stack: list[Call]) -> Iterator[None]:
    """Keep the calls of a net's modules that are going on in a stack."""
    names = {id(module): name for name, module in net.named_modules()}
    handles = []
    for module in net.modules():
        handles += [
            module.register_forward_pre_hook(
                lambda each, args, kwargs: stack.append(Call(names[id(each)], each, (*args, *kwargs.values()))),
                with_kwargs=True,
            ),
            module.register_forward_hook(lambda *_: stack.pop() and None, always_call=True),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
