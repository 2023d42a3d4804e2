"""Substitution of a trained net's kernels: find the sites, validate all, exchange, report."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence

from torch import nn

from nystra.kernels.base import Kernel
from nystra.sites.site import Site, sites_of

Sites = str | Sequence[str] | Callable[[str, Site], bool] | None


@dataclasses.dataclass(frozen=True)
class SiteReport:
    """The exchange at one site: kernel and costs.

    Attributes:
        name: of the module.
        tokens: N, tokens of a window.
        heads: number of heads.
        kernel: the new kernel.
        macs_before: multiply-adds of attention per token with the former kernel, all heads.
        macs_after: the same with the new kernel.
        bytes_before: bytes of the largest intermediate result per window in float32, with the former kernel, all heads.
        bytes_after: the same with the new kernel.
    """

    name: str
    tokens: int
    heads: int
    kernel: Kernel
    macs_before: int
    macs_after: int
    bytes_before: int
    bytes_after: int


@dataclasses.dataclass(frozen=True)
class SubstitutionReport:
    """The exchange at all sites; prints as a table.

    Attributes:
        sites: one report for each exchanged site, in the order of the network.

    Examples:
        >>> from nystra import LandmarkPooling, SwinIR, substitute
        >>> net = SwinIR(img_size=32, embed_dim=8, depths=[1], num_heads=[2], window_size=16)
        >>> print(substitute(net, LandmarkPooling(4, 16, "own")))
        site  tokens  heads    MAC/token  KiB/window  kernel
        layers.0...attn  256  2  4096 → ...  LandmarkPooling(landmarks=4, cells=16, near='own')
    """

    sites: tuple[SiteReport, ...]

    def __str__(self) -> str:
        """Table with a row per site."""
        rows = [("site", "tokens", "heads", "MAC/token", "KiB/window", "kernel")]
        for site in self.sites:
            macs = f"{site.macs_before} → {site.macs_after}"
            size = f"{site.bytes_before / 1024:.0f} → {site.bytes_after / 1024:.0f}"
            rows.append((site.name, str(site.tokens), str(site.heads), macs, size, str(site.kernel)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if 0 < column < 5 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )


def find_sites(net: nn.Module, sites: Sites = None) -> dict[str, Site]:
    """Find the attentions of a net whose kernel can be exchanged, by name, in the net's order.

    Args:
        net: a host of `nystra.hosts`, or any net after `nystra.adopt`.
        sites: selection: a name or glob pattern, several, or a predicate of name and site; None: all.

    Returns:
        Name of the module → its site: the module itself if it is a `WindowAttention`, else what adoption keeps of it.

    Raises:
        ValueError: if the net has no window attention, or a pattern matches none.

    Examples:
        >>> from nystra import SwinIR, find_sites
        >>> net = SwinIR(img_size=8, embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=4)
        >>> len(find_sites(net))
        3
        >>> list(find_sites(net, "layers.1.*"))
        ['layers.1.residual_group.blocks.0.attn']
    """
    every = sites_of(net)
    if not every:
        raise ValueError(
            f"net ({type(net).__name__}) must have attention whose kernel can be exchanged, found none: adopt a "
            "network of another library first (nystra.adopt), or choose a SwinIR, Uformer, DehazeFormer or RVRT"
        )
    if sites is None:
        return every
    if callable(sites):
        chosen = {name: module for name, module in every.items() if sites(name, module)}
        if not chosen:
            raise ValueError(f"sites must choose at least one of the net's {len(every)} window attentions, chose none")
        return chosen
    patterns = [sites] if isinstance(sites, str) else list(sites)
    for pattern in patterns:
        if not fnmatch.filter(every, pattern):
            some = ", ".join(list(every)[:3])
            raise ValueError(f"sites ({pattern}) must match a window attention of the net, got none of {some}, …")
    return {
        name: module
        for name, module in every.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def substitute(net: nn.Module, kernel: Kernel | Mapping[str, Kernel], *, sites: Sites = None) -> SubstitutionReport:
    """Give window attentions of a net another kernel, in place; weights and state-dict keys stay.

    Either all sites that were chosen are exchanged, or an error is raised and none is.

    Args:
        net: host of `nystra.hosts`, or any net after `nystra.adopt`.
        kernel: for all sites, or by name or glob pattern (the first that matches counts; sites without one stay).
        sites: selection: name, glob, several, or a predicate of name and module; None: all.

    Returns:
        Cost of every site before and after.

    Raises:
        ValueError: if no site matches, or a kernel does not fit a site's window.
        TypeError: if a kernel is no `Kernel`.

    Examples:
        >>> import torch
        >>> from nystra import LandmarkPooling, Softmax, SwinIR, substitute
        >>> net = SwinIR(img_size=32, embed_dim=8, depths=[2], num_heads=[2], window_size=16).eval()
        >>> image = torch.rand(1, 3, 32, 32)
        >>> exact = net(image)
        >>> report = substitute(net, LandmarkPooling(4, 16))
        >>> [site.macs_after < site.macs_before for site in report.sites]
        [True, True]
        >>> report = substitute(net, Softmax())
        >>> torch.equal(net(image), exact)
        True
    """
    if isinstance(kernel, Mapping):
        for pattern in kernel:
            find_sites(net, pattern)
    planned: list[tuple[str, Site, Kernel]] = []
    for name, site in find_sites(net, sites).items():
        chosen = _choose(name, kernel)
        if chosen is None:
            continue
        if not isinstance(chosen, Kernel):
            raise TypeError(f"kernel must be a nystra.Kernel such as ContentPooling(), got {type(chosen).__name__}")
        try:
            chosen.cost(site.window_size, site.head_channels)
        except ValueError as error:
            raise ValueError(f"kernel ({chosen}) must fit every site, got at {name}: {error}") from None
        planned.append((name, site, chosen))
    if not planned:
        raise ValueError("sites and kernel must have at least one window attention in common, got none")
    reports = []
    for name, site, chosen in planned:
        tokens = math.prod(site.window_size)
        fitted = chosen.fitted(site.window_size)
        before, after = (_cost(site, each) for each in (site.kernel, chosen))
        reports.append(SiteReport(name, tokens, site.num_heads, fitted, before[0], after[0], before[1], after[1]))
        site.kernel = chosen
        site.forget_tables()
    return SubstitutionReport(tuple(reports))


def _choose(name: str, kernel: Kernel | Mapping[str, Kernel]) -> Kernel | None:
    if not isinstance(kernel, Mapping):
        return kernel
    return next((each for pattern, each in kernel.items() if fnmatch.fnmatchcase(name, pattern)), None)


def _cost(site: Site, kernel: Kernel) -> tuple[int, int]:
    cost = kernel.cost(site.window_size, site.head_channels)
    return round(site.num_heads * cost.macs), 4 * site.num_heads * cost.floats
