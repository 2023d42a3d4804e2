"""Random crops and symmetries, the same for an image and its target; the only importer of albumentations."""

import os
import random

import cv2
import numpy as np
from numpy.typing import NDArray

# Albumentations asks a package index for its newest version while it is imported; training must not need a network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A


class PairedTransform:
    """Cut the same random patch out of an image and its target, and turn or mirror both alike.

    An image smaller than the patch is first extended at its bottom and right by reflection (edge pixels repeated), as
    restoration codebases do; repeating the edge keeps a target of larger scale aligned.

    All randomness comes from the generator given with each call: an albumentations pipeline owns a generator that every
    dataloader worker would inherit in the same state, and that no checkpoint records.

    Args:
        patch_size: side of the square patch in pixels of the input; the target's is `scale` times that.
        scale: size of a target relative to its input.
        augment: draw one of the eight symmetries of the square (flips and quarter turns) with equal chances.

    Raises:
        ValueError: if `patch_size` or `scale` is not positive.

    Examples:
        >>> import numpy as np
        >>> from datamodules import PairedTransform
        >>> image = np.arange(32 * 48).reshape(32, 48, 1).astype(np.uint16)
        >>> cut = PairedTransform(16)
        >>> patch, target = cut(image, image, np.random.default_rng(0))
        >>> patch.shape, bool((patch == target).all())
        ((16, 16, 1), True)
    """

    def __init__(self, patch_size: int, *, scale: int = 1, augment: bool = True) -> None:
        if patch_size < 1:
            raise ValueError(f"patch_size ({patch_size}) must be at least 1; use 64 to 384 to train")
        if scale < 1:
            raise ValueError(f"scale ({scale}) must be at least 1; it says how much larger than the input a target is")
        self.patch_size = patch_size
        self.scale = scale
        self._window = A.RandomCrop(patch_size, patch_size)
        self._crop = A.Compose([self._window])
        self._turn = A.Compose(
            [A.D4(p=1.0)] if augment else [], additional_targets={"target": "image"}, is_check_shapes=False
        )

    def __call__(self, image: NDArray, target: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        """Draw a patch and a symmetry.

        Args:
            image: shape (H, W, C), uint8, uint16 or float32.
            target: shape (scale·H, scale·W, C').
            rng: source of the crop's position and the symmetry.

        Returns:
            Patches of shape (patch_size, patch_size, C) and (scale·patch_size, scale·patch_size, C').
        """
        state = random.Random(int(rng.integers(2**63)))
        for pipeline in (self._crop, self._turn):
            pipeline.set_random_state(rng, state)
        missing = [max(0, self.patch_size - side) for side in image.shape[:2]]
        image = _extend(image, *missing)
        target = _extend(target, *(self.scale * side for side in missing))
        image = self._crop(image=image)["image"]
        left, top, right, bottom = (self.scale * edge for edge in self._window.get_applied_params()["crop_coords"])
        patches = self._turn(image=image, target=target[top:bottom, left:right])
        return patches["image"], patches["target"]


def _extend(image: NDArray, bottom: int, right: int) -> NDArray:
    if not (bottom or right):
        return image
    extended = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REFLECT)
    return extended.reshape(*extended.shape[:2], image.shape[2])
