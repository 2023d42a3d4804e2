"""Norms, feed-forward networks and resampling of the hosts, on channels-last images.

Images keep the usual shape (B, C, H, W); their memory is channels-last, so that tokens (B, H·W, C) are a view, and
LayerNorm, 1×1 convolutions and channel products read contiguous memory. Any memory format is accepted.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmha.cpu import gradients
from glmha.cpu.row_bands import bands, streams, trains_plainly
from glmha.shared.graphs import is_recorded


def to_tokens(image: Tensor) -> Tensor:
    """View a channels-last image (B, C, H, W) as tokens (B, H·W, C); copies other memory formats."""
    if is_recorded():
        return image.flatten(2).transpose(1, 2)
    return image.permute(0, 2, 3, 1).flatten(1, 2)


def to_image(tokens: Tensor, like: Tensor) -> Tensor:
    """View tokens (B, H·W, C') as a channels-last image of the height and width of `like`: (B, C', H, W)."""
    if is_recorded():
        return tokens.transpose(1, 2).unflatten(2, like.shape[-2:])
    return tokens.unflatten(1, like.shape[-2:]).permute(0, 3, 1, 2)


def empty_like_image(x: Tensor, channels: int) -> Tensor:
    """Allocate a channels-last image of `channels` channels, otherwise like `x`."""
    batch, _, height, width = x.shape
    return x.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve every channel with its own kernel, same size: (B, C, H, W), weight (C, 1, k, k)."""
    if trains_plainly(x):
        return gradients.depthwise_convolution(x, weight, bias)
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a 1×1 convolution whose weights differ per image: (B, C, H, W), weight (B, C', C) → (B, C', H, W)."""
    if is_recorded():
        result = (weight @ x.flatten(2)).unflatten(2, x.shape[-2:])
        return result if bias is None else result + bias[:, None, None]
    if x.shape[0] == 1:
        return F.conv2d(x, weight[0, :, :, None, None], bias)
    tokens = torch.bmm(to_tokens(x), weight.transpose(1, 2))
    return to_image(tokens if bias is None else tokens + bias, x)


def adaptive_max_pool(x: Tensor, bins: int) -> Tensor:
    """Take the largest value of bins×bins parts of an image, which overlap where its sides are no multiples."""
    if not is_recorded():
        return F.adaptive_max_pool2d(x, bins)
    # Few runtimes have that operation for images of any size; all can cut and compare.
    for axis in (2, 3):
        side = x.shape[axis]
        # Of positive numbers only: some runtimes round quotients towards zero.
        parts = [(number * side // bins, ((number + 1) * side + bins - 1) // bins) for number in range(bins)]
        x = torch.stack([x.narrow(axis, first, until - first).amax(axis) for first, until in parts], axis)
    return x


def channels_read(count: int, source: int) -> list[int]:
    """List the channel ⌊i·source/count⌋ that each of `count` channels reads: evenly, within heads that divide both."""
    return [index * source // count for index in range(count)]


def take_channels(x: Tensor, count: int) -> Tensor:
    """Repeat or subsample channels by the rule of `channels_read`: (B, C, H, W) → (B, count, H, W), channels-last."""
    source = x.shape[1]
    if count == source:
        return x
    if is_recorded():
        return x.index_select(1, torch.tensor(channels_read(count, source), device=x.device))
    pixels = x.permute(0, 2, 3, 1)
    # The index is made on the device, without a wait. `gather` takes a quarter of indexing's time and is channels-last.
    index = torch.arange(count, device=x.device) * source // count
    return pixels.gather(3, index.expand(*pixels.shape[:3], -1)).permute(0, 3, 1, 2)


class LayerNorm(nn.Module):
    """Normalise the channels of every pixel (Restormer; keys `body.weight`, `body.bias`).

    Statistics are accumulated in float32 whatever the input's type.

    Args:
        channels: C.
        bias: True, subtract the mean and add a bias ("WithBias"); False, only divide by the standard deviation
            ("BiasFree").
    """

    def __init__(self, channels: int, *, bias: bool = True) -> None:
        super().__init__()
        self.body = nn.LayerNorm(channels, bias=bias)
        self.centred = bias

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W) over C; same shape and dtype."""
        pixels = x.permute(0, 2, 3, 1)
        if self.centred:
            return self.body(pixels).permute(0, 3, 1, 2)
        wide = pixels.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.rsqrt(wide.var(-1, correction=0, keepdim=True) + self.body.eps)
        return (wide * scale * self.body.weight).to(x.dtype).permute(0, 3, 1, 2)


