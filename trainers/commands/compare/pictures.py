"""Pictures of a comparison as files: what was given, what every variant made of it, and what is wanted."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.files.images import to_array, write_image
from trainers.figures.sheets.crops import Scene

FOLDER = "pictures"


def save_pictures(folder: Path, scenes: Sequence[Scene]) -> dict[str, dict[str, str]]:
    """Write the pictures of some images, each by itself.

    Args:
        folder: of the comparison; they are `pictures/NUMBER/NUMBER.png` in it.
        scenes: an image each, with its input, variants and target, shape (C, H, W).

    Returns:
        Image → what is shown → file, from `folder`, as `metrics.json` names them.
    """
    written: dict[str, dict[str, str]] = {}
    for number, scene in enumerate(scenes):
        # Images of several sets may share a name.
        name = scene.name if scene.name not in written else f"{scene.name} ({number})"
        files = written.setdefault(name, {})
        for index, (label, image) in enumerate(scene.versions.items()):
            # Kernels' names are no names of files.
            files[label] = f"{FOLDER}/{number}/{index}.png"
            write_image(folder / files[label], to_array(image))
    return written
