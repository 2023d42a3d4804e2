"""Adoption: attentions of networks that this package has never seen become sites."""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nystra.adoption.recovery.layout import Layout, Maps, Window, given_layout
from nystra.adoption.site import AdoptedSite, ExactSite, call, require_softmax
from nystra.adoption.survey import Found, survey_attention
from nystra.sites.site import ADOPTED

# Attribute of an adopted module's class that holds the host's own class.
OWN_CLASS = "_nystra_own_class"


@dataclasses.dataclass(frozen=True)
class AdoptedRow:
    """What adoption found in one module.

    Attributes:
        name: of the module.
        module: name of its class.
        window: h and w of the first product that kernels take, in tokens; None: kernels take none.
        extra: numbers of tokens before and behind those of a window: class tokens, registers, text.
        heads: number of heads.
        channels: of a head.
        bias: "table" of offsets, "dense" or "none".
        kinds: number of kinds of windows; all windows of rolled maps are one.
        reason: why kernels take no product, or not all of them; empty if they take all.
        exact: whether some that kernels do not take are attended exactly by fused programs.
    """

    name: str
    module: str
    window: Window | None
    extra: tuple[int, int]
    heads: int
    channels: int
    bias: str
    kinds: int
    reason: str
    exact: bool

    @property
    def taken(self) -> bool:
        """Whether the module became a site, whose kernel can be exchanged."""
        return self.window is not None


@dataclasses.dataclass(frozen=True)
class AdoptionReport:
    """What adoption found in a net; prints as a table.

    Attributes:
        rows: one for each module that computes softmax attention, in the order of the first call.

    Examples:
        >>> import torch
        >>> from nystra import adopt
        >>> report = adopt(torch.nn.MultiheadAttention(8, 2, batch_first=True), tuple(torch.rand(3, 1, 64, 8)))
        >>> len(report.taken), len(report.left_alone), report.rows[0].heads
        (1, 0, 2)
    """

    rows: tuple[AdoptedRow, ...]

    @property
    def taken(self) -> tuple[AdoptedRow, ...]:
        """Modules that became sites."""
        return tuple(row for row in self.rows if row.taken)

    @property
    def exact(self) -> tuple[AdoptedRow, ...]:
        """Modules whose attention is made by fused programs, but by no kernel."""
        return tuple(row for row in self.rows if row.exact and not row.taken)

    @property
    def left_alone(self) -> tuple[AdoptedRow, ...]:
        """Modules that compute attention as before."""
        return tuple(row for row in self.rows if not row.taken and not row.exact)

    def __str__(self) -> str:
        """Table with a row for each module."""
        if not self.rows:
            return "no softmax attention was found; nothing was changed"
        cells = [("module", "class", "window", "heads", "bias", "")]
        for row in self.rows:
            window = str(Layout(row.window, *row.extra)) if row.window else "exact" if row.exact else "left alone"
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
    entry; what cannot be recognised is computed as before and reported. Where keys are of other tokens than queries,
    attention is always exact, by torch's fused program. Parameters, state-dict keys and the class' name stay. Other
    image sizes than the sample's are recovered at their first call.

    Args:
        net: any module; adopted in place. Modules that were adopted before are adopted anew.
        sample: an input of the net: a tensor, a tuple of arguments or a mapping of named ones. Typical in size:
            attention with no more tokens than channels is left alone, as channel attention looks the same.
        windows: h and w of the windows, in tokens, by name or glob pattern of modules with all in them, where nothing
            else tells. Tokens beyond them, up to a quarter, are taken for class tokens and the like.
        exclude: name or glob pattern, or several, of modules to be left alone, with all in them.

    Returns:
        What was found, and what was left alone with the reason.

    Raises:
        ValueError: if a pattern of `windows` or `exclude` matches no module, or windows do not fit the attention there.

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
    for window in given.values():
        if len(window) != 2 or not all(isinstance(side, int) and side > 0 for side in window):
            raise ValueError(f"windows ({window}) must be height and width in tokens, at least 1 each")
    release(net)
    survey = survey_attention(net, sample, given)
    for pattern, window in given.items():
        met = [each for name, found in survey.items() if _within(name, [pattern]) for each in found]
        if not any(given_layout(window, each.tokens, each.parts) for each in met):
            tokens = sorted({each.tokens for each in met})
            raise ValueError(
                f"windows ({pattern}: {window[0]}×{window[1]}) must hold the tokens of an attention there, got "
                f"attentions of {', '.join(map(str, tokens)) or 'no'} tokens"
            )
    rows, taken = [], []
    for name, found in survey.items():
        module = found[0].module
        reasons = [each.reason for each in found if each.reason]
        chosen = [each for each in found if not each.reason]
        exact = [each for each in found if each.exact]
        if _within(name, excluded):
            chosen, exact, reasons = [], [], ["excluded"]
        example = (chosen or exact or found)[0]
        if chosen or exact:
            _attach(module, chosen, exact)
            taken.append(name)
        recovered = example.recovered
        rows.append(
            AdoptedRow(
                name,
                type(module).__name__,
                recovered.window if chosen and recovered else None,
                recovered.extra if chosen and recovered else (0, 0),
                example.heads,
                example.channels,
                recovered.bias if recovered else "",
                len(recovered.groups) if recovered else 0,
                "; ".join(dict.fromkeys(reasons)),
                bool(exact),
            )
        )
    for name, found in survey.items():
        if name not in taken and any(each == "" or name.startswith(f"{each}.") for each in taken):
            # Or the module around it would take its attention, too.
            _swap_class(found[0].module, None)
    return AdoptionReport(tuple(rows))


