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
import torch.nn.functional as F
from torch import Tensor, nn

from nystra.adoption.interception import Interception
from nystra.adoption.noted import Weights
from nystra.adoption.product import Product
from nystra.adoption.recovery.layout import (
    Layout,
    Maps,
    Parts,
    Sequences,
    Window,
    given_layout,
    kept_window,
    square,
    told_window,
)
from nystra.adoption.recovery.recovered import Recovered
from nystra.adoption.site import AdoptedSite, fused
from nystra.sites.site import WindowAttention

# Functions of maps that hosts call where others have modules.
MAKE_MAPS = {
    *(torch.conv2d, torch.pixel_shuffle, torch.pixel_unshuffle, F.conv2d, F.pixel_shuffle, F.pixel_unshuffle),
    *(F.avg_pool2d, F.adaptive_avg_pool2d, F.max_pool2d, F.adaptive_max_pool2d, F.interpolate, F.pad),
}
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


class Source(NamedTuple):
    """A module whose inputs or outputs are maps.

    Attributes:
        module: any; None: a function's results are maps, which nothing tells once it is adopted.
        outputs: whether its outputs are.
        maps: their sides.
    """

    module: nn.Module | None
    outputs: bool
    maps: Maps

    def watch(self) -> None:
        """Note the maps of all calls from now on; however often this is asked for, they are noted once."""
        if self.module is None:
            return
        if self.outputs and self.maps.after not in self.module._forward_hooks.values():
            self.module.register_forward_hook(self.maps.after)
        if not self.outputs and self.maps.before not in self.module._forward_pre_hooks.values():
            self.module.register_forward_pre_hook(self.maps.before)


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
        exact: whether it is attended exactly, by a fused program, if kernels do not take it.
        parts: of which the network put the sequence of tokens together; None: unknown.
        given: the layout that the user or attributes tell.
        source: what tells the sides of the map.
    """

    module: nn.Module
    call: int
    tokens: int
    heads: int
    channels: int
    recovered: Recovered | None = None
    reason: str = ""
    exact: bool = False
    parts: Parts | None = None
    given: Layout | None = None
    source: Source | None = None


def survey_attention(net: nn.Module, sample: Any, given: Mapping[str, Window]) -> dict[str, list[Found]]:
    """Softmax attentions that a net computes on a sample, by the name of the innermost module.

    Args:
        net: any module; it runs as in eval mode, and stays in its mode.
        sample: a tensor, a tuple of arguments or a mapping of named ones.
        given: windows by name or pattern, see `nystra.adopt`.
    """
    surveyor = _Surveyor(given)
    with _evaluating(net), _stacked(net, surveyor), torch.no_grad(), _Watching(surveyor):
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
        self.attended: weakref.WeakKeyDictionary[Product, Found] = weakref.WeakKeyDictionary()
        self.sources: dict[tuple[nn.Module | None, bool], Source] = {}
        self.sequences = Sequences()

    def enter(self, call: Call) -> None:
        """Take note of a call of a module."""
        self.stack.append(call)
        self._source(call.module, outputs=False).maps.before(call.module, call.arguments)

    def leave(self, module: nn.Module, result: Any) -> None:
        """Take note of its end."""
        self.stack.pop()
        self._source(module, outputs=True).maps.after(module, (), result)

    def join(self, parts: list[Tensor], dim: int) -> None:
        """Take note that tensors were put together, if these may be sequences of tokens."""
        dims = {part.dim() for part in parts}
        dim = dim % max(dims)
        # (B, tokens, channels), or with an axis of heads before or behind the tokens.
        # Of maps, channels are put together.
        of_maps = dims == {4} and self._map_of(parts[0][0, 0].numel(), (len(parts[0]),)) is not None
        if (dims, dim) in (({3}, 1), ({4}, 1), ({4}, 2)) and not of_maps:
            counts, images = [part.shape[dim] for part in parts], len(parts[0])

            def may_be_map(count: int) -> bool:
                if self._map_of(count, (images,)) is not None:
                    return True
                return dims == {3} and square(count) is not None and self.sequences.of(count, (images,)) is None

            self.sequences.note(counts, images, list(map(may_be_map, counts)))

    def make(self, result: Any) -> None:
        """Take note of the result of a function that makes maps."""
        self._source(None, outputs=True).maps.after(None, (), result)

    def _source(self, module: nn.Module | None, *, outputs: bool) -> Source:
        return self.sources.setdefault((module, outputs), Source(module, outputs, Maps()))

    def _map_of(self, tokens: int, lead: tuple[int, ...]) -> tuple[Source, Window] | None:
        """What tells the sides of a map of a number of tokens: the squarest, as other axes may look like a map's.

        Of equals, it is a module: its later maps will tell, too.
        """
        told = [(source, source.maps.of(tokens, lead)) for source in self.sources.values()]
        found = [(source, sides) for source, sides in told if sides is not None]
        return min(found, key=lambda each: (max(each[1]) / min(each[1]), each[0].module is None), default=None)

    def attend(self, product: Product, value: Tensor) -> Tensor:
        expected = product.copy().compute().softmax(-1).to(value.dtype) @ value
        around = self._around(product)
        found = self.attended[product] = self._begin(product, around)
        self._examine(found, around, product, value, expected)
        return expected

    def unforeseen(self, noted: Tensor, reason: str) -> None:
        # Other products than those of attention are computed as well.
        if isinstance(noted, Weights):
            found = self.attended.get(noted.product)
            if found is None:
                self._begin(noted.product, self._around(noted.product)).reason = reason
            elif found.exact:
                found.exact = False
                found.reason += ", and the weights are used otherwise, too"

    def is_recomputed(self) -> bool:
        return False

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
        if product.sides[0] != product.sides[1]:
            found.reason = f"{product.sides[1]} keys for {product.sides[0]} queries"
            found.exact = _difference(fused(product, value), expected) <= _limit(value)
            return
        layout = self._layout(found, name, [each.module for each in around], arguments, product.lead)
        site = AdoptedSite(layout or Layout((1, found.tokens)), 1, found.channels, layout)
        recovered = found.recovered = site.recover(product, 0, layout)
        found.heads = max(1, math.prod(recovered.arrangement.heads))
        found.reason = recovered.reason or ""
        if not found.reason:
            attended = site.attend(product, value, 0, None)
            difference = _difference(attended, expected)
            if site.notes or not difference <= _limit(value):
                found.reason = "; ".join(site.notes) or f"the recovered attention differs by {difference:.1e}"

    def _layout(
        self,
        found: Found,
        name: str,
        modules: list[nn.Module],
        arguments: tuple[Any, ...],
        lead: tuple[int, ...],
    ) -> Layout | None:
        """The layout of a product's tokens that anything but a bias tells; None: nothing does."""
        tokens = found.tokens
        parts = found.parts = self.sequences.of(tokens, lead)
        given = given_window(name, self.given)
        found.given = given and given_layout(given, tokens, parts)
        if found.given is None and (kept := kept_window(modules[-1], modules[:-1], tokens)):
            found.given = Layout(kept)
        if found.given is not None:
            return found.given
        tokens, extra = (tokens, (0, 0)) if parts is None else (parts.inside, (parts.before, parts.after))
        told_map = self._map_of(tokens, lead)
        if told_map is not None:
            found.source = told_map[0]
        sides = told_window(arguments, tokens) or (square(tokens) if told_map is None else told_map[1])
        return None if sides is None else Layout(sides, *extra)


