"""Clips of video super-resolution: the degradations BI and BD, and the test sets Vid4 and UDM10."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from datamodules.base.parts import Part, PublishedDataSet
from datamodules.base.video import VideoTestSets
from datamodules.clips.checks import check_clips
from datamodules.degradations.base import Degradation
from datamodules.degradations.downsampling import BicubicDownsampling, BlurDownsampling

Kind = Literal["BI", "BD"]


def downsampling(kind: Kind, scale: int) -> Degradation:
    """Return the degradation of benchmarks: BI, MATLAB's bicubic; BD, blurred by σ 1.6 and sampled.

    Raises:
        ValueError: if `kind` is another.
    """
    if kind not in ("BI", "BD"):
        raise ValueError(f"degradation ({kind}) must be BI (bicubic) or BD (blurred and sampled)")
    return BicubicDownsampling(scale, eight_bit=True) if kind == "BI" else BlurDownsampling(scale, eight_bit=True)


class Vid4DataModule(VideoTestSets, PublishedDataSet):
    """Vid4 (Liu and Sun, TPAMI 2014) and UDM10 (Yi et al., ICCV 2019), to be downloaded and tested on.

    Vid4 has calendar, city, foliage and walk, 720×576 or 720×480 pixels, 34 to 49 frames; UDM10 ten clips of 32 frames.
    The papers state no licence. Layouts are those of `VideoTestSets`, with inputs in `BIx4` (or `BDx4`); where they are
    not there, they are made, as 8-bit levels. Networks of `degradation` BD are published on these sets too.

    Args:
        root: the folder that the sets are in, or a set's own.
        degradation: BI, MATLAB's bicubic; or BD, a blur of σ 1.6 of which every fourth pixel is kept.
        scale: size of a target relative to its input.
        val_sets: what validates during a training on other data.
        test_sets: what to test on.
        **kwargs: of `VideoDataModule`.

    Raises:
        ValueError: if the degradation is another, or a number is out of range.

    Examples:
        >>> import numpy as np
        >>> from datamodules import Vid4DataModule
        >>> from datamodules.files import write_image
        >>> for number in range(3):
        ...     _ = write_image(f"Vid4/GT/walk/{number:08}.png", np.full((16, 24, 3), 200, np.uint8))
        >>> data = Vid4DataModule("Vid4", num_workers=0)
        >>> data.setup("test")
        >>> sample = next(iter(data.test_dataloader()[0]))
        >>> sample["input"].shape, sample["target"].shape, sample["name"]
        (torch.Size([1, 3, 3, 4, 6]), torch.Size([1, 3, 3, 16, 24]), ['walk'])
    """

    counts: ClassVar[dict[str, int]] = {"Vid4": 4, "UDM10": 10}
    scales = (4,)

    def __init__(
        self,
        root: Path,
        *,
        degradation: Kind = "BI",
        scale: int = 4,
        val_sets: Sequence[str] = (),
        test_sets: Sequence[str] = ("Vid4", "UDM10"),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            root,
            input_names=[f"{degradation}x{scale}"],
            degradation=downsampling(degradation, scale),
            scale=scale,
            val_sets=val_sets,
            test_sets=test_sets,
            **kwargs,
        )

    @classmethod
    def parts(cls, root: Path, scale: int) -> Iterator[Part]:
        """List both sets."""
        data = cls(root, scale=scale)
        for name, published in cls.counts.items():
            find = partial(data.test_set, name) if data.folder_of(name) else None
            yield Part(name, published, find, partial(check_clips, scale=scale))