def release(net: nn.Module) -> None:
    """Let adopted modules of a net compute their attention as they did before `adopt`.

    Args:
        net: any module.

    Examples:
        >>> import torch
        >>> from nystra import adopt, release
        >>> net = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        >>> tokens = torch.rand(1, 64, 8)
        >>> expected = net(tokens, tokens, tokens)[0]
        >>> report = adopt(net, (tokens, tokens, tokens))
        >>> release(net)
        >>> torch.equal(net(tokens, tokens, tokens)[0], expected)
        True
    """
    for module in net.modules():
        # The class may have been exchanged since, for one that parametrises weights: then its forward finds no site.
        module.__class__ = vars(type(module)).get(OWN_CLASS, type(module))
        if ADOPTED in vars(module):
            delattr(module, ADOPTED)
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for number, hook in list(hooks.items()):
                if isinstance(getattr(hook, "__self__", None), Maps):
                    del hooks[number]


def _within(name: str, patterns: Iterable[str]) -> bool:
    """Whether a module or one around it has a name that fits a pattern."""
    parts = name.split(".")
    around = [".".join(parts[: count + 1]) for count in range(len(parts))]
    return any(fnmatch.fnmatchcase(each, pattern) for each in around for pattern in patterns)


def _attach(module: nn.Module, found: list[Found], exact: list[Found]) -> None:
    """Make a module a site for kernels, of products that these take, or an exact one."""
    site: ExactSite = _site_of(found) if found else ExactSite()
    site.products = max(collections.Counter(each.call for each in (*found, *exact)).values())
    _swap_class(module, site)


def _site_of(found: list[Found]) -> AdoptedSite:
    layout = next(each.recovered.layout for each in found if each.recovered)
    source = next((each.source for each in found if each.source), None)
    maps = None if source is None else source.maps
    if source is not None:
        source.watch()
    return AdoptedSite(layout, found[0].heads, found[0].channels, found[0].given, maps)


def _swap_class(module: nn.Module, site: ExactSite | None) -> None:
    setattr(module, ADOPTED, site)
    module.__class__ = _adopted_class(type(module))


def _adopted_class(own: type[nn.Module]) -> type[nn.Module]:
    """The class of an adopted module: the host's own, whose attention its site makes."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # A program that is written down elsewhere has the host's own operations.
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            require_softmax(getattr(self, ADOPTED))
            return own.forward(self, *args, **kwargs)
        return call(own, self, args, kwargs)

    def reduce(self: nn.Module, _: Any) -> Any:
        # The class is made as modules are adopted: files and copies know the host's own.
        return _rebuild, (own,), self.__getstate__()

    names = {"__module__": own.__module__, "__qualname__": own.__qualname__, "__doc__": own.__doc__, OWN_CLASS: own}
    return type(own.__name__, (own,), {**names, "forward": forward, "__reduce_ex__": reduce})


def _rebuild(own: type[nn.Module]) -> nn.Module:
    cls = _adopted_class(own)
    return cls.__new__(cls)
