"""Restormer (Zamir et al., CVPR 2022) with any channel attention, and the rule that infers its arguments."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from glmha.attention.base import ChannelAttention
from glmha.attention.factories import AttentionFactory, build, per_level
from glmha.conventions.restormer import RestormerConvention
from glmha.hosts.recorded_attention import recorded_attention
from glmha.layers import Downsample, GatedFeedForward, LayerNorm, Upsample
from glmha.shared.recompute import recomputable
from glmha.shared.state_dicts import StateDict, count


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    recompute = False
    """Whether a training step computes activations inside the block twice instead of keeping them."""

    def __init__(self, channels: int, attention: nn.Module, expansion: float, *, bias: bool, centred: bool) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels, bias=centred)
        self.attn = attention
        self.norm2 = LayerNorm(channels, bias=centred)
        self.ffn = GatedFeedForward(channels, expansion, bias=bias)

    @recomputable
    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class PatchEmbed(nn.Module):
    """3×3 convolution from image to features."""

    def __init__(self, inp_channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inp_channels, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C, H, W)."""
        return self.proj(x)


class Restormer(nn.Module):
    """Restormer: a four-level U of channel-attention blocks; the input is added to the output.

    From "Restormer: Efficient transformer for high-resolution image restoration" (Zamir et al., CVPR 2022).
    Argument names and state-dict keys are upstream's, so released checkpoints load strictly.

    Args:
        inp_channels: channels of the input (6 for dual-pixel pairs).
        out_channels: channels of the output; equals `inp_channels` unless `dual_pixel_task`.
        dim: C at the finest level; doubles at each of three coarser ones.
        num_blocks: blocks of the levels, finest first; the last is the bottleneck.
        num_refinement_blocks: blocks after the decoder.
        heads: heads of the levels, finest first; each divides its level's channels.
        ffn_expansion_factor: hidden channels of the feed-forward networks over C.
        bias: whether convolutions of the blocks have biases.
        LayerNorm_type: "WithBias" or "BiasFree" (Gaussian denoising).
        dual_pixel_task: dual-pixel defocus deblurring: add the embedded input instead of the image.
        attention: factory (channels, heads) → module, or four of them, from the finest level to the bottleneck. The
            decoder and the refinement use their level's.

    Raises:
        ValueError: for four-entry arguments of another length, heads that do not divide the channels, an unknown
            norm, or a residual between different numbers of channels.

    Examples:
        >>> import torch
        >>> from glmha import GLMHA, Restormer
        >>> sizes = {"dim": 8, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1}
        >>> exact, low_rank = Restormer(**sizes), Restormer(**sizes, attention=GLMHA)
        >>> low_rank(torch.rand(1, 3, 32, 40)).shape
        torch.Size([1, 3, 32, 40])
        >>> [sum(parameter.numel() for parameter in net.parameters()) for net in (exact, low_rank)]
        [208225, 201889]
    """

    size_multiple = 8

    def __init__(
        self,
        inp_channels: int = 3,
        out_channels: int = 3,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        num_refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        ffn_expansion_factor: float = 2.66,
        bias: bool = False,
        LayerNorm_type: Literal["WithBias", "BiasFree"] = "WithBias",
        dual_pixel_task: bool = False,
        attention: AttentionFactory | Sequence[AttentionFactory] = ChannelAttention,
    ) -> None:
        super().__init__()
        for name, value in (("num_blocks", num_blocks), ("heads", heads)):
            if len(value) != 4:
                raise ValueError(f"{name} ({list(value)}) must have four entries, one per level, finest first")
        if LayerNorm_type not in ("WithBias", "BiasFree"):
            raise ValueError(f"LayerNorm_type ({LayerNorm_type}) must be WithBias or BiasFree")
        if not dual_pixel_task and inp_channels != out_channels:
            raise ValueError(
                f"out_channels ({out_channels}) must equal inp_channels ({inp_channels}): the input is added to the "
                "output; only dual_pixel_task may differ"
            )
        factories = per_level(attention, 4)
        convention = RestormerConvention(bias=bias)

        def blocks(level: int, count: int, channels: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    TransformerBlock(
                        channels,
                        build(factories[level], channels, heads[level], convention),
                        ffn_expansion_factor,
                        bias=bias,
                        centred=LayerNorm_type == "WithBias",
                    )
                    for _ in range(count)
                )
            )

        self.patch_embed = PatchEmbed(inp_channels, dim)
        self.encoder_level1 = blocks(0, num_blocks[0], dim)
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = blocks(1, num_blocks[1], 2 * dim)
        self.down2_3 = Downsample(2 * dim)
        self.encoder_level3 = blocks(2, num_blocks[2], 4 * dim)
        self.down3_4 = Downsample(4 * dim)
        self.latent = blocks(3, num_blocks[3], 8 * dim)
        self.up4_3 = Upsample(8 * dim)
        self.reduce_chan_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=bias)
        self.decoder_level3 = blocks(2, num_blocks[2], 4 * dim)
        self.up3_2 = Upsample(4 * dim)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=bias)
        self.decoder_level2 = blocks(1, num_blocks[1], 2 * dim)
        self.up2_1 = Upsample(2 * dim)
        # Upstream does not reduce the channels here: the finest decoder level is twice as wide as the encoder's.
        self.decoder_level1 = blocks(0, num_blocks[0], 2 * dim)
        self.refinement = blocks(0, num_refinement_blocks, 2 * dim)
        self.dual_pixel_task = dual_pixel_task
        if dual_pixel_task:
            self.skip_conv = nn.Conv2d(dim, 2 * dim, 1, bias=bias)
        self.output = nn.Conv2d(2 * dim, out_channels, 3, padding=1, bias=bias)

    def forward(self, image: Tensor) -> Tensor:
        """Restore an image.

        Args:
            image: shape (B, inp_channels, H, W), H and W multiples of 8, range [0, 1].

        Returns:
            Shape (B, out_channels, H, W), not clamped.

        Raises:
            ValueError: if H or W is no multiple of 8.
        """
        height, width = image.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"image height and width must be multiples of {self.size_multiple}, got {height}×{width}: pad it, "
                "or use trainers.restore, which pads and crops"
            )
        image = image.contiguous(memory_format=torch.channels_last)
        embedded = self.patch_embed(image)
        level1 = self.encoder_level1(embedded)
        level2 = self.encoder_level2(self.down1_2(level1))
        level3 = self.encoder_level3(self.down2_3(level2))
        x = self.up4_3(self.latent(self.down3_4(level3)))
        x = self.decoder_level3(self.reduce_chan_level3(torch.cat([x, level3], 1)))
        x = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(x), level2], 1)))
        x = self.decoder_level1(torch.cat([self.up2_1(x), level1], 1))
        x = self.refinement(x)
        if self.dual_pixel_task:
            return self.output(x + self.skip_conv(embedded))
        return self.output(x) + image


