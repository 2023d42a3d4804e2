"""SwinIR (Liang et al., ICCVW 2021): residual groups of shifted-window attention, under its released keys."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nystra.hosts.layers import mlp
from nystra.hosts.swinir.blocks import ResidualGroup, SwinAttention, SwinBlock, connection, convolution, shift_mask
from nystra.sites.host import WindowHost

Upsampler = Literal["pixelshuffle", "pixelshuffledirect", "nearest+conv", ""]

# Means of the channels of DIV2K, subtracted from colour images.
MEAN = (0.4488, 0.4371, 0.4040)
# Channels of the convolutions that enlarge step by step.
UPSAMPLING_CHANNELS = 64


class SwinIR(WindowHost):
    """SwinIR for super-resolution, denoising and JPEG artefacts; arguments and state-dict keys are upstream's.

    The buffers `attn_mask` and `relative_position_index` are saved for upstream's sake and never read; those of a
    checkpoint may be of any training size.

    Args:
        img_size: side (or h and w) of the training images; other sizes are restored as well, unless `ape`.
        patch_size: pixels of a token's side: 1.
        in_chans: channels of the image.
        embed_dim: C.
        depths: blocks of each residual group.
        num_heads: heads of each residual group, divisors of C.
        window_size: side of a window, in tokens. Where `img_size` is not larger, windows have its size and never shift.
        mlp_ratio: hidden channels of the feed-forward networks over C.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: factor of q·k; None: (C / heads)^(-1/2).
        drop_rate: dropout of embedding, attentions and feed-forward networks.
        attn_drop_rate: 0: kernels do not write the attention weights that it would drop.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        norm_layer: channels → norm.
        ape: whether an absolute position embedding is added, which fixes the padded image's size to `img_size`.
        patch_norm: whether the embedding is normalised.
        use_checkpoint: whether gradients recompute a residual group instead of keeping what it made.
        upscale: enlargement: 2ⁿ or 3 (pixelshuffle), any (pixelshuffledirect), 2 or 4 (nearest+conv); else not used.
        img_range: what images are multiplied with inside: 1, or 255 in the released JPEG models.
        upsampler: of classical, lightweight or real-world super-resolution; "": none, the image is added instead.
        resi_connection: "1conv" or "3conv" at the end of each residual group and of the body.

    Raises:
        ValueError: if an argument is out of range or does not fit the others.

    Examples:
        >>> import torch
        >>> from nystra import SwinIR
        >>> net = SwinIR(img_size=8, embed_dim=8, depths=[2], num_heads=[2], window_size=4, upsampler="pixelshuffle")
        >>> net(torch.rand(1, 3, 10, 7)).shape
        torch.Size([1, 3, 20, 14])
    """

    mean: Tensor

    def __init__(
        self,
        img_size: int | tuple[int, int] = 64,
        patch_size: int = 1,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (6, 6, 6, 6),
        num_heads: Sequence[int] = (6, 6, 6, 6),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        norm_layer: Callable[[int], nn.Module] = nn.LayerNorm,
        ape: bool = False,
        patch_norm: bool = True,
        use_checkpoint: bool = False,
        upscale: int = 2,
        img_range: float = 1.0,
        upsampler: Upsampler = "",
        resi_connection: Literal["1conv", "3conv"] = "1conv",
    ) -> None:
        super().__init__()
        self.resolution = (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])
        for name, value, correct, rule in (
            ("img_size", self.resolution, min(self.resolution) > 0, "positive"),
            ("patch_size", patch_size, patch_size == 1, "1: a token is a pixel"),
            ("num_heads", list(num_heads), 0 < len(num_heads) == len(depths), f"as many as depths ({list(depths)})"),
            ("window_size", window_size, window_size > 0, "positive"),
            ("attn_drop_rate", attn_drop_rate, attn_drop_rate == 0, "0: attention weights are never written"),
            ("drop_path_rate", drop_path_rate, 0 <= drop_path_rate < 1, "at least 0 and less than 1"),
            ("img_range", img_range, img_range > 0, "positive"),
            ("upsampler", upsampler, upsampler in get_args(Upsampler), f"one of {get_args(Upsampler)}"),
            ("resi_connection", resi_connection, resi_connection in ("1conv", "3conv"), "1conv or 3conv"),
        ):
            if not correct:
                raise ValueError(f"{name} ({value}) must be {rule}")
        self.window_size = window_size
        self.use_checkpoint = use_checkpoint
        self.img_range = img_range
        self.upsampler = upsampler
        self.scale = upscale if upsampler else 1
        mean = torch.tensor(MEAN) if in_chans == 3 else torch.zeros(1)
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)

        side = min(*self.resolution, window_size)
        rates = iter(drop_path_rate * index / max(sum(depths) - 1, 1) for index in range(sum(depths)))

        def block(index: int, heads: int) -> SwinBlock:
            shifted = index % 2 == 1 and min(self.resolution) > window_size
            return SwinBlock(
                norm_layer(embed_dim),
                SwinAttention(embed_dim, (side, side), heads, qkv_bias, qk_scale, drop_rate),
                norm_layer(embed_dim),
                mlp(embed_dim, int(embed_dim * mlp_ratio), drop_rate),
                shift_mask(self.resolution, side) if shifted else None,
                next(rates),
            )

        tokens = math.prod(self.resolution)
        self.absolute_pos_embed = nn.Parameter(torch.zeros(1, tokens, embed_dim)) if ape else None
        self.conv_first = convolution(in_chans, embed_dim)
        self.patch_embed = nn.Sequential(OrderedDict(norm=norm_layer(embed_dim)) if patch_norm else OrderedDict())
        self.pos_drop = nn.Dropout(drop_rate)
        self.layers = nn.ModuleList(
            ResidualGroup([block(index, heads) for index in range(depth)], connection(embed_dim, resi_connection))
            for depth, heads in zip(depths, num_heads, strict=True)
        )
        self.norm = norm_layer(embed_dim)
        self.conv_after_body = connection(embed_dim, resi_connection)
        self._add_upsampler(embed_dim, in_chans, upscale)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.absolute_pos_embed is not None:
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)

    def _add_upsampler(self, dim: int, image_channels: int, upscale: int) -> None:
        """Add the layers between body and image."""
        stepwise = self.upsampler in ("pixelshuffle", "nearest+conv")
        possible = {"pixelshuffle": upscale == 3 or upscale & (upscale - 1) == 0, "nearest+conv": upscale in (2, 4)}
        if self.upsampler and not (upscale > 0 and possible.get(self.upsampler, True)):
            raise ValueError(f"upscale ({upscale}) must be a factor that upsampler ({self.upsampler}) makes")
        channels = UPSAMPLING_CHANNELS if stepwise else dim
        if stepwise:
            self.conv_before_upsample = nn.Sequential(convolution(dim, channels), nn.LeakyReLU())
        if self.upsampler == "pixelshuffle":
            factors = [3] if upscale == 3 else [2] * (upscale.bit_length() - 1)
            steps = [(convolution(channels, f**2 * channels), nn.PixelShuffle(f)) for f in factors]
            self.upsample = nn.Sequential(*(layer for step in steps for layer in step))
        elif self.upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(convolution(dim, upscale**2 * image_channels), nn.PixelShuffle(upscale))
        elif self.upsampler == "nearest+conv":
            self.conv_up1 = convolution(channels, channels)
            if upscale == 4:
                self.conv_up2 = convolution(channels, channels)
            self.conv_hr = convolution(channels, channels)
        if self.upsampler != "pixelshuffledirect":
            self.conv_last = convolution(channels, image_channels)

    def sites(self) -> list[SwinAttention]:
        """List the window attentions, first to last."""
        return [module for module in self.modules() if isinstance(module, SwinAttention)]

    def forward(self, image: Tensor) -> Tensor:
        """Restore an image.

        Args:
            image: shape (B, in_chans, H, W), range [0, 1], of any size.

        Returns:
            Shape (B, in_chans, scale·H, scale·W), not clamped.

        Raises:
            ValueError: if the image has other channels, or not the size that `ape` needs.
        """
        if image.ndim != 4 or image.shape[1] != self.conv_first.in_channels:
            raise ValueError(f"image must be (B, {self.conv_first.in_channels}, H, W), got {tuple(image.shape)}")
        height, width = image.shape[-2:]
        x = (self._padded(image) - self.mean) * self.img_range
        x = x.contiguous(memory_format=torch.channels_last)
        features = self.conv_first(x)
        features = features + self.conv_after_body(self._body(features))
        if self.upsampler == "pixelshuffle":
            x = self.conv_last(self.upsample(self.conv_before_upsample(features)))
        elif self.upsampler == "pixelshuffledirect":
            x = self.upsample(features)
        elif self.upsampler == "nearest+conv":
            features = self.conv_before_upsample(features)
            for conv in (self.conv_up1, self.conv_up2) if self.scale == 4 else (self.conv_up1,):
                features = F.leaky_relu(conv(F.interpolate(features, scale_factor=2.0)), 0.2)
            x = self.conv_last(F.leaky_relu(self.conv_hr(features), 0.2))
        else:
            x = x + self.conv_last(features)
        return x[..., : height * self.scale, : width * self.scale] / self.img_range + self.mean

    def _body(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        x = self.patch_embed(features.permute(0, 2, 3, 1).contiguous())
        if self.absolute_pos_embed is not None:
            if x.shape[1:3] != self.resolution:
                raise ValueError(
                    f"image, padded to {x.shape[1]}×{x.shape[2]}, must have the size of the absolute position "
                    f"embedding (ape), {self.resolution[0]}×{self.resolution[1]}"
                )
            x = x + self.absolute_pos_embed.unflatten(1, self.resolution)
        x = self.pos_drop(x)
        for layer in self.layers:
            recompute = self.use_checkpoint and torch.is_grad_enabled()
            x = checkpoint(layer, x, use_reentrant=False) if recompute else layer(x)
        return self.norm(x).permute(0, 3, 1, 2)

    def _padded(self, image: Tensor) -> Tensor:
        """Mirror the image at its bottom and right, to and fro, until its sides are multiples of all windows'."""
        sites = self.sites()
        windows = {site.window_size for site in sites}
        if all(site.window_size == site.trained_window_size for site in sites):
            # Upstream pads to its argument even where a small img_size made the windows smaller.
            windows.add((self.window_size, self.window_size))
        for axis in (0, 1):
            size, multiple = image.shape[axis + 2], math.lcm(*(window[axis] for window in windows))
            if size % multiple:
                period = max(2 * size - 2, 1)
                places = torch.arange(-(-size // multiple) * multiple, device=image.device) % period
                image = image.index_select(axis + 2, torch.minimum(places, 2 * size - 2 - places))
        return image
