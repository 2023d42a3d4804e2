"""Photographs that come with installed packages: nothing is downloaded."""

from functools import cache
from importlib.resources import as_file, files

from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.files.images import read_image

# Name → package and file in it.
_SOURCES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
_DISTRIBUTIONS = {"skimage": "scikit-image", "matplotlib": "matplotlib"}


@cache
def photograph(name: str) -> NDArray:
    """Read a bundled photograph, once in a process.

    scikit-image's own functions are not used: some of them fetch what a wheel does not hold.

    Args:
        name: one of astronaut (512×512), chelsea (300×451), coffee (400×600), motorcycle (500×741), rocket (427×640),
            hopper (600×512; height × width).

    Returns:
        Shape (H, W, 3), uint8, RGB; shared and not writable.

    Raises:
        DataError: if the installed package does not hold the file.
    """
    package, file = _SOURCES[name]
    resource = files(package).joinpath(file)
    if not resource.is_file():
        raise DataError(
            f"photograph {name} must be in the installed package {package} as {file}, got none; reinstall it: "
            f"pip install --force-reinstall {_DISTRIBUTIONS[package]}"
        )
    with as_file(resource) as path:
        image = read_image(path)
    image.setflags(write=False)
    return image
