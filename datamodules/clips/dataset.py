"""Data sets of clips: pairs, or clean clips that are degraded as they are read; whole, or some frames of a patch."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from datamodules.clips.frames import Clip, FrameFolder, open_clip, read_frames
from datamodules.degradations.base import Degradation
from datamodules.errors import DataError
from datamodules.files.images import to_tensor
from datamodules.pairs.dataset import fit_target, whole_multiple
from datamodules.pairs.degraded import CleanImages
from datamodules.pairs.matching import Pairs, listed
from datamodules.pairs.transforms import PairedTransform


class ClipDataset(Dataset[dict[str, Any]]):
    """Reads clips, each a dict of `input` (T, C, H, W), `target` (T, C, scale·H, scale·W) and `name`.

    A training sample is of `num_frames` frames that follow on one another, from a random one on, all cut and turned
    alike. A training patch is degraded with the border that its input depends on; a whole clip is cropped to a multiple
    of the degradation's scale, and gets the same degradation each time.

    Args:
        pairs: clips, as `pair_clips` matches them; or `CleanImages` of clips, which are degraded as they are read.
        patch_size: side of a random patch in pixels of the input; None: whole frames.
        num_frames: frames of a sample; None: the whole clip.
        augment: flips and quarter turns of patches.
        reverse: play half of the training samples backwards.
        repeat: passes over the clips that count as one epoch.
        channels: 1 (grey) or 3 (RGB).
        scale: size of a target relative to its input.

    Raises:
        ValueError: if a number is out of range. Reading an item raises DataError if a clip is damaged, has too few
            frames, or does not fit its counterpart.

    Examples:
        >>> import numpy as np
        >>> from datamodules.clips import ClipDataset, pair_clips
        >>> from datamodules.files import write_image
        >>> for number in range(6):
        ...     _ = write_image(f"blur/a/{number}.png", np.full((16, 24, 3), number, np.uint8))
        ...     _ = write_image(f"sharp/a/{number}.png", np.full((16, 24, 3), number, np.uint8))
        >>> clips = pair_clips("blur", "sharp")
        >>> ClipDataset(clips)[0]["input"].shape
        torch.Size([6, 3, 16, 24])
        >>> ClipDataset(clips, patch_size=8, num_frames=4)[0]["target"].shape
        torch.Size([4, 3, 8, 8])
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        patch_size: int | None = None,
        num_frames: int | None = None,
        augment: bool = True,
        reverse: bool = False,
        repeat: int = 1,
        channels: int = 3,
        scale: int = 1,
    ) -> None:
        if num_frames is not None and num_frames < 2:
            raise ValueError(f"num_frames ({num_frames}) must be at least 2; a clip of one frame is an image")
        if repeat < 1:
            raise ValueError(f"repeat ({repeat}) must be at least 1; it multiplies the length of an epoch")
        self.pairs = pairs
        self.degradation = pairs.degradation if isinstance(pairs, CleanImages) else None
        self.scale = scale if self.degradation is None else self.degradation.scale
        self.num_frames = num_frames
        self.repeat = repeat
        self.reverse = reverse
        self.channels = channels
        self.transform = None
        if patch_size is not None and self.degradation is None:
            self.transform = PairedTransform(patch_size, scale=scale, augment=augment)
        elif patch_size is not None and self.degradation is not None:
            side = (patch_size + 2 * self.degradation.reach) * self.degradation.scale
            self.transform = PairedTransform(side, augment=augment)

    def __len__(self) -> int:
        return self.repeat * len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read a clip, or a part of it.

        Args:
            index: 0 ≤ index < len(self).

        Returns:
            `input` (T, C, H, W), `target` (T, channels, scale·H, scale·W) and `name`.

        Raises:
            DataError: if the clip cannot be used.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index ({index}) must be in [0, {len(self)})")
        number = index % len(self.pairs)
        name = self.pairs.names[number]
        # The index keeps processes apart that start from the same torch seed; a whole clip is always the same.
        seed: Any = number if self.transform is None else (int(torch.randint(2**62, ())), index)
        rng = np.random.default_rng(seed)
        target_clip = open_clip(self.pairs.targets[number])
        start, stop = self._part(target_clip, rng)
        target = read_frames(target_clip, start, stop, self.channels)
        step = -1 if self.transform is not None and self.reverse and rng.integers(2) else 1
        if self.degradation is None:
            input_clip = open_clip(self.pairs.inputs[number])
            check_frames(input_clip, target_clip)
            image = read_frames(input_clip, start, stop, self.channels)
            halves = self._pair(image[::step], target[::step], input_clip.path, target_clip.path, rng)
        else:
            halves = self._degraded(target[::step], self.degradation, rng)
        return {**halves, "name": name}

    def _part(self, clip: Clip, rng: np.random.Generator) -> tuple[int, int]:
        """First frame of a sample, and one past its last."""
        wanted = 2 if self.num_frames is None else self.num_frames
        if len(clip) < wanted:
            raise DataError(
                f"clip {clip.path} must have at least {wanted} frames, got {len(clip)}; remove it, or lower num_frames"
            )
        if self.num_frames is None:
            return 0, len(clip)
        start = int(rng.integers(len(clip) - self.num_frames + 1))
        return start, start + self.num_frames

    def _pair(
        self, image: NDArray, target: NDArray, input_path: Path, target_path: Path, rng: np.random.Generator
    ) -> dict[str, Any]:
        count = len(image)
        first, second = stacked(image), stacked(target)
        second = fit_target(second, first, self.scale, target_path, input_path)
        if self.transform is not None:
            first, second = self.transform(first, second, rng)
        return {"input": _clip_tensor(first, count), "target": _clip_tensor(second, count)}

    def _degraded(self, target: NDArray, degradation: Degradation, rng: np.random.Generator) -> dict[str, Any]:
        clean, count = whole_multiple(stacked(target), self.scale), len(target)
        if self.transform is not None:
            clean, _ = self.transform(clean, clean, rng)
        whole = _clip_tensor(clean, count)
        frames = np.ascontiguousarray(whole.permute(0, 2, 3, 1).numpy())
        degraded = torch.from_numpy(degradation.apply_to_clip(frames, rng)).permute(0, 3, 1, 2)
        reach = 0 if self.transform is None else degradation.reach
        both = {"input": _without_border(degraded, reach), "target": _without_border(whole, reach * self.scale)}
        return {key: frames.contiguous() for key, frames in both.items()}


