"""Uformer (Wang et al., "Uformer: A General U-Shaped Transformer for Image Restoration", CVPR 2022), released keys.

Features are (B, H, W, C), contiguous: tokens for the attention, channels-last for the convolutions.
"""

import functools
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glmha.shared.graphs import is_recorded
from nystra.hosts.layers import mlp
from nystra.hosts.uformer.blocks import Block, Level, LocallyEnhanced, UformerAttention
from nystra.sites.host import WindowHost

LEVELS = 4
"""Levels above the bottleneck."""
HEADS = (1, 2, 4, 8, 16, 16, 8, 4, 2)


def wrapped(name: str, *layers: nn.Module) -> nn.Sequential:
    """A sequence of layers under one more name."""
    return nn.Sequential(OrderedDict({name: nn.Sequential(*layers)}))


def convolved(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer of images to features (B, H, W, C)."""
    return layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Uformer(WindowHost):
    """Uformer: a U of window-attention blocks with locally enhanced feed-forwards.

    Argument names and state-dict keys are upstream's, so released checkpoints load strictly. Any image of a height and
    width that are multiples of 16 windows' sides is taken, not square ones only. Enlarged windows (`set_window`) end
    where a level's map does, so that a few smaller images are taken too: with windows of 64, 256×256. The decoder's
    modulators follow the position bias: "keep" repeats them, "interpolate" resizes them (bilinear), "drop" leaves them
    out.

    Upstream settles at construction, by `img_size` alone, which blocks shift their windows. Here no block shifts along
    an axis of the map at hand that one window fills. The results differ only where upstream shifts such a map, and so
    splits its one window: with an `img_size` that is larger than the image.

    Args:
        img_size: side of the training images, at least 16·`win_size`; levels whose maps were no larger than a window
            are never shifted: in the released models the bottleneck, at any image. None: the map at hand alone decides.
        in_chans: channels of the result.
        dd_in: channels of the image; where they are 3 the image is added to the result.
        embed_dim: C of the finest level.
        depths: blocks of the levels: encoder, bottleneck, decoder.
        num_heads: heads of the same levels.
        win_size: side of the windows, in tokens.
        mlp_ratio: hidden channels of the feed-forward networks over C.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: of the queries; None: 1/√d.
        drop_path_rate: stochastic depth of the bottleneck; that of the other blocks rises towards it.
        token_projection: "linear", what all released models have.
        token_mlp: "leff" (locally enhanced) or "ffn", also called "mlp" (an MLP).
        modulator: whether the decoder's windows have a learned modulator.
        shift_flag: whether every second block shifts its windows; the released models do.

    Raises:
        ValueError: if an argument is out of range.

    Examples:
        >>> import torch
        >>> from nystra import Uformer
        >>> net = Uformer(embed_dim=4, depths=[1] * 9, num_heads=[1] * 9, win_size=4)
        >>> net.size_multiple
        64
        >>> net(torch.rand(1, 3, 64, 128)).shape
        torch.Size([1, 3, 64, 128])
    """

    def __init__(
        self,
        img_size: int | None = 128,
        in_chans: int = 3,
        dd_in: int = 3,
        embed_dim: int = 32,
        depths: Sequence[int] = (2, 2, 2, 2, 2, 2, 2, 2, 2),
        num_heads: Sequence[int] = HEADS,
        win_size: int = 8,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_path_rate: float = 0.1,
        token_projection: str = "linear",
        token_mlp: str = "leff",
        modulator: bool = False,
        shift_flag: bool = True,
    ) -> None:
        super().__init__()
        for name, values in (("depths", depths), ("num_heads", num_heads)):
            if len(values) != 2 * LEVELS + 1:
                raise ValueError(f"{name} ({list(values)}) must have {2 * LEVELS + 1} entries, one per level")
        if token_projection != "linear":
            raise ValueError(f"token_projection ({token_projection}) must be linear: no released model has another")
        if token_mlp not in ("leff", "ffn", "mlp"):
            raise ValueError(f"token_mlp ({token_mlp}) must be leff, ffn or mlp")
        if win_size < 1:
            raise ValueError(f"win_size ({win_size}) must be at least 1")
        if img_size is not None and img_size < 1:
            raise ValueError(f"img_size ({img_size}) must be at least 1, or None")
        self.dd_in = dd_in
        self.window_size = win_size
        self.trained_window_size = win_size
        count = sum(depths[:LEVELS])
        rising = [drop_path_rate * index / max(count - 1, 1) for index in range(count)]
        rates = [*rising, *[drop_path_rate] * depths[LEVELS], *rising[::-1]]

        def level(index: int, dim: int) -> Level:
            halvings = min(index, 2 * LEVELS - index)
            shifts = shift_flag and (img_size is None or img_size >> halvings > win_size)
            start = sum(depths[:index])
            blocks = []
            for number in range(depths[index]):
                attention = UformerAttention(dim, (win_size, win_size), num_heads[index], qkv_bias, qk_scale)
                hidden = int(dim * mlp_ratio)
                blocks.append(
                    Block(
                        attention,
                        LocallyEnhanced(dim, hidden) if token_mlp == "leff" else mlp(dim, hidden),
                        modulated=modulator and index > LEVELS,
                        shifted=shifts and number % 2 == 1,
                        drop_path=rates[min(start + number, len(rates) - 1)],
                    )
                )
            return Level(blocks)

        same = functools.partial(nn.Conv2d, kernel_size=3, padding=1)
        self.input_proj = wrapped("proj", same(dd_in, embed_dim), nn.LeakyReLU(inplace=True))
        self.output_proj = wrapped("proj", same(2 * embed_dim, in_chans))
        for index in range(LEVELS):
            dim = embed_dim * 2**index
            self.add_module(f"encoderlayer_{index}", level(index, dim))
            self.add_module(f"dowsample_{index}", wrapped("conv", nn.Conv2d(dim, 2 * dim, 4, stride=2, padding=1)))
        self.conv = level(LEVELS, embed_dim * 2**LEVELS)
        for index in range(LEVELS):
            dim = embed_dim * 2 ** (LEVELS - index)
            # The first reads the bottleneck, the others a decoder level of twice its skip's channels.
            finer = embed_dim * 2 ** (LEVELS - 1 - index)
            coarser = dim if index == 0 else 2 * dim
            self.add_module(f"upsample_{index}", wrapped("deconv", nn.ConvTranspose2d(coarser, finer, 2, stride=2)))
            self.add_module(f"decoderlayer_{index}", level(LEVELS + 1 + index, 2 * finer))
        self.apply(_initialise)

    @property
    def size_multiple(self) -> int:
        """Number of which an image's height and width must be multiples; enlarged windows demand more, see `takes`."""
        return 2**LEVELS * self.trained_window_size

    def takes(self, side: int) -> bool:
        """Whether images of this height or width are taken: every level's map is cut into windows, or is one.

        Args:
            side: height or width, in pixels.
        """
        if side < 1 or side % self.size_multiple:
            return False
        # Levels are attended to whole where an enlarged window is larger than they.
        maps = [side >> level for level in range(LEVELS + 1)]
        return all(length % min(self.window_size, length) == 0 for length in maps)

    def forward(self, image: Tensor) -> Tensor:
        """Restore an image.

        Args:
            image: shape (B, dd_in, H, W), range [0, 1], H and W multiples of `size_multiple`; with enlarged windows
                also multiples of the trained windows' one that every level cuts into windows or is no larger than.

        Returns:
            Shape (B, in_chans, H, W), not clamped.

        Raises:
            ValueError: if H or W is no such multiple.
        """
        height, width = image.shape[-2:]
        if not is_recorded() and not (self.takes(height) and self.takes(width)):
            raise ValueError(
                f"image ({height}×{width}) must have sides that are multiples of {self.size_multiple} and that every "
                f"level cuts into windows of {self.window_size} tokens: pad it, as trainers.tiling.restore does"
            )
        x = self.input_proj(image.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)
        skips = []
        for index in range(LEVELS):
            skips.append(self.get_submodule(f"encoderlayer_{index}")(x))
            x = convolved(self.get_submodule(f"dowsample_{index}"), skips[-1])
        x = self.conv(x)
        for index in range(LEVELS):
            x = torch.cat([convolved(self.get_submodule(f"upsample_{index}"), x), skips.pop()], -1)
            x = self.get_submodule(f"decoderlayer_{index}")(x)
        result = self.output_proj(x.permute(0, 3, 1, 2))
        return image + result if self.dd_in == 3 else result


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
