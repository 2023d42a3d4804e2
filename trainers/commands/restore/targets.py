"""Which file each image of `lowrank restore` is restored into."""

from pathlib import Path

from datamodules.errors import DataError
from datamodules.files.images import IMAGE_SUFFIXES, list_images

# A restored image is not compressed with losses again.
_KEPT_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".webp")


def name_targets(images: list[Path], output: Path, suffix: str) -> dict[Path, Path]:
    """Find the images and name their results, before anything is read or loaded."""
    if output.exists() and not output.is_dir():
        raise DataError(f"output ({output}) must be a folder, got a file; give a folder for the results")
    targets: dict[Path, Path] = {}
    for path in images:
        if path.is_dir():
            sources = [(source, source.relative_to(path)) for source in _search(path)]
        elif path.exists():
            sources = [(path, Path(path.name))]
        else:
            raise DataError(f"images ({path}) must be an existing image or folder, got nothing there; check the path")
        for source, relative in sources:
            extension = relative.suffix if relative.suffix.lower() in _KEPT_SUFFIXES else ".png"
            targets[source] = output / relative.with_name(f"{relative.stem}{suffix}{extension}")

    owners: dict[Path, Path] = {}
    for source, target in targets.items():
        if target.resolve() == source.resolve():
            raise DataError(f"output ({output}) must not replace the image {source}; give another folder or a suffix")
        owner = owners.setdefault(target.resolve(), source)
        if owner.resolve() != source.resolve():
            raise DataError(
                f"images ({owner} and {source}) must have distinct results, got {target} twice; "
                "restore them into different folders"
            )
    # Results of a former run lie below the searched folder when `output` does: they are no images to restore.
    return {source: target for source, target in targets.items() if source.resolve() not in owners}


def _search(folder: Path) -> list[Path]:
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.is_dir()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return found or list_images(folder, "images")  # its message names what is there instead
