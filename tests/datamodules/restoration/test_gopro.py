"""GoPro in both of its layouts, with toy images."""

import pytest

from datamodules import GoProDataModule
from datamodules.errors import DataError
from tests.datamodules.conftest import write_pairs

VIDEOS = ["GOPR0384_11_00", "GOPR0385_11_01"]


@pytest.fixture(params=["arranged", "released"])
def root(request, tmp_path):
    for split in ("train", "test"):
        if request.param == "arranged":
            names = [f"{video}-00000{i}" for video in VIDEOS for i in (1, 2)]
            write_pairs(tmp_path / "GoPro" / split, names)
        else:
            for video in VIDEOS:
                folder = tmp_path / "GOPRO_Large" / split / video
                write_pairs(folder, ["000001", "000002"], inputs="blur", targets="sharp")
    return tmp_path


def test_both_layouts_give_the_same_pairs(root):
    data = GoProDataModule(root, batch_size=4, patch_size=8, num_workers=0)
    data.setup("fit")
    data.setup("test")
    assert len(data.train_dataloader().dataset) == 4
    names = [batch["name"][0] for batch in data.test_dataloader()[0]]
    assert names == [f"{video}-00000{i}" for video in VIDEOS for i in (1, 2)]
    assert data.test_set_names == data.val_set_names == ["GoPro"]


def test_validation_takes_images_evenly(root):
    data = GoProDataModule(root, val_images=2)
    data.setup("validate")
    assert [batch["name"][0] for batch in data.val_dataloader()[0]] == [f"{video}-000001" for video in VIDEOS]


def test_training_without_validation(root):
    data = GoProDataModule(root, val_images=0, batch_size=2)
    data.setup("fit")
    assert data.val_dataloader() == []


def test_shortfall_is_told_by_the_first_process_only(root, caplog):
    data = GoProDataModule(root)
    data.trainer = type("Second", (), {"world_size": 2, "global_rank": 1})()
    data.setup("test")
    assert not caplog.records
    data.trainer = None
    data.setup("test")
    assert "GoPro has 4 pairs, 1111 as published" in caplog.text


def test_the_published_count_is_the_test_set_s(root):
    assert GoProDataModule(root).published_counts == {"GoPro": 1111}


def test_neither_layout_is_refused(tmp_path):
    (tmp_path / "GoPro" / "test" / "blurry").mkdir(parents=True)
    with pytest.raises(DataError, match=r"must hold .*GoPro/test with input and target, or blur and sharp"):
        GoProDataModule(tmp_path).setup("test")


def test_video_without_sharp_frames_is_named(tmp_path):
    write_pairs(tmp_path / "test" / VIDEOS[0], ["1"], inputs="blur", targets="other")
    with pytest.raises(DataError, match=rf"root's test/{VIDEOS[0]}/sharp"):
        GoProDataModule(tmp_path).setup("test")


def test_negative_number_of_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"val_images \(-1\) must be at least 0"):
        GoProDataModule(tmp_path, val_images=-1)


@pytest.mark.parametrize("place", ["HIDE", "HIDE/test", "test/HIDE"])
def test_hide_is_tested_on_where_it_is_asked_for(root, place, caplog):
    write_pairs(root / place, ["1fromGOPR0950", "2fromGOPR0950"], suffix=".PNG")
    assert GoProDataModule(root).published_counts == {"GoPro": 1111}
    data = GoProDataModule(root, test_sets=["GoPro", "HIDE"], num_workers=0)
    data.setup("test")
    assert data.test_set_names == ["GoPro", "HIDE"]
    assert [len(loader.dataset) for loader in data.test_dataloader()] == [4, 2]
    assert data.published_counts == {"GoPro": 1111, "HIDE": 2025}
    assert "HIDE has 2 pairs, 2025 as published" in caplog.text


def test_either_set_may_be_absent(root, tmp_path, caplog):
    data = GoProDataModule(root, test_sets=["GoPro", "HIDE"])
    data.setup("test")
    assert data.test_set_names == ["GoPro"]
    assert "test sets absent" in caplog.text
    (tmp_path / "other").mkdir()
    write_pairs(tmp_path / "other" / "HIDE", ["1"])
    data = GoProDataModule(tmp_path / "other", test_sets=["GoPro", "HIDE"])
    data.setup("test")
    assert data.absent_test_sets == ["GoPro"]


def test_gopro_as_restormers_scripts_download_it(tmp_path):
    for split in ("train", "test"):
        write_pairs(tmp_path / split / "GoPro", ["1", "2"])
    data = GoProDataModule(tmp_path, test_sets=["GoPro", "HIDE"])
    assert len(data.train_pairs()) == 2
    assert list(data.test_pairs()) == ["GoPro"]


def test_hide_without_a_half_and_other_sets_are_refused(tmp_path):
    write_pairs(tmp_path / "HIDE", ["1"], targets="gt")
    with pytest.raises(DataError, match="root's HIDE/target"):
        GoProDataModule(tmp_path, test_sets=["HIDE"]).setup("test")
    with pytest.raises(ValueError, match=r"test_sets \(RealBlur\) must be among GoPro, HIDE"):
        GoProDataModule(tmp_path, test_sets=["RealBlur"])
