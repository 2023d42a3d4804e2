"""MST++ with any channel attention, from RGB and for CASSI, and the rule that infers its arguments."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glmha.attention.base import ChannelAttention
from glmha.attention.factories import AttentionFactory
from glmha.conventions.mst import MSTConvention
from glmha.hosts.recorded_attention import recorded_attention
from glmha.hosts.spectral_unet import PADDED_MULTIPLE, SpectralUNet, reflect_to_multiple
from glmha.shared.state_dicts import StateDict, count


class SingleStage(SpectralUNet):
    """Single-stage spectral-wise transformer: two levels and a bottleneck of one block each, and a residual."""

    def __init__(self, dim: int, attention: AttentionFactory | Sequence[AttentionFactory]) -> None:
        super().__init__(dim, 2, (1, 1, 1), attention, MSTConvention(linear_std=0.02))
        self.embedding = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.mapping = nn.Conv2d(dim, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W), H and W multiples of 4, to the same shape."""
        return self.mapping(self.encode_decode(self.embedding(x))) + x


class Cascade(nn.Module):
    """Base of both forms of MST++: single-stage transformers in a row between two convolutions, and a residual."""

    size_multiple = PADDED_MULTIPLE

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_feat: int,
        stage: int,
        attention: AttentionFactory | Sequence[AttentionFactory],
    ) -> None:
        super().__init__()
        if out_channels != n_feat:
            raise ValueError(
                f"out_channels ({out_channels}) must equal n_feat ({n_feat}): the features are added to the output"
            )
        for name, value in (("n_feat", n_feat), ("stage", stage)):
            if value < 1:
                raise ValueError(f"{name} ({value}) must be at least 1")
        self.conv_in = nn.Conv2d(in_channels, n_feat, 3, padding=1, bias=False)
        self.body = nn.Sequential(*(SingleStage(n_feat, attention) for _ in range(stage)))
        self.conv_out = nn.Conv2d(n_feat, out_channels, 3, padding=1, bias=False)

    def cascade(self, image: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W), reflected to multiples of 8 in between."""
        height, width = image.shape[-2:]
        features = self.conv_in(reflect_to_multiple(image))
        result = self.conv_out(self.body(features)) + features
        return result[:, :, :height, :width]


class MSTPlusPlus(Cascade):
    """MST++: spectra from RGB by a cascade of single-stage transformers.

    From "MST++: Multi-stage spectral-wise transformer for efficient spectral reconstruction" (Cai et al., CVPR
    Workshops 2022). Argument names and state-dict keys are upstream's. Linear maps of the attentions start as
    upstream's, from a normal distribution of standard deviation 0.02; all else starts as PyTorch starts it.

    Args:
        in_channels: channels of the input.
        out_channels: number of spectral bands; equals `n_feat`, because the features are added to the output.
        n_feat: C at the finest level.
        stage: number of single-stage transformers.
        attention: factory (channels, heads) → module, or three of them, from the finest level to the bottleneck, for
            every stage. The decoder uses its level's.

    Raises:
        ValueError: if `out_channels` differs from `n_feat`, `stage` or `n_feat` is below 1, or `attention` has another
            length.

    Examples:
        >>> import torch
        >>> from glmha import GLMHA, MSTPlusPlus
        >>> net = MSTPlusPlus(n_feat=8, out_channels=8, stage=1, attention=GLMHA)
        >>> net(torch.rand(1, 3, 20, 18)).shape
        torch.Size([1, 8, 20, 18])
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 31,
        n_feat: int = 31,
        stage: int = 3,
        attention: AttentionFactory | Sequence[AttentionFactory] = ChannelAttention,
    ) -> None:
        super().__init__(in_channels, out_channels, n_feat, stage, attention)

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct spectra.

        Args:
            image: (B, in_channels, H, W), H and W at least 5; reflected inside to multiples of 8.

        Returns:
            Shape (B, out_channels, H, W), not clamped.

        Raises:
            ValueError: if the image is too small to be reflected.
        """
        return self.cascade(image)


class CassiMSTPlusPlus(Cascade):
    """MST++ for CASSI: a 1×1 convolution joins measurement and mask first.

    Argument names and state-dict keys are upstream's (`fution` among them); weights start as in `MSTPlusPlus`.

    Args:
        in_channels: number of spectral bands of the measurement and of the mask.
        out_channels: number of spectral bands of the result; equals `n_feat`.
        n_feat: C at the finest level.
        stage: number of single-stage transformers.
        attention: factory (channels, heads) → module, or three of them, as in `MSTPlusPlus`.

    Raises:
        ValueError: if `out_channels` differs from `n_feat`, `stage` or `n_feat` is below 1, or `attention` has another
            length.

    Examples:
        >>> import torch
        >>> from glmha import GLMHA, CassiMSTPlusPlus
        >>> net = CassiMSTPlusPlus(in_channels=8, n_feat=8, out_channels=8, stage=1, attention=GLMHA)
        >>> net(torch.rand(1, 8, 20, 18), torch.rand(1, 8, 20, 18)).shape
        torch.Size([1, 8, 20, 18])
    """

    def __init__(
        self,
        in_channels: int = 28,
        out_channels: int = 28,
        n_feat: int = 28,
        stage: int = 3,
        attention: AttentionFactory | Sequence[AttentionFactory] = ChannelAttention,
    ) -> None:
        super().__init__(in_channels, out_channels, n_feat, stage, attention)
        self.fution = nn.Conv2d(2 * in_channels, in_channels, 1)

    def forward(self, measurement: Tensor, mask: Tensor) -> Tensor:
        """Reconstruct spectral cubes.

        Args:
            measurement: shifted back, (B, in_channels, H, W), H and W at least 5; reflected inside to multiples of 8.
            mask: shifted back as well, same shape.

        Returns:
            Shape (B, out_channels, H, W), not clamped.

        Raises:
            ValueError: if mask and measurement differ in shape, or are too small to be reflected.
        """
        if mask.shape != measurement.shape:
            raise ValueError(
                f"mask must have the shape of the measurement, {tuple(measurement.shape)}, got {tuple(mask.shape)}"
            )
        return self.cascade(self.fution(torch.cat([measurement, mask], 1)))


def mst_plus_plus_arguments(weights: StateDict) -> dict[str, Any]:
    """Infer the constructor arguments of an MST++, of either class, from keys and shapes."""
    levels = ("encoder_layers.0.0.", "encoder_layers.1.0.", "bottleneck.")
    n_feat, in_channels = weights["conv_in.weight"].shape[:2]
    return {
        "in_channels": in_channels,
        "out_channels": weights["conv_out.weight"].shape[0],
        "n_feat": n_feat,
        "stage": count(weights, "body"),
        "attention": [recorded_attention(weights, f"body.0.{level}blocks.0.0.") for level in levels],
    }