def _difference(attended: Tensor, expected: Tensor) -> float:
    """Largest difference of attention from the host's, of the largest output."""
    return float((attended - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def _limit(value: Tensor) -> float:
    return max(TOLERANCE, 10 * torch.finfo(value.dtype).eps)


class _Watching(Interception):
    """Tells the surveyor which tensors are put together, too."""

    owner: _Surveyor

    def _intercept(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        result = super()._intercept(func, types, args, kwargs)
        if func in MAKE_MAPS:
            self.owner.make(result)
        if func in (torch.cat, torch.concat, torch.concatenate):
            parts, dim = _joined(*args, **kwargs)
            self.owner.join(list(parts), dim)
        return result


def _joined(tensors: Any, dim: int = 0, axis: int | None = None, **_: Any) -> tuple[Any, int]:
    """Tensors that are put together, and along which axis."""
    return tensors, dim if axis is None else axis


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
def _stacked(net: nn.Module, surveyor: _Surveyor) -> Iterator[None]:
    """Let a surveyor follow the calls of a net's modules."""
    names = {id(module): name for name, module in net.named_modules()}
    handles = []
    for module in net.modules():
        handles += [
            module.register_forward_pre_hook(
                lambda each, args, kwargs: surveyor.enter(Call(names[id(each)], each, (*args, *kwargs.values()))),
                with_kwargs=True,
            ),
            module.register_forward_hook(lambda each, _, result: surveyor.leave(each, result), always_call=True),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
