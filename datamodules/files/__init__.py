"""The only readers and writers: pictures, cubes and packs; files that are complete or absent."""

from datamodules.files.atomic import atomic_file
from datamodules.files.cubes import list_cubes, read_cube, write_cube
from datamodules.files.images import list_images, read_image, to_array, to_tensor, write_image

__all__ = [
    "atomic_file",
    "list_cubes",
    "list_images",
    "read_cube",
    "read_image",
    "to_array",
    "to_tensor",
    "write_cube",
    "write_image",
]
