"""Clips of one's own: pairs of clips, or clean clips that are degraded as they are read."""

from pathlib import Path
from typing import Any

from datamodules.base.own_images import OwnImagesDataModule
from datamodules.base.video import ClipDataModule, clean_clips
from datamodules.clips.matching import list_clips, pair_clips
from datamodules.degradations.base import Degradation
from datamodules.errors import DataError
from datamodules.pairs.folders import PartName, find_halves, find_part
from datamodules.pairs.matching import Pairs


class ClipFolderDataModule(ClipDataModule, OwnImagesDataModule):
    """Clips of one's own, folders of frames or films, in the layouts of folders of images.

    Layout::

        root/{input,target}/CLIP                    pairs; all train; `val_images` splits clips off for validation
        root/{train,val,test}/{input,target}/CLIP   val and test may be absent
        root/CLIP, root/{train,val,test}/CLIP       clean clips, with `degradation`

    CLIP is a folder of frames in the order of their numbers, or a film. Instead of `input` and `target` the folders may
    have the names that `PairedFolderDataModule` knows. A set is called by the folder that its clips are in.

    Args:
        root: the folder.
        degradation: makes inputs of clean clips; None: there are pairs.
        num_frames: frames of a training sample; None: whole clips.
        **kwargs: of `OwnImagesDataModule`, which count clips for images.

    Raises:
        ValueError: if a number is out of range.

    Examples:
        >>> import numpy as np
        >>> from datamodules import ClipFolderDataModule
        >>> from datamodules.degradations import BlurDownsampling
        >>> from datamodules.files import write_image
        >>> for clip in ("garden", "street"):
        ...     for number in range(4):
        ...         _ = write_image(f"mine/{clip}/{number}.png", np.full((32, 48, 3), 200, np.uint8))
        >>> data = ClipFolderDataModule(
        ...     "mine", BlurDownsampling(4), num_frames=2, val_images=1, patch_size=4, batch_size=1, num_workers=0
        ... )
        >>> data.setup("fit")
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["input"].shape, batch["target"].shape
        (torch.Size([1, 2, 3, 4, 4]), torch.Size([1, 2, 3, 16, 16]))
        >>> data.val_set_names
        ['mine-val']
    """

    def __init__(
        self, root: Path, degradation: Degradation | None = None, *, num_frames: int | None = 16, **kwargs: Any
    ) -> None:
        if degradation is not None:
            kwargs["scale"] = degradation.scale
        super().__init__(num_frames=num_frames, **kwargs)
        self.root = Path(root)
        self.degradation = degradation

    def has_validation(self) -> bool:
        """Whether `root` has a validation folder."""
        return find_part(self.root, "val") is not None

    def find(self, part: PartName) -> tuple[str, Pairs]:
        """Find the clips of a part.

        Raises:
            DataError: if there are none.
        """
        folder = find_part(self.root, part)
        if folder is None and part != "train":
            raise DataError(f"root ({self.root}) must hold {part} with clips, got none; add the folder")
        folder = folder or self.root
        name = folder.resolve().name
        if self.degradation is not None:
            return name, clean_clips(list_clips(folder, "root"), self.degradation)
        inputs, targets = find_halves(folder, part)
        return name, pair_clips(
            inputs, targets, input_argument=f"root's {inputs.name}", target_argument=f"root's {targets.name}"
        )
