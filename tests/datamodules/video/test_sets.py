"""Published sets of clips in their layouts: what trains, what is tested, what is named where something is wrong."""

import numpy as np
import pytest

from datamodules import (
    ClipFolderDataModule,
    DAVISDataModule,
    DVDDataModule,
    GoProVideoDataModule,
    REDSDataModule,
    Vid4DataModule,
    VideoDemoDataModule,
    Vimeo90KDataModule,
)
from datamodules.degradations import BlurDownsampling
from datamodules.errors import DataError
from tests.datamodules.clips.making import frames, smooth, write_clips, write_frames, write_smooth_film

SMALL = {"num_workers": 0, "patch_size": 4, "batch_size": 1, "num_frames": 2}


def write_reds(root, scale=1):
    for clip in ("000", "001", "011", "020"):
        write_frames(root / "train_sharp" / clip, frames(3, scale=4))
        if scale > 1:
            write_frames(root / "train_sharp_bicubic/X4" / clip, frames(3))
    write_frames(root / "val_sharp/002", frames(3, scale=4))
    if scale > 1:
        write_frames(root / "val_sharp_bicubic/X4/002", frames(3))


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("place", ["", "REDS"])
def test_reds4_is_tested_on_and_not_trained_on(tmp_path, scale, place, caplog):
    write_reds(tmp_path / place, scale)
    data = REDSDataModule(tmp_path, **SMALL)
    assert data.train_pairs().names == ("001", "242")
    assert data.test_pairs()["REDS4"].names == ("000", "011", "020")
    assert ("made by bicubic reduction" in caplog.text) is (scale == 1)
    assert "REDS4 has 3 pairs, 4 as published" in caplog.text
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["target"].shape == (1, 2, 3, 16, 16)


def test_reds4_in_a_folder_of_its_own(tmp_path):
    write_clips(tmp_path / "REDS4", ["000", "011", "015", "020"], ("BIx4", "GT"), count=2, scale=4)
    data = REDSDataModule(tmp_path, **SMALL)
    assert len(data.test_pairs()["REDS4"]) == 4
    with pytest.raises(DataError, match="train_sharp"):
        data.train_pairs()


@pytest.mark.parametrize(("degradation", "folder"), [("BI", "BIx4"), ("BD", "BDx4")])
def test_vid4_takes_the_inputs_of_its_degradation_or_makes_them(tmp_path, degradation, folder, caplog):
    write_clips(tmp_path / "Vid4", ["walk"], (folder, "GT"), count=3, scale=4)
    write_clips(tmp_path / "UDM10", ["archwall"], ("other", "GT"), count=3, scale=4)
    data = Vid4DataModule(tmp_path, degradation=degradation, num_workers=0)
    data.setup("test")
    assert data.test_set_names == ["Vid4", "UDM10"]
    assert f"UDM10 has no {folder}" in caplog.text
    given, made = (loader.dataset[0]["input"] for loader in data.test_dataloader())
    assert given.shape == made.shape
    # Files hold 8-bit levels, and so do inputs that are made.
    np.testing.assert_allclose(255 * made, (255 * made).round(), atol=1e-4)


def test_a_test_set_alone_may_be_the_root(tmp_path):
    write_clips(tmp_path / "Vid4", ["walk"], ("BIx4", "GT"), count=2, scale=4)
    assert list(Vid4DataModule(tmp_path / "Vid4").test_pairs()) == ["Vid4"]
    with pytest.raises(DataError, match="training clips"):
        Vid4DataModule(tmp_path).train_pairs()
    with pytest.raises(ValueError, match="BI"):
        Vid4DataModule(tmp_path, degradation="BX")


def write_vimeo(root):
    for clip in ("00001/0001", "00001/0002", "00002/0001"):
        write_frames(root / "vimeo_septuplet/sequences" / clip, frames(7, scale=4), start=1, digits=1)
    (root / "vimeo_septuplet/sep_trainlist.txt").write_text("00001/0001\n00001/0002\n\n")
    (root / "vimeo_septuplet/sep_testlist.txt").write_text("00002/0001\n")