class GatedFeedForward(nn.Module):
    """Restormer's gated depth-wise feed-forward network: W_out(GELU(a) ⊙ b), [a, b] = dw3×3(W_in x) (its Eq. 2).

    Args:
        channels: C.
        expansion: hidden channels = ⌊C·expansion⌋.
        bias: whether the convolutions have biases.
    """

    def __init__(self, channels: int, expansion: float, *, bias: bool = False) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        if not streams(x):
            expanded = depthwise(self.project_in(x), self.dwconv.weight, self.dwconv.bias)
            if trains_plainly(x):
                return self.project_out(gradients.gate(expanded))
            gate, value = expanded.chunk(2, 1)
            return self.project_out(F.gelu(gate) * value)
        result = empty_like_image(x, x.shape[1])
        for band in bands(x, self.dwconv.out_channels, halo=1):
            expanded = self.dwconv(self.project_in(x[:, :, band.low : band.high]))
            gate, value = band.inner(expanded).chunk(2, 1)
            result[:, :, band.start : band.stop] = self.project_out(F.gelu(gate).mul_(value))
        return result


class FeedForward(nn.Module):
    """MST's feed-forward network: 1×1 to 4C, GELU, 3×3 depth-wise, GELU, 1×1 to C (keys `net.0`, `net.2`, `net.4`).

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 4 * channels
        self.net = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.GELU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        if not streams(x):
            return self.net(x)
        result = empty_like_image(x, x.shape[1])
        # Bands of twice the usual size: at so few channels the kernels' fixed costs weigh more.
        for band in bands(x, 2 * x.shape[1], halo=1):
            result[:, :, band.start : band.stop] = band.inner(self.net(x[:, :, band.low : band.high]))
        return result


class Downsample(nn.Module):
    """Halve the size and double the channels: 3×3 convolution to C/2, pixel-unshuffle (Restormer)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 2C, H/2, W/2)."""
        return self.body(x)


class Upsample(nn.Module):
    """Double the size and halve the channels: 3×3 convolution to 2C, pixel-shuffle (Restormer)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels * 2, 3, padding=1, bias=False), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C/2, 2H, 2W)."""
        return self.body(x)


class MaskGuidance(nn.Module):
    """MST's mask guidance, attention for the values: f·(1 + sigmoid(dw5×5(conv2 f))) with f = conv1(mask).

    With C' < C values, value i stands for channel ⌊i·C/C'⌋. Attention for the other channels is not computed and has no
    parameters.

    Args:
        channels: C, of the mask's features.
        value_channels: C', of the values.
        dispersed: whether the mask is a coded aperture's, dispersed along the width, to be shifted back to the scene.
    """

    def __init__(self, channels: int, value_channels: int, *, dispersed: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, value_channels, 1)
        self.depth_conv = nn.Conv2d(value_channels, value_channels, 5, padding=2, groups=value_channels)
        self.dispersed = dispersed

    def forward(self, mask: Tensor) -> Tensor:
        """Map mask features (B, C, H, W) to attention (B, C', H, W), or from (B, C, H, H + shift) to (B, C', H, H)."""
        features = self.conv1(mask)
        weight = torch.sigmoid(self.depth_conv(self.conv2(features)))
        features = take_channels(features, weight.shape[1])
        features = torch.addcmul(features, features, weight)
        return shift_back(features, channels_read(weight.shape[1], mask.shape[1])) if self.dispersed else features


def shift_back(x: Tensor, channels: Sequence[int]) -> Tensor:
    """Undo a coded aperture's dispersion: channel c moves left by ⌊c·step⌋ and the width becomes the height.

    The step is 2 pixels a channel at 256 rows and shrinks with the square of the level's size: 2/(256 // H)².

    Args:
        x: features, (B, n, H, W) with W at least H + ⌊c·step⌋ for every channel.
        channels: c of each of the n channels, ascending.

    Returns:
        Shape (B, n, H, H), channels-last memory.

    Raises:
        ValueError: if H is above 256 or W is too small.
    """
    height, width = x.shape[-2:]
    if not 1 <= height <= 256:
        raise ValueError(f"height ({height}) of the mask features must be 1 to 256: the dispersion is defined at 256")
    step = 2 / (256 // height) ** 2
    # Adjacent channels of the same shift are cut together.
    runs = [(shift, len(list(run))) for shift, run in itertools.groupby(int(step * channel) for channel in channels)]
    if width < height + runs[-1][0]:
        raise ValueError(
            f"width ({width}) of the mask features must be at least {height + runs[-1][0]}, their height {height} and "
            f"the last channel's shift {runs[-1][0]}"
        )
    parts = x.permute(0, 2, 3, 1).split([length for _, length in runs], 3)
    moved = [part[:, :, shift : shift + height] for part, (shift, _) in zip(parts, runs, strict=True)]
    return torch.cat(moved, 3).permute(0, 3, 1, 2)
