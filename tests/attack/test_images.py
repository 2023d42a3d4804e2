"""Hostile image files and folders: each is read, or refused by name; nothing else happens, and no library speaks."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.files.images import list_images, read_image_with_metadata, write_image
from tests.attack.inputs.images import BEGINNINGS, damaged
from tests.datamodules.files import picture_kinds, pictures
from trainers.commands.restore.targets import name_targets

EACH = 300


@pytest.mark.parametrize("kind", ["tiffs", "pngs", "others", "refused"])
def test_damaged_files_are_read_or_refused_by_name(tmp_path, capfd, kind):
    chance = random.Random(kind)
    sound = [(entry[0], entry[1]) for entry in getattr(picture_kinds, kind)()]
    capfd.readouterr()
    for number in range(EACH):
        name, data = chance.choice(sound)
        path = tmp_path / f"{number}_{name}"
        path.write_bytes(damaged(data, chance))
        try:
            image, _ = read_image_with_metadata(path)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert image.ndim == 3
            assert image.shape[2] in (1, 3, 4)
            assert image.dtype in (np.uint8, np.uint16, np.float32)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("data", BEGINNINGS)
def test_beginnings_of_formats_are_refused(tmp_path, capfd, data):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png must "):
        read_image_with_metadata(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("sides", [(2**16, 2**16), (2**31 - 1, 1), (1, 2**31 - 1)])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_small_files_that_claim_large_pictures_take_no_memory(tmp_path, sides, compression):
    data = pictures.by_tifffile(pictures.pixels(), photometric="rgb", compression=compression)
    for tag, side in zip((256, 257), sides, strict=True):
        data = pictures.retagged(data, tag, side)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tif must"):
        read_image_with_metadata(tmp_path / "a.tif")


@pytest.mark.skipif(os.name != "posix", reason="pipes, links and undecodable names are made as POSIX has them")
def test_hostile_folders_are_searched_once_and_for_images_alone(tmp_path):
    folder = tmp_path / "in"
    write_image(folder / "a.png", pictures.pixels())
    write_image(folder / "sub" / "b.png", pictures.pixels())
    write_image(folder / os.fsdecode(b"\xff\xfe.png"), pictures.pixels())
    write_image(folder / f"{'c' * 251}.png", pictures.pixels())
    write_image(folder / "[bold]\n$(touch x).png", pictures.pixels())
    os.mkfifo(folder / "pipe.png")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "folder.png").mkdir()
    (folder / "itself").symlink_to(folder, target_is_directory=True)
    (folder / "loop.png").symlink_to("loop.png")
    names = {path.name for path in list_images(folder)}
    assert len(names - {"loop.png"}) == 4
    targets = dict(name_targets([folder], tmp_path / "out"))
    assert not {path.name for path in targets} & {"pipe.png", "device.png", "folder.png"}
    assert {path.parent for path in targets.values()} == {tmp_path / "out", tmp_path / "out" / "sub"}
    assert all(Path(tmp_path / "out") in path.parents for path in targets.values())