def restormer_arguments(weights: StateDict) -> dict[str, Any]:
    """Infer the constructor arguments of a Restormer from keys and shapes."""
    levels = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")
    dim, inp_channels = weights["patch_embed.proj.weight"].shape[:2]
    hidden = [weights[f"{level}.0.ffn.project_out.weight"].shape[1] for level in levels]
    return {
        "inp_channels": inp_channels,
        "out_channels": weights["output.weight"].shape[0],
        "dim": dim,
        "num_blocks": [count(weights, level) for level in levels],
        "num_refinement_blocks": count(weights, "refinement"),
        "heads": [weights[f"{level}.0.attn.temperature"].shape[0] for level in levels],
        "ffn_expansion_factor": expansion([dim * 2**level for level in range(4)], hidden),
        "bias": "encoder_level1.0.ffn.project_in.bias" in weights,
        "LayerNorm_type": "WithBias" if "encoder_level1.0.norm1.body.bias" in weights else "BiasFree",
        "dual_pixel_task": "skip_conv.weight" in weights,
        "attention": [recorded_attention(weights, f"{level}.0.attn.") for level in levels],
    }


def expansion(channels: list[int], hidden: list[int]) -> float:
    """Find a factor with ⌊C·factor⌋ = hidden at every level; the published 2.66 where it is one."""
    low = max(h / c for c, h in zip(channels, hidden, strict=True))
    high = min((h + 1) / c for c, h in zip(channels, hidden, strict=True))
    return 2.66 if low <= 2.66 < high else (low + high) / 2
