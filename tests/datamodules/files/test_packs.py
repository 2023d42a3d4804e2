"""Packs of images."""

import pytest

from datamodules.errors import DataError
from datamodules.files.images import list_images, read_image
from datamodules.files.packs import PACK_NAME, write_pack
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