def check_frames(input_clip: Clip, target_clip: Clip) -> None:
    """Refuse two clips whose frames are not those of each other.

    Raises:
        DataError: if they differ in number or, both being folders, in the numbers of their frames.
    """
    paths = f"clips {input_clip.path} and {target_clip.path}"
    if len(input_clip) != len(target_clip):
        raise DataError(
            f"{paths} must have as many frames, got {len(input_clip)} and {len(target_clip)}; add the missing frames"
        )
    if isinstance(input_clip, FrameFolder) and isinstance(target_clip, FrameFolder):
        alone = set(input_clip.numbers) - set(target_clip.numbers)
        if alone:
            raise DataError(
                f"{paths} must have frames of the same numbers, got {listed(sorted(alone))} in the first only; rename "
                "or replace the wrong ones"
            )


def stacked(frames: NDArray) -> NDArray:
    """Put frames (T, H, W, C) behind one another as channels of one image, (H, W, T·C)."""
    return np.ascontiguousarray(np.moveaxis(frames, 0, 2)).reshape(*frames.shape[1:3], -1)


def _clip_tensor(image: NDArray, count: int) -> torch.Tensor:
    return to_tensor(image).reshape(count, -1, *image.shape[:2])


def _without_border(frames: torch.Tensor, border: int) -> torch.Tensor:
    height, width = frames.shape[-2:]
    return frames[..., border : height - border, border : width - border]
