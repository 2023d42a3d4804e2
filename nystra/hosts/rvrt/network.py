"""RVRT (Liang et al., NeurIPS 2022): a film restored clip by clip, under its released keys."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nystra.hosts.rvrt.alignment import GuidedAlignment
from nystra.hosts.rvrt.blocks import ConvolvedGroups, FrameConv, Numbered
from nystra.hosts.rvrt.propagation import CLIP_FRAMES, propagate
from nystra.hosts.rvrt.spynet import SpyNet
from nystra.sites.host import WindowHost

# Channels of the layers that enlarge.
UPSAMPLING_CHANNELS = 64
# Size of features beside that of films that are not enlarged.
REDUCTION = 4
# Tokens of frames that are reconstructed at a time, or one frame: 64 channels at four times their size take 64 MiB.
MOST_TOKENS = 2**14
BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")


class RVRT(WindowHost):
    """RVRT for super-resolution of films by 4, deblurring and denoising; arguments and state-dict keys are upstream's.

    Features of clips of two frames are propagated to and fro, twice. Guided deformable attention brings those of the
    clip before to the next; groups of window attention over both frames refine them.

    Films of any size and length are taken. In time, films of an odd number of frames are extended by their last but
    one; in space, those that are not enlarged are mirrored at the bottom and right to a multiple of 4. The published
    figures are of films that were flipped at their edges to multiples of 2 frames and of 8 pixels, which
    `frame_multiple` and `size_multiple` state.

    Upstream's buffers `relative_position_index` are saved for its sake; those of a checkpoint are not read. The
    gradients of the deformable attention are its own, where upstream's operator is wrong
    (`nystra.hosts.rvrt.deformable`).

    Args:
        upscale: 4 (super-resolution) or 1 (deblurring, denoising).
        clip_size: frames of a clip: 2.
        img_size: frames, height and width of the training clips; others are restored as well.
        window_size: t, h and w of the windows, in tokens; before and after the propagation of one frame.
        num_blocks: residual groups before, in and after the propagation.
        depths: blocks of a residual group.
        embed_dims: C before, in and after the propagation: all alike.
        num_heads: heads of window attention, divisors of C.
        mlp_ratio: hidden channels of the feed-forward networks over C.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: factor of q·k; None: (C / heads)^(-1/2).
        inputconv_groups: groups of the first convolutions before the propagation, of its four branches, and after.
        max_residue_magnitude: largest correction of the optical flow, in pixels of the features.
        deformable_groups: groups of channels of keys and values with offsets of their own.
        attention_heads: heads of the deformable attention.
        attention_window: rows and columns of the deformable attention's window, odd.
        nonblind_denoising: whether films have a fourth channel with the noise's standard deviation.

    Attributes:
        frame_multiple: frames of a clip.
        image_channels: 3, or 4 with `nonblind_denoising`.

    Raises:
        ValueError: if an argument is out of range or does not fit the others.

    Examples:
        >>> import torch
        >>> from nystra import RVRT
        >>> net = RVRT(num_blocks=[1, 1, 1], depths=[1, 1, 1], embed_dims=[12, 12, 12], num_heads=[2, 2, 2])
        >>> net(torch.rand(1, 3, 3, 8, 12)).shape
        torch.Size([1, 3, 3, 32, 48])
    """

    frame_multiple: int = CLIP_FRAMES

    def __init__(
        self,
        upscale: int = 4,
        clip_size: int = 2,
        img_size: Sequence[int] = (2, 64, 64),
        window_size: Sequence[int] = (2, 8, 8),
        num_blocks: Sequence[int] = (1, 2, 1),
        depths: Sequence[int] = (2, 2, 2),
        embed_dims: Sequence[int] = (144, 144, 144),
        num_heads: Sequence[int] = (6, 6, 6),
        mlp_ratio: float = 2.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        inputconv_groups: Sequence[int] = (1, 1, 1, 1, 1, 1),
        max_residue_magnitude: float = 10.0,
        deformable_groups: int = 12,
        attention_heads: int = 12,
        attention_window: Sequence[int] = (3, 3),
        nonblind_denoising: bool = False,
    ) -> None:
        super().__init__()
        dim = embed_dims[0] if embed_dims else 0
        triples = (
            ("num_blocks", num_blocks),
            ("depths", depths),
            ("num_heads", num_heads),
            ("window_size", window_size),
        )
        for name, value, correct, rule in (
            ("upscale", upscale, upscale in (1, 4), "1 or 4"),
            ("clip_size", clip_size, clip_size == CLIP_FRAMES, f"{CLIP_FRAMES}: flows are composed for clips of two"),
            ("img_size", list(img_size), len(img_size) == 3 and min(img_size) > 0, "three positive numbers"),
            ("embed_dims", list(embed_dims), len(embed_dims) == 3 and set(embed_dims) == {dim} and dim > 0, "thrice C"),
            *((name, list(each), len(each) == 3 and min(each) > 0, "three positive numbers") for name, each in triples),
            ("window_size", list(window_size), len(set(window_size[1:])) == 1, "(t, side, side)"),
            ("inputconv_groups", list(inputconv_groups), len(inputconv_groups) == 6, "six numbers"),
            ("attention_window", list(attention_window), all(s % 2 for s in attention_window), "of odd sides"),
            (
                "attention_heads",
                attention_heads,
                attention_heads > 0 and 2 * dim % attention_heads == 0,
                "a divisor of 2C",
            ),
            (
                "deformable_groups",
                deformable_groups,
                deformable_groups > 0 and deformable_groups % 2 == 0 and 4 * dim % deformable_groups == 0,
                "an even divisor of 4C",
            ),
            ("nonblind_denoising", nonblind_denoising, not nonblind_denoising or upscale == 1, "false for upscale 4"),
        ):
            if not correct:
                raise ValueError(f"{name} ({value}) must be {rule}")
        self.window_size = self._trained_side = window_size[1]
        self.scale = upscale
        self.image_channels = 4 if nonblind_denoising else 3
        self.spynet = SpyNet()

        def groups(stage: int, inputs: int, parts: int, frames: int) -> ConvolvedGroups:
            return ConvolvedGroups(
                inputs,
                dim,
                parts,
                num_blocks[stage],
                depths[stage],
                num_heads[stage],
                (frames, window_size[1], window_size[2]),
                mlp_ratio,
                qkv_bias,
                qk_scale,
            )

        first = groups(0, self.image_channels if upscale == 4 else dim, inputconv_groups[0], 1)
        self.feat_extract = (
            first
            if upscale == 4
            else Numbered(
                {
                    1: FrameConv(self.image_channels, dim, stride=2),
                    2: nn.LeakyReLU(0.1),
                    3: FrameConv(dim, dim, stride=2),
                    4: nn.LeakyReLU(0.1),
                    6: first,
                }
            )
        )
        taps = (attention_window[0], attention_window[1])
        self.deform_align = nn.ModuleDict(
            {
                name: GuidedAlignment(dim, taps, attention_heads, deformable_groups, clip_size, max_residue_magnitude)
                for name in BRANCHES
            }
        )
        self.backbone = nn.ModuleDict(
            {
                name: groups(1, (2 + index) * dim, inputconv_groups[1 + index], window_size[0])
                for index, name in enumerate(BRANCHES)
            }
        )
        self.reconstruction = groups(2, (1 + len(BRANCHES)) * dim, inputconv_groups[-1], 1)
        inner = UPSAMPLING_CHANNELS
        self.conv_before_upsampler = Numbered({0: FrameConv(dim, inner, side=1), 1: nn.LeakyReLU(0.1)})
        self.upsampler = Numbered(
            {0: FrameConv(inner, 4 * inner), 5: FrameConv(inner, 4 * inner), 10: FrameConv(inner, inner)}
        )
        self.conv_last = FrameConv(inner, 3)

    @property
    def size_multiple(self) -> int:
        """Side of the trained windows: published figures are of frames whose sides are multiples of it."""
        return self._trained_side

    def forward(self, film: Tensor) -> Tensor:
        """Restore a film.

        Args:
            film: shape (B, T, 3, H, W), range [0, 1]; four channels with `nonblind_denoising`. T is at least 2.

        Returns:
            Shape (B, T, 3, scale·H, scale·W), not clamped.

        Raises:
            ValueError: if the film has other channels, or fewer than two frames.
        """
        if film.ndim != 5 or film.shape[2] != self.image_channels or film.shape[1] < CLIP_FRAMES:
            raise ValueError(
                f"film must be (B, T, {self.image_channels}, H, W) of at least {CLIP_FRAMES} frames, "
                f"got {tuple(film.shape)}"
            )
        frames, height, width = film.shape[1], *film.shape[-2:]
        film = mirrored(film, 1, CLIP_FRAMES)
        if self.scale == 1:
            film = mirrored(mirrored(film, 3, REDUCTION), 4, REDUCTION)
        colours = film[:, :, :3]
        later, earlier = self._flows(colours)
        clips = [self.feat_extract(clip.permute(0, 1, 3, 4, 2).contiguous()) for clip in film.split(CLIP_FRAMES, 1)]
        branches = [clips]
        corrected: dict[bool, list[list[Tensor]]] = {}
        for name in BRANCHES:
            backward = name.startswith("backward")
            flows = corrected.get(backward, later.flip(1) if backward else earlier)
            branch, corrected[backward] = propagate(
                branches, flows, self.deform_align[name], self.backbone[name], backward
            )
            branches.append(branch)
        restored = self._reconstruct(branches, colours)
        return restored[:, :frames, :, : height * self.scale, : width * self.scale]

    def _flows(self, film: Tensor) -> tuple[Tensor, Tensor]:
        """Flows from every frame (but the last) to the next, and from every frame (but the first) to that before.

        Where a film is followed by itself, played backwards, both are the same in turn and computed once.
        """
        small = film.flatten(0, 1)
        if self.scale == 1:
            small = F.interpolate(small, scale_factor=1 / REDUCTION, mode="bicubic")
        small = small.unflatten(0, film.shape[:2])
        one, other = (frames.flatten(0, 1) for frames in (small[:, :-1], small[:, 1:]))
        later = self.spynet(one, other).unflatten(0, (len(film), -1))
        # Values are not known while a program is traced.
        if not torch.compiler.is_compiling() and torch.equal(film, film.flip(1)):
            return later, later.flip(1)
        return later, self.spynet(other, one).unflatten(0, (len(film), -1))

    def _reconstruct(self, branches: list[list[Tensor]], film: Tensor) -> Tensor:
        """Map the features of all branches to frames (B, T, 3, scale·H, scale·W) and add the film."""
        height, width = branches[0][0].shape[2:4]
        count = max(1, MOST_TOKENS // (len(film) * height * width))
        whole = [torch.cat(branch, 1) for branch in branches]
        restored = []
        for first in range(0, film.shape[1], count):
            part = slice(first, first + count)
            features = self.reconstruction(torch.cat([branch[:, part] for branch in whole], -1))
            features = self.conv_before_upsampler(features)
            for number, layer in self.upsampler.named_children():
                features = layer(features)
                if number != "10":
                    features = F.leaky_relu(_shuffled(features), 0.1)
            frames = self.conv_last(features).permute(0, 1, 4, 2, 3)
            images = film[:, part].flatten(0, 1)
            if self.scale > 1:
                images = F.interpolate(images, scale_factor=float(self.scale), mode="bilinear", align_corners=False)
            restored.append(frames + images.unflatten(0, frames.shape[:2]))
        return torch.cat(restored, 1)


def _shuffled(features: Tensor) -> Tensor:
    """Enlarge (B, T, H, W, 4·C) to (B, T, 2·H, 2·W, C)."""
    images = F.pixel_shuffle(features.flatten(0, 1).permute(0, 3, 1, 2), 2)
    return images.permute(0, 2, 3, 1).contiguous().unflatten(0, features.shape[:2])


def mirrored(film: Tensor, axis: int, multiple: int) -> Tensor:
    """Extend a film at its end along an axis to a multiple, to and fro without repeating its last slice."""
    size = film.shape[axis]
    if size % multiple == 0:
        return film
    period = max(2 * size - 2, 1)
    places = torch.arange(-(-size // multiple) * multiple, device=film.device) % period
    return film.index_select(axis, torch.minimum(places, 2 * size - 2 - places))
