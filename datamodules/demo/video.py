"""The demonstration of video: clips made of the bundled photographs, degraded as they are made."""

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.degradations.base import Degradation
from datamodules.degradations.downsampling import BlurDownsampling
from datamodules.demo.clips import moving_view, photograph_with_depth
from datamodules.demo.restoration import PhotographDataModule, Sample
from datamodules.files.images import to_tensor


class VideoDemoDataModule(PhotographDataModule):
    """Clips made of the photographs of `PhotographDataModule`: a camera moves over them, with parallax (`moving_view`).

    Args:
        degradation: what happens to the clean clips; None: `BlurDownsampling(4)`, BD of video super-resolution.
        num_frames: frames of a training sample, at least 2.
        eval_frames: frames of a held-out clip, at least 2.
        patch_size: side of a training patch, in pixels of the input.
        batch_size: training clips in a step of the optimiser, over all devices.
        num_workers: processes that make clips; 0 does it in the main process.
        seed: of all patches, paths and degradations, at least 0.
        epoch_length: training clips in an epoch, over all devices.
        augment: flips and quarter turns, the same for all frames.
        eval_size: largest side of a held-out clip in pixels, at least 8 times the degradation's scale.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> from datamodules import VideoDemoDataModule
        >>> data = VideoDemoDataModule(num_frames=4, patch_size=16, batch_size=2, eval_size=64)
        >>> data.setup("fit")
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["input"].shape, batch["target"].shape
        (torch.Size([2, 4, 3, 16, 16]), torch.Size([2, 4, 3, 64, 64]))
    """

    set_name = "demo_video"

    def __init__(
        self,
        degradation: Degradation | None = None,
        *,
        num_frames: int = 6,
        eval_frames: int = 8,
        patch_size: int = 24,
        batch_size: int = 4,
        num_workers: int = 0,
        seed: int = 0,
        epoch_length: int = 400,
        augment: bool = True,
        eval_size: int = 128,
    ) -> None:
        self.degradation = BlurDownsampling(4) if degradation is None else degradation
        super().__init__(
            scale=self.degradation.scale,
            patch_size=patch_size,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            epoch_length=epoch_length,
            augment=augment,
            eval_size=eval_size,
        )
        for name, value in (("num_frames", num_frames), ("eval_frames", eval_frames)):
            if value < 2:
                raise ValueError(f"{name} ({value}) must be at least 2; a clip of one frame is an image")
        self.num_frames = num_frames
        self.eval_frames = eval_frames

    @property
    def margin(self) -> int:
        """Pixels around a clip that the camera moves over: at least 16, and so many that sides stay multiples."""
        unit = 4 * self.scale
        return unit * -(-16 // unit)

    def picture(self, name: str) -> NDArray:
        """Read a photograph with its depth."""
        return photograph_with_depth(name)

    def training_sample(self) -> Sample:
        """Return the function that makes a clip of a patch, and degrades it."""
        return partial(clip_sample, degradation=self.degradation, num_frames=self.num_frames, margin=self.margin)

    def held_out_sample(self) -> Sample:
        """Return the function that makes a clip of an image, and degrades it."""
        return partial(clip_sample, degradation=self.degradation, num_frames=self.eval_frames, margin=self.margin)


def clip_sample(
    picture: NDArray, *, degradation: Degradation, num_frames: int, margin: int, rng: np.random.Generator, name: str
) -> dict[str, Any]:
    """Make a clip of a picture, and degrade it.

    Args:
        picture: shape (H, W, 4), see `moving_view`.
        degradation: of the clip.
        num_frames: of the clip.
        margin: that the camera moves over.
        rng: the source of the path and of the degradation's randomness.
        name: of the sample.

    Returns:
        `input` (T, C, h, w) and `target` (T, 3, scale·h, scale·w), float32, and `name`.
    """
    clean = moving_view(picture, num_frames, rng, margin=margin)
    target = torch.stack([to_tensor(frame) for frame in clean])
    degraded = degradation.apply_to_clip(clean.astype(np.float32) / np.float32(255), rng)
    return {"input": torch.from_numpy(degraded).permute(0, 3, 1, 2).contiguous(), "target": target, "name": name}