def test_vimeo_trains_and_tests_by_its_lists(tmp_path):
    write_vimeo(tmp_path)
    data = Vimeo90KDataModule(tmp_path, **SMALL)
    assert data.train_pairs().names == ("00001-0001", "00001-0002")
    assert data.test_pairs()["Vimeo-90K-T"].names == ("00002-0001",)
    assert list(data.scored_frames(7)) == [3]
    (tmp_path / "vimeo_septuplet/sep_testlist.txt").write_text("00002/0001\n00003/0009\n")
    with pytest.raises(DataError, match="00003/0009"):
        data.test_pairs()


def as_released(root, part, clip):
    return root / part / clip / "blur", root / part / clip / "sharp"


def as_rvrt(root, part, clip):
    return root / f"{part}_GT_blurred" / clip, root / f"{part}_GT" / clip


def as_packed(root, part, clip):
    return root / part / "input" / clip, root / part / "target" / clip


@pytest.mark.parametrize("layout", [as_released, as_rvrt, as_packed])
def test_gopro_in_every_layout(tmp_path, layout):
    for part, clip in (("train", "a"), ("train", "b"), ("test", "c")):
        for folder in layout(tmp_path / "GoPro", part, clip):
            write_frames(folder, frames(2))
    data = GoProVideoDataModule(tmp_path, **SMALL)
    assert data.train_pairs().names == ("a", "b")
    assert data.test_pairs()["GoPro"].names == ("c",)
    assert data.val_pairs()["GoPro"].names == ("c",)


def test_dvd_is_split_by_the_published_names(tmp_path):
    for clip in ("IMG_0001", "IMG_0021"):
        for half in ("input", "GT"):
            write_frames(tmp_path / "DVD/quantitative_datasets" / clip / half, frames(2))
    data = DVDDataModule(tmp_path, **SMALL)
    assert data.train_pairs().names == ("IMG_0001",)
    assert data.test_pairs()["DVD"].names == ("IMG_0021",)


def test_davis_trains_with_any_noise_and_tests_with_one(tmp_path):
    for folder in ("DAVIS/JPEGImages/480p/bear", "DAVIS-test/aerobatics", "Set8/tractor"):
        write_frames(tmp_path / folder, frames(3))
    data = DAVISDataModule(tmp_path, sigma=20, **SMALL)
    data.setup("fit")
    data.setup("test")
    assert data.train_pairs().names == ("bear",)
    assert data.test_set_names == ["DAVIS", "Set8"]
    sample = data.test_dataloader()[0].dataset[0]
    assert sample["input"].shape == (3, 4, 24, 32)
    assert sample["target"].shape == (3, 3, 24, 32)
    np.testing.assert_allclose(sample["input"][:, 3], 20 / 255, rtol=1e-6)
    batch = next(iter(data.train_dataloader()))
    assert batch["input"].shape == (1, 2, 4, 4, 4)


def test_a_test_set_of_davis_may_be_the_root(tmp_path):
    write_frames(tmp_path / "Set8/tractor", frames(2))
    assert list(DAVISDataModule(tmp_path, test_sets=["Set8"]).test_pairs()) == ["Set8"]


def test_clips_of_ones_own_may_be_films(tmp_path):
    pytest.importorskip("av")
    for half in ("input", "target"):
        (tmp_path / half).mkdir()
        write_smooth_film(tmp_path / half / "street.mp4", count=6)
        write_frames(tmp_path / half / "garden", smooth(6))
    data = ClipFolderDataModule(tmp_path, val_images=1, val_size=16, **SMALL)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["input"].shape == (1, 2, 3, 4, 4)
    [validation] = data.val_dataloader()
    assert validation.dataset[0]["input"].shape == (6, 3, 16, 16)


def test_the_demo_shows_parallax_and_the_same_clips_each_time():
    data = VideoDemoDataModule(
        BlurDownsampling(2), num_frames=3, eval_frames=4, patch_size=8, batch_size=1, eval_size=64
    )
    data.setup("test")
    sample, again = (data.test_dataloader()[0].dataset[0] for _ in range(2))
    assert sample["target"].shape == (4, 3, 64, 64)
    assert (sample["target"] == again["target"]).all()
    assert (sample["target"][0] != sample["target"][1]).any()
    data.setup("fit")
    first, second = (next(iter(data.train_dataloader()))["target"] for _ in range(2))
    assert first.shape == (1, 3, 3, 16, 16)
    assert (first == second).all()
