"""GoPro: motion blur made by averaging the frames of high-speed videos."""

from pathlib import Path
from typing import Any

from datamodules.base import PairedImageDataModule
from datamodules.errors import DataError
from datamodules.layout import find_data_set, shortfall
from datamodules.paired import Pairs, pair_folders

COUNTS = {"train": 2103, "test": 1111}


class GoProDataModule(PairedImageDataModule):
    """GoPro (Nah, Kim and Lee, CVPR 2017), to be downloaded by the user: 2103 training and 1111 test pairs of 720×1280.

    Either layout::

        GoPro/{train,test}/{input,target}                       as the repository of Restormer arranges it
        GOPRO_Large/{train,test}/GOPRxxxx_xx_xx/{blur,sharp}    as released, one folder a video

    Restormer trains on crops of 512×512 at a step of 256, in the first layout. In the second an image is called
    `GOPRxxxx_xx_xx-000001`, as in the first.

    Args:
        root: the folder `GoPro` or `GOPRO_Large`, or the one that it is in.
        val_images: test images, evenly spaced, that validate during training; 0 for none. GoPro has no validation
            split, and published recipes watch the test set.
        **kwargs: of `PairedImageDataModule`.

    Raises:
        ValueError: if `val_images` is negative.
    """

    def __init__(self, root: Path, *, val_images: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if val_images < 0:
            raise ValueError(f"val_images ({val_images}) must be at least 0; 0 trains without validation")
        self.root = Path(root)
        self.val_images = val_images

    @property
    def published_counts(self) -> dict[str, int]:
        """Number of images of the test set, as published; see base class."""
        return {"GoPro": COUNTS["test"]}

    def train_pairs(self) -> Pairs:
        """Find the training pairs."""
        return self._pairs("train")

    def val_pairs(self) -> dict[str, Pairs]:
        """Find the test images that validate."""
        if not self.val_images:
            return {}
        pairs = self._pairs("test")
        count = min(self.val_images, len(pairs))
        chosen = [i * len(pairs) // count for i in range(count)]
        return {"GoPro": _select(pairs, chosen)}

    def test_pairs(self) -> dict[str, Pairs]:
        """Find the test pairs."""
        return {"GoPro": self._pairs("test")}

    def _pairs(self, split: str) -> Pairs:
        folder = find_data_set(self.root, ("GoPro", "GOPRO_Large")) / split
        videos = [path.parent for path in sorted(folder.glob("*/blur"))]
        if videos:
            parts = [self._pair(video / "blur", video / "sharp", f"{split}/{video.name}") for video in videos]
            names = [f"{v.name}-{name}" for v, part in zip(videos, parts, strict=True) for name in part.names]
            pairs = Pairs(
                tuple(path for part in parts for path in part.inputs),
                tuple(path for part in parts for path in part.targets),
                tuple(names),
            )
        elif (folder / "input").is_dir():
            pairs = self._pair(folder / "input", folder / "target", split)
        else:
            raise DataError(
                f"root ({self.root}) must hold {folder} with input and target, or blur and sharp in a folder for each "
                "video, got neither; download the data set, or check the path"
            )
        if message := shortfall(f"GoPro/{split}", pairs, COUNTS[split]):
            self._say(message)
        return pairs

    @staticmethod
    def _pair(inputs: Path, targets: Path, place: str) -> Pairs:
        return pair_folders(
            inputs,
            targets,
            input_argument=f"root's {place}/{inputs.name}",
            target_argument=f"root's {place}/{targets.name}",
        )


def _select(pairs: Pairs, indices: list[int]) -> Pairs:
    return Pairs(
        tuple(pairs.inputs[i] for i in indices),
        tuple(pairs.targets[i] for i in indices),
        tuple(pairs.names[i] for i in indices),
    )
