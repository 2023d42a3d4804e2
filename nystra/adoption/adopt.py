"""Adoption: attentions of networks that this package has never seen become sites."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nystra.adoption.interception import Interception
from nystra.adoption.noted import Product
from nystra.adoption.recovery import Recovered, Window
from nystra.adoption.site import AdoptedSite, call, kept_window, told_window
from nystra.sites.site import ADOPTED, WindowAttention

# Largest difference of recovered attention from the host's, of the largest output, in float32.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class AdoptedRow:
    """What adoption found in one module.

    Attributes:
        name: of the module.
        module: name of its class.
        window: h and w of the first product that kernels take, in tokens; None: kernels take none.
        heads: number of heads.
        channels: of a head.
        bias: "table" of offsets, "dense" or "none".
        kinds: number of kinds of windows; all windows of rolled maps are one.
        reason: why kernels take no product, or not all of them; empty if they take all.
    """

    name: str
    module: str
    window: Window | None
    heads: int
    channels: int
    bias: str
    kinds: int
    reason: str

    @property
    def taken(self) -> bool:
        """Whether the module became a site."""
        return self.window is not None


@dataclasses.dataclass(frozen=True)
class AdoptionReport:
    """What adoption found in a net; prints as a table.

    Attributes:
        rows: one for each module that computes softmax attention, in the order of the first call.
    """

    rows: tuple[AdoptedRow, ...]

    @property
    def taken(self) -> tuple[AdoptedRow, ...]:
        """Modules that became sites."""
        return tuple(row for row in self.rows if row.taken)

    @property
    def left_alone(self) -> tuple[AdoptedRow, ...]:
        """Modules that compute attention as before."""
        return tuple(row for row in self.rows if not row.taken)

    def __str__(self) -> str:
        """Table with a row for each module."""
        if not self.rows:
            return "no softmax attention was found; nothing was changed"
        cells = [("module", "class", "window", "heads", "bias", "")]
        for row in self.rows:
            window = f"{row.window[0]}×{row.window[1]}" if row.window else "left alone"
            cells.append(
                (row.name or "(the net)", row.module, window, f"{row.heads}×{row.channels}", row.bias, row.reason)
            )
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        )


def adopt(
    net: nn.Module,
    sample: Any,
    *,
    windows: Mapping[str, tuple[int, int]] | None = None,
    exclude: str | Sequence[str] | None = None,
) -> AdoptionReport:
    """Make the softmax attentions of any net sites, which `substitute`, `plan` and the rest take as those of hosts.

    The net runs once on the sample. Each module that computes softmax(s·q kᵀ + terms) v, in whatever way torch
    offers, is found, and from then on a kernel makes its outputs: at first `Softmax`, exact attention by programs that
    never write the weights. Windows, position bias and shift masks are recovered from the terms and checked entry by
    entry; what cannot be recognised is computed as before and reported. Parameters, state-dict keys and the class' name
    stay. Other image sizes than the sample's are recovered at their first call.

    Args:
        net: any module; adopted in place. Modules that were adopted before are adopted anew.
        sample: an input of the net: a tensor, a tuple of arguments or a mapping of named ones. Typical in size:
            attention with no more tokens than channels is left alone, as channel attention looks the same.
        windows: h and w of the windows, in tokens, by name or glob pattern of modules, where nothing else tells.
        exclude: name or glob pattern, or several, of modules to be left alone.

    Returns:
        What was found, and what was left alone with the reason.

    Raises:
        ValueError: if a pattern of `windows` or `exclude` matches no module.

    Examples:
        >>> import torch
        >>> from nystra import LandmarkPooling, adopt, release, substitute
        >>> class SelfAttention(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.qkv = torch.nn.Linear(8, 24)
        ...     def forward(self, x):
        ...         q, k, v = self.qkv(x).chunk(3, -1)
        ...         return (q @ k.transpose(1, 2) * 8**-0.5).softmax(-1) @ v
        >>> net = SelfAttention()
        >>> x = torch.rand(2, 64, 8)
        >>> expected = net(x)
        >>> report = adopt(net, x)
        >>> report.rows[0].window, torch.allclose(net(x), expected, atol=1e-5)
        ((8, 8), True)
        >>> substitute(net, LandmarkPooling(4, 16)).sites[0].tokens
        64
        >>> release(net)
        >>> torch.equal(net(x), expected)
        True
    """
    names = [name for name, _ in net.named_modules()]
    excluded = [exclude] if isinstance(exclude, str) else list(exclude or ())
    given = dict(windows or {})
    for option, patterns in (("windows", given), ("exclude", excluded)):
        for pattern in patterns:
            if not fnmatch.filter(names, pattern):
                raise ValueError(f"{option} ({pattern}) must match a module of the net, got none of its {len(names)}")
    release(net)
    rows = []
    for name, found in _survey(net, sample, given).items():
        module = found[0].module
        reasons = [each.reason for each in found if each.reason]
        chosen = [each for each in found if not each.reason]
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in excluded):
            chosen, reasons = [], ["excluded"]
        example = (chosen or found)[0]
        if chosen:
            _attach(module, chosen, given_window(name, given))
        recovered = example.recovered
        rows.append(
            AdoptedRow(
                name,
                type(module).__name__,
                recovered.window if chosen and recovered else None,
                example.heads,
                example.channels,
                recovered.bias if recovered else "",
                len(recovered.groups) if recovered else 0,
                "; ".join(dict.fromkeys(reasons)),
            )
        )
    return AdoptionReport(tuple(rows))


def release(net: nn.Module) -> None:
    """Let adopted modules of a net compute their attention as they did before `adopt`.

    Args:
        net: any module.
    """
    for module in net.modules():
        if ADOPTED in vars(module):
            module.__class__ = type(module).__mro__[1]
            delattr(module, ADOPTED)


def given_window(name: str, windows: Mapping[str, Window]) -> Window | None:
    """The window that a user gave for a module."""
    return next((window for pattern, window in windows.items() if fnmatch.fnmatchcase(name, pattern)), None)


def _attach(module: nn.Module, found: list[_Found], given: Window | None) -> None:
    windows = [each.recovered.window for each in found if each.recovered]
    site = AdoptedSite(windows, found[0].heads, found[0].channels, given or found[0].kept)
    setattr(module, ADOPTED, site)
    module.__class__ = _adopted_class(type(module))


def _adopted_class(own: type[nn.Module]) -> type[nn.Module]:
    """The class of an adopted module: the host's own, whose attention its site makes."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return call(own, self, args, kwargs)

    def reduce(self: nn.Module, _: Any) -> Any:
        # The class is made as modules are adopted: files and copies know the host's own.
        return _rebuild, (own,), self.__getstate__()

    names = {"__module__": own.__module__, "__qualname__": own.__qualname__, "__doc__": own.__doc__}
    return type(own.__name__, (own,), {**names, "forward": forward, "__reduce_ex__": reduce})


def _rebuild(own: type[nn.Module]) -> nn.Module:
    cls = _adopted_class(own)
    return cls.__new__(cls)


@dataclasses.dataclass
class _Found:
    """A product that was met on the sample."""

    module: nn.Module
    heads: int
    channels: int
    recovered: Recovered | None
    reason: str
    kept: Window | None


class _Surveyor:
    """Computes attention as the host does, and finds out whether kernels could."""

    def __init__(self, given: Mapping[str, Window]) -> None:
        self.stack: list[tuple[str, nn.Module, tuple[Any, ...]]] = []
        self.found: dict[str, list[_Found]] = {}
        self.given = given

    def attend(self, product: Product, value: Tensor) -> Tensor:
        expected = product.copy().compute().softmax(-1).to(value.dtype) @ value
        if self.stack:
            name, module, arguments = self.stack[-1]
            self.found.setdefault(name, []).append(self._find(name, module, arguments, product, value, expected))
        return expected

    def unforeseen(self, reason: str) -> None:
        """Products that are computed are no attention, or none that is taken."""

    def _find(
        self,
        name: str,
        module: nn.Module,
        arguments: tuple[Any, ...],
        product: Product,
        value: Tensor,
        expected: Tensor,
    ) -> _Found:
        tokens, _ = product.sides
        channels = product.query.shape[-1]
        found = _Found(module, product.lead[-1] if len(product.lead) > 1 else 1, channels, None, "", None)
        if isinstance(module, WindowAttention):
            found.reason = "a site already"
            return found
        if tokens <= channels:
            found.reason = f"{tokens} tokens of {channels} channels: channel attention, or nothing to save"
            return found
        parents = [parent for _, parent, _ in self.stack[:-1]]
        found.kept = kept_window(module, parents, tokens)
        hint = given_window(name, self.given) or found.kept or told_window(arguments, tokens)
        site = AdoptedSite([(1, tokens)], 1, channels, None)
        recovered = found.recovered = site.recover(product, 0, hint)
        found.heads = max(1, math.prod(recovered.arrangement.heads))
        found.reason = recovered.reason or ""
        if not found.reason:
            attended = site.attend(product, value, 0, hint)
            difference = float((attended - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
            limit = max(TOLERANCE, 10 * torch.finfo(value.dtype).eps)
            if site.notes or not difference <= limit:
                found.reason = "; ".join(site.notes) or f"the recovered attention differs by {difference:.1e}"
        return found


def _survey(net: nn.Module, sample: Any, given: Mapping[str, Window]) -> dict[str, list[_Found]]:
    """Softmax attentions that a net computes on a sample, by the name of the innermost module."""
    surveyor = _Surveyor(given)
    with _stacked(net, surveyor.stack), torch.no_grad(), Interception(surveyor):
        if isinstance(sample, Mapping):
            net(**sample)
        else:
            net(*sample) if isinstance(sample, tuple) else net(sample)
    return surveyor.found


@contextlib.contextmanager
def _stacked(net: nn.Module, stack: list[tuple[str, nn.Module, tuple[Any, ...]]]) -> Iterator[None]:
    """Keep the modules of a net that are being called, with their arguments, on a stack."""
    names = {id(module): name for name, module in net.named_modules()}
    handles = []
    for module in net.modules():
        handles += [
            module.register_forward_pre_hook(
                lambda each, args, kwargs: stack.append((names[id(each)], each, (*args, *kwargs.values()))),
                with_kwargs=True,
            ),
            module.register_forward_hook(lambda *_: stack.pop() and None),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
