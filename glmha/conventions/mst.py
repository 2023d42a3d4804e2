"""MST's convention: linear projections, a positional branch on the values, optional mask guidance."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmha import functional
from glmha.conventions.base import AttentionModule, Calibrate, Convention
from glmha.layers import MaskGuidance, depthwise, pointwise, take_channels, to_image, to_tokens


@dataclasses.dataclass(frozen=True)
class MSTConvention(Convention):
    """MST's S-MSA: linear projections, softmax(k qᵀ·rescale), a positional branch on V, optional mask guidance.

    Upstream's rows are indexed by its `k`, so upstream's k plays the paper's Q (full, C channels) and upstream's q the
    paper's K (low-rank, C' channels). At full rank nothing but the name differs.

    With C' < C the positional branch stays depth-wise. Its first convolution runs on the C' channels of V; its second
    has C outputs, of which output j of a head reads channel ⌊j·d'/d⌋ of that head. Value j of a head stands for channel
    ⌊j·d/d'⌋ of it: the mask's attention is made for those channels.

    Args:
        mask_guided: whether a mask's attention multiplies the values.
        dispersed: whether that mask is a coded aperture's, to be shifted back (MST for CASSI); without effect where
            `mask_guided` is false.
        linear_std: standard deviation of the linear maps' first weights, with biases of zero (MST++: 0.02); None:
            weights and biases start as PyTorch starts them.
    """

    mask_guided: bool = False
    dispersed: bool = True
    linear_std: float | None = None

    def build(self, module: AttentionModule) -> None:
        """Register rescale, to_q, to_k, to_v, proj, pos_emb and, with mask guidance, mm."""
        channels, key_channels = module.channels, module.key_channels
        module.rescale = nn.Parameter(torch.ones(module.heads, 1, 1))
        module.to_q = nn.Linear(channels, key_channels, bias=False)
        module.to_k = nn.Linear(channels, channels, bias=False)
        module.to_v = nn.Linear(channels, key_channels, bias=False)
        module.proj = nn.Linear(channels, channels)
        # Containers for upstream's key names; `output` applies them, the second one with repeated input channels.
        module.pos_emb = nn.Sequential(
            nn.Conv2d(key_channels, key_channels, 3, padding=1, groups=key_channels, bias=False),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        )
        if self.mask_guided:
            module.mm = MaskGuidance(channels, key_channels, dispersed=self.dispersed)
        if self.linear_std is not None:
            for linear in (module.to_q, module.to_k, module.to_v, module.proj):
                nn.init.trunc_normal_(linear.weight, std=self.linear_std)
            nn.init.zeros_(module.proj.bias)

    def temperature(self, module: AttentionModule) -> Tensor:
        """Return the parameter `rescale`: 1/β of Eq. (2), per head, shape (h, 1, 1)."""
        return module.rescale

    def tokens(self, module: AttentionModule, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor, Tensor]:
        """Project an image to queries, keys and values; arguments and results as in the base class.

        The mask's attention multiplies the values in `output`, not here.
        """
        query = self._project(x, module.to_k)
        scale = None if calibrate is None else calibrate(query)
        # Two products, not one with both weights: halves of its rows would be copied by every kernel that reads them.
        key, value = self._project(x, module.to_q, scale), self._project(x, module.to_v, scale)
        return to_tokens(query), to_tokens(key), to_tokens(value)

    def similarity(self, module: AttentionModule, x: Tensor, calibrate: Calibrate | None) -> tuple[Tensor, Tensor]:
        """Compute the cosines of queries and keys; arguments and results as in the base class.

        The Gram matrix of x gives them where it costs less than keys (and queries). Half precision always forms keys
        and queries, because the Gram matrix gets squares of small queries out of large sums.
        """
        pixels = functional.pixels_to_choose_by(x.shape[-2] * x.shape[-1])
        shape = (pixels, module.channels, module.key_channels, module.heads)
        route = functional.similarity_route(*shape, query_needed=calibrate is not None)
        device = x.device.type
        autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        if route == "direct" or autocast or x.element_size() < 4:
            return super().similarity(module, x, calibrate)
        scale = None if calibrate is None else calibrate(self._project(x, module.to_k))
        value = to_tokens(self._project(x, module.to_v, scale))
        key_weight = module.to_q.weight if scale is None else module.to_q.weight * scale.unsqueeze(1)
        return functional.gram_similarity(to_tokens(x), module.to_k.weight, key_weight, module.heads), value

    def _project(self, x: Tensor, linear: nn.Linear, scale: Tensor | None = None) -> Tensor:
        """Map every pixel linearly, with input channels scaled by `scale` (B, C) if given: (B, C, H, W) → image."""
        if scale is not None:
            return pointwise(x, linear.weight * scale.unsqueeze(1))
        # The same as `linear`, by the convolution kernels, which are up to twice as fast at a few dozen channels.
        return F.conv2d(x, linear.weight[:, :, None, None])

    def output(
        self, module: AttentionModule, attention: Tensor, value: Tensor, x: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Apply the attention matrix, project, add the positional branch; arguments and result as in the base class.

        Raises:
            ValueError: if a mask is given without mask guidance, or the other way round, or has another size than `x`.
        """
        if (mask is not None) != self.mask_guided:
            raise ValueError(f"mask must be {'given' if self.mask_guided else 'None'}: mask_guided={self.mask_guided}")
        positional = self._positional(module, to_image(value, x))
        if mask is not None:
            # Upstream's rule: the first mask of the batch guides every image.
            guidance = module.mm(mask[:1])
            if guidance.shape[-2:] != x.shape[-2:]:
                raise ValueError(
                    f"mask (height {mask.shape[-2]}, width {mask.shape[-1]}) must give attention of the size of x, "
                    f"{tuple(x.shape[-2:])}, got {tuple(guidance.shape[-2:])}"
                )
            value = value * to_tokens(guidance)
        return to_image(functional.attend(attention, value, module.proj.weight, module.proj.bias), x) + positional

    def _positional(self, module: AttentionModule, value: Tensor) -> Tensor:
        """Apply the positional branch to values: (B, C', H, W) → (B, C, H, W)."""
        first, second = (module.pos_emb.get_parameter(name) for name in ("0.weight", "2.weight"))
        hidden = F.gelu(depthwise(value, first))
        return depthwise(take_channels(hidden, module.channels), second)
