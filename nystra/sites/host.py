"""The base class of networks with window attention: windows of any size, and what the network demands of images."""

from torch import nn

from nystra.sites.site import BiasMode, WindowAttention

LARGEST_WINDOW = 1024
"""Largest side of windows, in tokens: padding to larger ones takes more memory than there is."""


class WindowHost(nn.Module):
    """A network whose window attentions can attend in other windows and by other kernels, without training.

    A subclass makes its window attentions (`nystra.sites.WindowAttention`) under upstream's keys and sets
    `window_size`. It overrides the demands on images below where they differ.

    Attributes:
        window_size: side of the windows that are cut now, in tokens.
        scale: height of the output over the height of the input; the same for widths.
        value_range: smallest and largest value of the images that the network was trained on.

    Examples:
        >>> from nystra import DehazeFormer
        >>> net = DehazeFormer(embed_dims=(4, 8, 8, 8, 4), num_heads=(1, 2, 2, 1, 1), depths=(1, 2, 2, 1, 1))
        >>> net.window_size, net.size_multiple, net.scale, net.value_range
        (8, 1, 1, (-1.0, 1.0))
        >>> net.set_window(16, "interpolate")
        >>> net.window_size, net.takes(16), net.takes(64)
        (16, False, True)
    """

    window_size: int
    scale: int = 1
    value_range: tuple[float, float] = (0.0, 1.0)

    @property
    def size_multiple(self) -> int:
        """Number of which an image's height and width must be multiples, >= 1; 1 where the network pads by itself."""
        return 1

    def takes(self, side: int) -> bool:
        """Whether images of this height or width are taken in the present windows.

        Args:
            side: height or width, in pixels.
        """
        return side >= 1 and side % self.size_multiple == 0

    def set_window(self, window_size: int, position_bias: BiasMode = "keep") -> None:
        """Attend within windows of another size; shifted blocks shift by half a side.

        Args:
            window_size: side of the windows, in tokens, from 1 to `LARGEST_WINDOW`.
            position_bias: treatment of the trained position bias: "keep" (every offset keeps its bias), "interpolate"
                (the trained range of offsets is stretched to the window's) or "drop" (neither bias nor mask), see
                `nystra.sites.WindowAttention`.

        Raises:
            ValueError: if `window_size` is out of range or `position_bias` is unknown.
        """
        if window_size > LARGEST_WINDOW:
            raise ValueError(f"window_size ({window_size}) must be at most {LARGEST_WINDOW} tokens")
        for module in self.modules():
            if isinstance(module, WindowAttention):
                module.set_window(window_size, position_bias)
        self.window_size = window_size
