"""Rain13K with toy images."""

import logging

import pytest

from datamodules import Rain13kDataModule
from datamodules.errors import DataError
from tests.datamodules.conftest import write_pairs


@pytest.fixture
def root(tmp_path):
    write_pairs(tmp_path / "Rain13K" / "train", ["1", "2", "3"])
    write_pairs(tmp_path / "Rain13K" / "test" / "Rain100L", ["1", "2"])
    write_pairs(tmp_path / "Rain13K" / "test" / "Rain100H", ["1"])
    return tmp_path


@pytest.mark.parametrize("inside", [False, True])
def test_root_may_be_the_data_set_or_hold_it(root, inside):
    data = Rain13kDataModule(root / "Rain13K" if inside else root, batch_size=2, patch_size=8, num_workers=0)
    data.setup("fit")
    assert len(data.train_dataloader().dataset) == 3
    assert data.val_set_names == ["Rain100L"]
    data.setup("test")
    assert data.test_set_names == ["Rain100H", "Rain100L"]
    assert [len(loader.dataset) for loader in data.test_dataloader()] == [1, 2]


def test_absent_sets_and_shortfalls_are_told(root, caplog):
    data = Rain13kDataModule(root)
    assert data.absent_test_sets == []
    with caplog.at_level(logging.WARNING):
        data.setup("test")
    assert data.absent_test_sets == ["Test100", "Test1200", "Test2800"]
    assert "absent" in caplog.text
    assert "Test100, Test1200, Test2800" in caplog.text
    assert "Rain100L has 2 pairs, 100 as published" in caplog.text


def test_published_counts_include_absent_sets(root):
    data = Rain13kDataModule(root)
    data.setup("test")
    assert data.published_counts == Rain13kDataModule.counts
    assert set(data.test_set_names) < set(data.published_counts)


def test_complete_set_is_not_remarked_on(root, caplog, monkeypatch):
    monkeypatch.setitem(Rain13kDataModule.counts, "Rain100L", 2)
    with caplog.at_level(logging.WARNING):
        Rain13kDataModule(root).setup("validate")
    assert not caplog.records


def test_sets_in_the_naming_of_rain100_are_paired(root):
    folder = root / "Rain13K" / "test" / "Rain100L"
    for sub, prefix in (("input", "rain-00"), ("target", "norain-00")):
        for path in (folder / sub).iterdir():
            path.rename(path.with_name(prefix + path.name))
    data = Rain13kDataModule(root)
    data.setup("validate")
    assert [batch["name"] for batch in data.val_dataloader()[0]] == [["rain-001"], ["rain-002"]]


def test_training_without_validation_sets(root):
    data = Rain13kDataModule(root, val_sets=[], batch_size=2)
    data.setup("fit")
    assert data.val_dataloader() == []


def test_root_without_the_data_set_is_refused(tmp_path):
    (tmp_path / "Rain14K").mkdir()
    with pytest.raises(DataError, match=r"root \(.*\) must be or hold the folder Rain13K .* got a folder with Rain14K"):
        Rain13kDataModule(tmp_path).setup("fit")


def test_missing_root_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"root \(.*gone\) .* got no such folder; download"):
        Rain13kDataModule(tmp_path / "gone").setup("test")


def test_missing_training_folder_is_named(tmp_path):
    write_pairs(tmp_path / "Rain13K" / "test" / "Rain100L", ["1"])
    with pytest.raises(DataError, match=r"root's train/input \(.*\) must be an existing folder"):
        Rain13kDataModule(tmp_path).setup("fit")


def test_no_test_set_at_all_is_refused(tmp_path):
    write_pairs(tmp_path / "Rain13K" / "train", ["1"])
    with pytest.raises(DataError, match="must hold a test set"):
        Rain13kDataModule(tmp_path).setup("test")


def test_absent_validation_set_is_refused(root):
    with pytest.raises(DataError, match=r"val_sets \(Test100\) must be in .* got Rain100H, Rain100L"):
        Rain13kDataModule(root, val_sets=["Test100"]).setup("validate")


def test_chosen_test_sets_are_tested_on_alone(root):
    data = Rain13kDataModule(root, test_sets=["Rain100H"])
    data.setup("test")
    assert data.test_set_names == ["Rain100H"]
    assert data.absent_test_sets == []
    assert data.published_counts == {"Rain100H": 100}
    with pytest.raises(ValueError, match=r"test_sets \(Rain200\) must be among Rain100H"):
        Rain13kDataModule(root, test_sets=["Rain200"])


def test_unknown_validation_set_is_refused(root):
    with pytest.raises(ValueError, match=r"val_sets \(Rain100\) must be among Rain100H"):
        Rain13kDataModule(root, val_sets=["Rain100", "Rain100L"])
