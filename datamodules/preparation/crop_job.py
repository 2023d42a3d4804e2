"""Jobs of cutting or packing a training set, and their results."""

from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.base.crops import Cut
from datamodules.clips.frames import FrameFolder
from datamodules.pairs.degraded import CleanImages
from datamodules.pairs.matching import Pairs


@dataclass(frozen=True)
class CropJob:
    """Crops or packs to be made of one training set.

    Attributes:
        dataset: name of the data set that they are made of.
        pairs: the images.
        folder: what appears when all is made.
        inputs: folder in it for crops of inputs.
        targets: folder in it for crops of targets.
        cut: places of the crops.
        scale: size of a target relative to its input.
        pack: make packs (`datamodules.files.packs`) instead of a file each; of whole images nothing else can be made.

    Raises:
        ValueError: if a side, step or number is not positive, or crops would not lie on the pixels of the inputs.
    """

    dataset: str
    pairs: Pairs
    folder: Path
    inputs: str
    targets: str
    cut: Cut
    scale: int = 1
    pack: bool = False

    def __post_init__(self) -> None:
        numbers = {"crop_size": self.cut.size, "step": self.cut.step, "crops_per_image": self.cut.random}
        for name, value in numbers.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} ({value}) must be at least 1")
            if value is not None and name != "crops_per_image" and value % self.scale:
                raise ValueError(
                    f"{name} ({value}) must be a multiple of the scale, {self.scale}; it counts pixels of the target"
                )
        if self.cut.size is None and not self.pack:
            raise ValueError(f"pack (False) must be true for {self.dataset}, whose images are trained on whole")

    @property
    def sources(self) -> dict[str, tuple[Path, ...]]:
        """The folders that are written and the images of each; inputs that are made as they are read have none."""
        inputs = {} if isinstance(self.pairs, CleanImages) else {self.inputs: self.pairs.inputs}
        return {**inputs, self.targets: self.pairs.targets}

    @property
    def of_clips(self) -> bool:
        """Whether what is packed are clips, folders of frames, of which each gets a pack."""
        return bool(self.pairs.targets) and self.pairs.targets[0].is_dir()

    @property
    def whole_images(self) -> dict[str, dict[str, Path]]:
        """The folders of packs that are written, and the images of each by name.

        Raises:
            DataError: if a clip is no folder of frames, or one of its frames is missing.
        """
        if not self.of_clips:
            return {half: {f"{path.stem}.png": path for path in paths} for half, paths in self.sources.items()}
        return {
            f"{half}/{name}": {f"{file.stem}.png": file for file in FrameFolder(path).files}
            for half, paths in self.sources.items()
            for name, path in zip(self.pairs.names, paths, strict=True)
        }

    @property
    def settings(self) -> dict[str, object]:
        """Values in which two runs must agree for one to go on with what the other began."""
        return {"dataset": self.dataset, "scale": self.scale, "pack": self.pack, **asdict(self.cut)}

    @property
    def unfinished(self) -> Path:
        """The hidden folder beside the final one that holds what is made so far."""
        return self.folder.with_name(f".{self.folder.name}.unfinished")


@dataclass(frozen=True)
class Made:
    """Numbers of what is there after a run.

    Attributes:
        images: images of the whole set, or clips.
        crops: crops of all of them, or frames.
        new: images that this run cut; 0 if all was there.
    """

    images: int
    crops: int
    new: int
