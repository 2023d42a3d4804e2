"""RESIDE in both layouts: scenes of several hazes, clean images cropped at the centre, errors."""

from pathlib import Path

import numpy as np
import pytest

from datamodules import DataError, RESIDEDataModule
from datamodules.files.images import write_image
from datamodules.restoration.reside import scene_pairs


def fill(folder: Path, names: list[str], size: tuple[int, int] = (20, 24)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        ramp = np.arange(size[0] * size[1] * 3, dtype=np.uint32).reshape(*size, 3)
        write_image(folder / f"{name}.png", ((ramp + index) % 251).astype(np.uint8))


@pytest.fixture
def sots(tmp_path: Path) -> Path:
    fill(tmp_path / "SOTS-indoor" / "hazy", ["1400_1", "1400_10", "1401_1"])
    fill(tmp_path / "SOTS-indoor" / "GT", ["1400", "1401"], (24, 30))
    return tmp_path / "SOTS-indoor"


def test_hazes_are_paired_with_their_scene_and_clean_images_cut_at_the_centre(sots):
    for root in (sots, sots.parent):
        data = RESIDEDataModule(root, num_workers=0)
        data.setup("test")
        assert data.test_set_names == ["SOTS-indoor"]
        (loader,) = data.test_dataloader()
        batches = list(loader)
        assert [batch["name"][0] for batch in batches] == ["1400_1", "1400_10", "1401_1"]
        assert batches[0]["input"].shape == batches[0]["target"].shape == (1, 3, 20, 24)
        whole = np.arange(24 * 30 * 3).reshape(24, 30, 3)[2:22, 3:27] % 251
        np.testing.assert_allclose(batches[0]["target"][0].permute(1, 2, 0).numpy() * 255, whole, atol=1e-3)


def test_the_published_count_is_that_of_the_set_found(sots):
    data = RESIDEDataModule(sots)
    assert data.published_counts == {}
    data.setup("test")
    assert data.published_counts == {"SOTS-indoor": 500}
    data = RESIDEDataModule(sots.rename(sots.with_name("mine")))
    data.setup("test")
    assert data.published_counts == {}


def test_subsets_are_found_as_dehazeformer_arranges_them(tmp_path, caplog):
    for split in ("train", "test"):
        for kind in ("hazy", "GT"):
            fill(tmp_path / "RESIDE-6K" / split / kind, ["0001", "0002"])
    data = RESIDEDataModule(tmp_path, subset="RESIDE-6K", patch_size=8, batch_size=2, num_workers=0)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["input"].shape == (2, 3, 8, 8)
    assert data.val_set_names == ["RESIDE-6K"]
    assert "2 pairs, 6000 as published" in caplog.text
    RESIDEDataModule(tmp_path / "RESIDE-6K", subset="RESIDE-6K").test_pairs()


def test_what_is_missing_is_named(tmp_path, sots):
    with pytest.raises(DataError, match="must hold RESIDE-IN/train or train"):
        RESIDEDataModule(tmp_path).train_pairs()
    with pytest.raises(ValueError, match=r"subset \(RESIDE\) must be one of RESIDE-IN"):
        RESIDEDataModule(tmp_path, subset="RESIDE")
    (sots / "GT" / "1401.png").unlink()
    with pytest.raises(DataError, match=r"got none for 1: 1401_1\.png"):
        scene_pairs(sots / "hazy", sots / "GT")
