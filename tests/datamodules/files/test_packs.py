"""Packs of images."""

import h5py
import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.files.images import list_images, read_image
from datamodules.files.packs import PACK_NAME, read_packed, write_pack
from tests.datamodules.conftest import coordinates


def test_damaged_packs_are_named(tmp_path):
    write_pack(tmp_path / "folder", [("a.png", coordinates(4, 4))])
    pack = tmp_path / "folder" / PACK_NAME
    with pytest.raises(DataError, match=r"image .*b\.png must be in .*images\.h5, got no such image"):
        read_image(pack / "b.png")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / PACK_NAME).write_bytes(pack.read_bytes()[:200])
    for action in (list_images, lambda folder: read_image(folder / PACK_NAME / "a.png")):
        with pytest.raises(DataError, match=r"pack .*broken/images\.h5 must be a complete file of images"):
            action(tmp_path / "broken")


@pytest.mark.parametrize(
    "make",
    [
        lambda file: file.create_group("a.png"),
        lambda file: file.create_dataset("a.png", data=np.zeros((4, 4, 3))),
        lambda file: file.create_dataset("a.png", data=np.zeros((4, 4), np.uint8)),
        lambda file: file.create_dataset("a.png", data=np.zeros((4, 4, 5), np.uint8)),
        lambda file: file.create_dataset("a.png", (0, 4, 3), np.uint8),
        lambda file: file.create_dataset("a.png", (10**6, 10**6, 3), np.uint8, chunks=(4, 4, 3)),
        lambda file: file.create_dataset("a.png", data="text"),
    ],
)
def test_what_is_no_image_in_a_pack_is_refused(tmp_path, make):
    with h5py.File(tmp_path / PACK_NAME, "w") as file:
        make(file)
    with pytest.raises(DataError, match=r"a\.png must be of shape"):
        read_packed(tmp_path / PACK_NAME / "a.png")
