"""A site of window attention: what the hosts' attention modules share."""

from typing import Any, Literal, get_args

from torch import nn

from nystra.kernels.base import Kernel
from nystra.kernels.softmax import Softmax
from nystra.windows.geometry import WindowGeometry
from nystra.windows.position_bias import PositionBias

BiasMode = Literal["keep", "interpolate", "drop"]


class WindowAttention(nn.Module):
    """Base of the hosts' window attentions: projections and bias parameters are the host's, the rest is a kernel.

    A subclass owns its parameters under upstream's names, makes queries, keys and values of windows, and calls
    `kernel` with them and its `geometry`. Kernel, window and use of the bias are no part of the state dict.

    Args:
        window_size: h and w of the windows, in tokens.
        num_heads: h.

    Attributes:
        kernel: how outputs are made of queries, keys and values.
        window_size: of the windows that are cut now.
        trained_window_size: of those that the weights were trained for.
        bias_mode: what becomes of the position bias where the window is not the trained one: "keep" (the bias of every
            offset stays, offsets beyond the trained ones take the nearest one's), "interpolate" (the trained range of
            offsets is stretched to the window's), "drop" (neither bias nor mask, at any window: PnP-Nystra's
            "original", in which shifted windows mix the image's opposite edges).
    """

    def __init__(self, window_size: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.trained_window_size = window_size
        self.num_heads = num_heads
        self.kernel: Kernel = Softmax()
        self.bias_mode: BiasMode = "keep"
        self._tables: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the kept tables out of copies and files: they are made again."""
        return {**super().__getstate__(), "_tables": {}}

    @property
    def head_channels(self) -> int:
        """Channels d of a head. Hosts override it."""
        raise NotImplementedError

    def position_bias(self, window: tuple[int, int] | None = None) -> PositionBias | None:
        """The bias with the present parameters; None where there is none. Hosts override it.

        Args:
            window: h and w of the windows that are cut, to which "interpolate" stretches it; None: `window_size`.
        """
        raise NotImplementedError

    def set_window(self, window_size: int, position_bias: BiasMode) -> None:
        """Cut windows of another size.

        Args:
            window_size: their side, in tokens.
            position_bias: what becomes of the bias, see `bias_mode`.

        Raises:
            ValueError: if there are no such windows or `position_bias` is unknown.
        """
        if window_size < 1:
            raise ValueError(f"window_size ({window_size}) must be at least 1")
        if position_bias not in get_args(BiasMode):
            raise ValueError(f"position_bias ({position_bias}) must be one of {', '.join(get_args(BiasMode))}")
        self.window_size = (window_size, window_size)
        self.bias_mode = position_bias
        self.forget_tables()

    def forget_tables(self) -> None:
        """Free what kernels kept of bias and masks; the next calls make anew what they need."""
        self._tables.clear()

    def geometry(
        self, grid: tuple[int, int], shift: tuple[int, int] = (0, 0), window: tuple[int, int] | None = None
    ) -> WindowGeometry:
        """Describe the windows of a batch of feature maps, with the site's bias.

        Args:
            grid: windows of a feature map, rows and columns.
            shift: tokens by which the feature map was rolled before it was cut and whose borders are masked.
            window: h and w of the windows; None: `window_size`.
        """
        window = window or self.window_size
        if self.bias_mode == "drop":
            return WindowGeometry(window, grid, tables=self._tables)
        return WindowGeometry(window, grid, shift, self.position_bias(window), self._tables)


class AttendedMap(nn.Identity):
    """Where a block hands on what its window attention made, put together again: (B, H, W, C) in the image's order.

    Does nothing: a hook on it sees maps that do not depend on how windows were cut, but for the edge to which a host
    pads its features.
    """
