"""Sites: attentions whose kernel can be exchanged, and the base class of those whose window can be, too."""

from typing import Any, Literal, Protocol, get_args, runtime_checkable

from torch import nn

from nystra.kernels.base import Kernel
from nystra.kernels.softmax import Softmax
from nystra.windows.geometry import WindowGeometry
from nystra.windows.position_bias import PositionBias

BiasMode = Literal["keep", "interpolate", "drop"]
ADOPTED = "_nystra_site"
"""Attribute of an adopted module (`nystra.adopt`) that holds its site, beside the module's own attributes."""


@runtime_checkable
class Site(Protocol):
    """An attention whose kernel can be exchanged: a `WindowAttention`, or one that was adopted (`nystra.adopt`).

    Attributes:
        kernel: makes outputs of queries, keys and values.
        window_size: sides of the windows, h and w, in tokens; (t, h, w) where they reach over frames.
        num_heads: h.

    Examples:
        >>> from nystra import SwinIR, find_sites
        >>> from nystra.sites import Site
        >>> net = SwinIR(img_size=8, embed_dim=8, depths=[1], num_heads=[2], window_size=4)
        >>> all(isinstance(site, Site) for site in find_sites(net).values())
        True
    """

    kernel: Kernel
    window_size: tuple[int, ...]
    num_heads: int

    @property
    def head_channels(self) -> int:
        """Channels d of a head."""

    def forget_tables(self) -> None:
        """Free the tables that kernels kept of bias and masks; the next calls make anew what they need."""


def sites_of(net: nn.Module) -> dict[str, Site]:
    """Sites of a net by the name of their module, in the net's order; empty if it has none.

    Args:
        net: any module.

    Examples:
        >>> import torch
        >>> from nystra.sites import sites_of
        >>> sites_of(torch.nn.Linear(3, 3))
        {}
    """
    found: dict[str, Site] = {}
    for name, module in net.named_modules():
        site = module if isinstance(module, WindowAttention) else vars(module).get(ADOPTED)
        # Of other classes are those that are always exact.
        if isinstance(site, Site):
            found[name] = site
    return found


class WindowAttention(nn.Module):
    """Base of the hosts' window attentions: subclasses have projections and bias, and a kernel makes the outputs.

    A subclass owns its parameters under upstream's names, makes queries, keys and values of windows, and calls
    `kernel` with them and its `geometry`. Kernel, window and use of the bias are no part of the state dict.

    Args:
        window_size: sides of the windows, h and w, in tokens; (t, h, w) where they reach over frames.
        num_heads: h.

    Attributes:
        kernel: makes outputs of queries, keys and values.
        window_size: sides of the windows that are cut now.
        trained_window_size: sides of the windows that the weights were trained for.
        bias_mode: use of the position bias where the window is not the trained one: "keep" (the bias of every offset
            stays, offsets beyond the trained ones take the nearest one's), "interpolate" (the trained range of offsets
            is stretched to the window's), "drop" (neither bias nor mask, at any window: PnP-Nystra's "original", in
            which shifted windows mix the image's opposite edges).

    Examples:
        >>> from nystra import SwinIR, find_sites
        >>> net = SwinIR(img_size=8, embed_dim=8, depths=[1], num_heads=[2], window_size=4)
        >>> (site,) = find_sites(net).values()
        >>> site.kernel, site.window_size, site.head_channels
        (Softmax(), (4, 4), 4)
    """

    def __init__(self, window_size: tuple[int, ...], num_heads: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.trained_window_size = window_size
        self.num_heads = num_heads
        self.kernel: Kernel = Softmax()
        self.bias_mode: BiasMode = "keep"
        self._tables: dict[Any, Any] = {}
        self._frozen: dict[tuple[int | None, ...], Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the kept tables out of copies and files: calls make them again."""
        return {**super().__getstate__(), "_tables": {}, "_frozen": None}

    @property
    def head_channels(self) -> int:
        """Channels d of a head."""
        raise NotImplementedError

    def position_bias(self, window: tuple[int, ...] | None = None) -> PositionBias | None:
        """Make the position bias of the present parameters; None where a site has no bias.

        Args:
            window: sides of the windows that are cut, to which "interpolate" stretches the bias; None: `window_size`.
        """
        raise NotImplementedError

    def set_window(self, window_size: int, position_bias: BiasMode) -> None:
        """Cut windows of another size; those over frames keep their number of frames.

        Args:
            window_size: side of the windows, in tokens, >= 1.
            position_bias: use of the bias, see `bias_mode`.

        Raises:
            ValueError: if `window_size` is below 1 or `position_bias` is unknown.
        """
        if window_size < 1:
            raise ValueError(f"window_size ({window_size}) must be at least 1")
        if position_bias not in get_args(BiasMode):
            raise ValueError(f"position_bias ({position_bias}) must be one of {', '.join(get_args(BiasMode))}")
        self.window_size = (*self.window_size[:-2], window_size, window_size)
        self.bias_mode = position_bias
        self.forget_tables()

    def forget_tables(self) -> None:
        """Free the tables that kernels kept of bias and masks; the next calls make anew what they need."""
        self._tables.clear()
        self._frozen = None

    def freeze_tables(self) -> None:
        """Hold the tables that calls have kept until now, and none that changes with the bias: for graphs of a network.

        In a graph the bias is then no parameter any more. `forget_tables` ends it.
        """
        kept = self._tables.items()
        self._frozen = {split: table for (key, _, split, *_), (_, table) in kept if key == self.kernel}

    def geometry(
        self, grid: tuple[int, ...], shift: tuple[int, ...] = (), window: tuple[int, ...] | None = None
    ) -> WindowGeometry:
        """Describe the windows of a batch of feature maps, with the site's bias.

        Args:
            grid: windows of a feature map along each axis, rows and columns.
            shift: tokens by which the feature map was rolled before it was cut and whose borders are masked; empty: it
                was not.
            window: sides of the windows; None: `window_size`.
        """
        window = window or self.window_size
        if self.bias_mode == "drop":
            return WindowGeometry(window, grid, tables=self._tables, frozen=self._frozen)
        return WindowGeometry(window, grid, shift, self.position_bias(window), self._tables, frozen=self._frozen)


class AttendedMap(nn.Identity):
    """The identity on a window attention's outputs, put together again: (B, H, W, C) in the image's order.

    A forward hook on this module sees maps that do not depend on the cut into windows, except at an edge to which the
    host pads its features.

    Examples:
        >>> import torch
        >>> from nystra import SwinIR
        >>> from nystra.sites import AttendedMap
        >>> net = SwinIR(img_size=8, embed_dim=8, depths=[1], num_heads=[2], window_size=4)
        >>> shapes = []
        >>> for module in net.modules():
        ...     if isinstance(module, AttendedMap):
        ...         _ = module.register_forward_hook(lambda module, maps, result: shapes.append(tuple(result.shape)))
        >>> result = net(torch.rand(1, 3, 8, 12))
        >>> shapes
        [(1, 8, 12, 8)]
    """
