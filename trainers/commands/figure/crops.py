"""`lowrank figure crops`: a sheet of crops of images that were restored into folders."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from datamodules.files.images import convert_channels, list_images, read_image, to_tensor
from trainers.commands.figure.output import tell
from trainers.errors import nearest
from trainers.figures.sheets.crops import INPUT, TARGET, Region, Scene, draw_crops
from trainers.figures.style import Drawing
from trainers.reports.profiling import check_counts


def figure_crops(
    versions: list[str],
    *,
    reference: str | None = None,
    names: Sequence[str] = (),
    count: int = 3,
    region: tuple[int, int, int, int] | None = None,
    output: Path = Path("logs/figures/crops"),
) -> Drawing:
    """Draw the same parts of images from several folders side by side, with maps of their differences.

    Args:
        versions: each as NAME=FOLDER, in the order of the sheet, with images of the same names, of any formats: the
            inputs as input=FOLDER, restored images under any names, and the clean ones as target=FOLDER.
        reference: name that differences are from; null: the first one that is neither input nor target.
        names: of the images, without endings; none: `count` of those that are in all folders, evenly spread.
        count: number of images without `names`.
        region: top, left, height and width of the part in pixels; null: where the versions differ most.
        output: name of the files: PDF, PNG and CSV; their folder is made if it is missing.

    Returns:
        The figure and its decibels.

    Raises:
        DataError: if a folder has no images or one cannot be read.
        ValueError: if folders are not named, have no image in common, or options do not fit.
    """
    check_counts(count=count)
    files: dict[str, dict[str, Path]] = {}
    for each in versions:
        name, equals, folder = each.partition("=")
        if not equals or not name or name in files:
            raise ValueError(f"versions ({each}) must each be NAME=FOLDER with a name of its own, such as target=clean")
        files[name] = {file.stem: file for file in list_images(folder, "versions")}
    results = [name for name in files if name not in (INPUT, TARGET)]
    reference = reference or next(iter(results), TARGET)
    if reference not in files:
        raise ValueError(f"reference ({reference}) must be one of {', '.join(files)}{nearest(reference, files)}")
    common = [stem for stem in files[reference] if all(stem in found for found in files.values())]
    if not common:
        raise ValueError(f"versions ({', '.join(versions)}) must have an image of the same name in all, have none")
    for name in names:
        if name not in common:
            raise ValueError(f"names ({name}) must be images of all folders{nearest(name, common)}")
    places = torch.linspace(0, len(common) - 1, min(count, len(common))).round().long().tolist()
    scenes = [
        Scene(
            stem,
            {name: _read(found[stem]) for name, found in files.items()},
            None if region is None else Region(*region),
        )
        for stem in (names or [common[place] for place in places])
    ]
    drawing = draw_crops(scenes, reference=reference)
    tell(drawing, output)
    return drawing


def _read(file: Path) -> Tensor:
    return to_tensor(convert_channels(read_image(file)[..., :3], 3))
