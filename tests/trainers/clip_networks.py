"""Small networks of clips that stand for large ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ClipNetwork(nn.Module):
    """Adds to every pixel a learned mean over three frames and three by three pixels; may enlarge.

    Like a network of video it demands a multiple of frames and pixels.
    """

    frame_multiple = 2
    size_multiple = 8

    def __init__(self, scale: int = 1, channels: int = 3) -> None:
        super().__init__()
        self.scale = scale
        self.image_channels = channels
        self.spynet = nn.Conv2d(channels, channels, 1, bias=False)
        self.mix = nn.Conv3d(channels, 3, 3, padding=1, bias=False)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            for weight in self.parameters():
                weight.copy_(0.05 * torch.rand(weight.shape, generator=generator))

    def forward(self, clip: Tensor) -> Tensor:
        frames, height, width = clip.shape[1], *clip.shape[-2:]
        assert frames % self.frame_multiple == 0
        assert height % self.size_multiple == width % self.size_multiple == 0
        flow = self.spynet(clip.flatten(0, 1)).unflatten(0, clip.shape[:2])
        mixed = self.mix((clip + flow).transpose(1, 2)).transpose(1, 2)
        larger = F.interpolate((clip[:, :, :3] + mixed).flatten(0, 1), scale_factor=self.scale)
        return larger.unflatten(0, clip.shape[:2])


class FrameNumbers(nn.Module):
    """Returns for every frame its number in the tile, to see which tile counts where."""

    frame_multiple = 2

    def forward(self, clip: Tensor) -> Tensor:
        numbers = torch.arange(clip.shape[1], dtype=clip.dtype)
        return torch.zeros_like(clip) + numbers[:, None, None, None]
