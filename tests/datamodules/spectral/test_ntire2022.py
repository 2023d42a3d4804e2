"""ARAD_1K with toy scenes: lists, patches in upstream's order, photographs stretched to their range."""

import h5py
import numpy as np
import pytest
import torch

from datamodules import NTIRE2022DataModule
from datamodules.errors import DataError
from datamodules.files.cubes import read_cube
from datamodules.files.images import read_image, write_image
from datamodules.spectral.scenes import Patches, read_photograph
from tests.spectral_data import smooth_cube, write_arad, write_hdf5

OPTIONS = {"patch_size": 16, "batch_size": 4, "num_workers": 0}


@pytest.fixture
def root(tmp_path):
    return write_arad(tmp_path / "ARAD_1K")


def make(root, stage="fit", **kwargs):
    data = NTIRE2022DataModule(root, **{**OPTIONS, **kwargs})
    data.setup(stage)
    return data


@pytest.mark.parametrize(("ends", "lists"), [("\r\n", True), ("\n", True), ("", False)])
def test_splits_are_read_whatever_their_line_ends_and_known_without_lists(tmp_path, ends, lists):
    data = make(write_arad(tmp_path / "data", ends=ends, lists=lists))
    batches = list(data.train_dataloader())
    scenes = {name.rpartition("-")[0] for batch in batches for name in batch["name"]}
    assert scenes == {"ARAD_1K_0001", "ARAD_1K_0002", "ARAD_1K_0003"}
    assert data.val_set_names == ["ARAD_1K-valid"]
    assert [batch["name"] for batch in data.val_dataloader()[0]] == [["ARAD_1K_0901"], ["ARAD_1K_0902"]]


def test_an_epoch_has_as_many_patches_as_upstream_counts(root):
    # (32 - 16) / 8 + 1 in a row, (24 - 16) / 8 + 1 in a column.
    data = make(root)
    assert len(data.train_dataloader().dataset) == 3 * 3 * 2
    grid = [(side - 128) // 8 + 1 for side in (482, 512)]
    assert 897 * grid[0] * grid[1] // 20 == 98_894


def test_patches_come_scene_by_scene_and_row_by_row(root):
    data = make(root, augment=False)
    patches = data.train_dataloader().dataset.dataset
    cube = read_cube(root / "Train_Spec" / "ARAD_1K_0002.mat")
    photograph = read_photograph(root / "Train_RGB" / "ARAD_1K_0002.jpg")
    for index, (top, left) in enumerate([(0, 0), (0, 8), (0, 16), (8, 0), (8, 8), (8, 16)]):
        item = patches[6 + index]
        assert item["name"] == f"ARAD_1K_0002-{index}"
        expected = torch.from_numpy(cube[top : top + 16, left : left + 16].transpose(2, 0, 1)).float()
        assert torch.equal(item["target"], expected)
        expected = torch.from_numpy(photograph[top : top + 16, left : left + 16].transpose(2, 0, 1))
        assert torch.equal(item["input"], expected)


def test_photograph_and_cube_are_turned_alike(tmp_path):
    # The photograph shows three of the bands, so that it tells how the cube must lie.
    root = write_arad(tmp_path / "data")
    patches = make(root).train_dataloader().dataset.dataset
    views = set()
    for seed in range(30):
        torch.manual_seed(seed)
        item = patches[0]
        difference = torch.corrcoef(torch.stack([item["input"][0].flatten(), item["target"][25].flatten()]))[0, 1]
        assert difference > 0.99
        views.add(item["target"].numpy().tobytes())
    assert len(views) == 8


def test_photographs_are_stretched_as_a_whole(root):
    path = root / "Train_RGB" / "ARAD_1K_0901.jpg"
    levels = read_image(path).astype(np.float32)
    batch = next(iter(make(root, "validate").val_dataloader()[0]))
    assert batch["input"].shape == (1, 3, 24, 32)
    assert batch["target"].shape == (1, 31, 24, 32)
    expected = (levels - levels.min()) / (levels.max() - levels.min())
    assert torch.equal(batch["input"][0], torch.from_numpy(expected.transpose(2, 0, 1)))
    assert (batch["input"].min(), batch["input"].max()) == (0, 1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_patches_depend_on_the_seed_and_their_number_alone(root, num_workers):
    drawn = []
    for preload, workers in ((False, num_workers), (True, 0)):
        torch.manual_seed(5)
        data = make(root, preload=preload, num_workers=workers)
        drawn.append(list(data.train_dataloader()))
        torch.rand(3)
    for one, two in zip(*drawn, strict=True):
        assert one["name"] == two["name"]
        assert torch.equal(one["input"], two["input"])
        assert torch.equal(one["target"], two["target"])


def test_preloaded_scenes_are_not_read_again(root):
    data = make(root, preload=True)
    loader = data.train_dataloader()
    for path in (root / "Train_Spec").iterdir():
        path.unlink()
    assert len(list(loader)) == 4
    assert len(list(data.train_dataloader())) == 4


def test_test_scores_the_validation_scenes_and_predict_takes_the_photographs(root):
    data = make(root, "test")
    assert data.test_set_names == ["ARAD_1K-valid"]
    data.setup("predict")
    assert data.test_set_names == ["ARAD_1K-test"]
    [batch] = data.predict_dataloader()[0]
    assert batch["name"] == ["ARAD_1K_0951"]
    assert "target" not in batch
    for path in (root / "Test_RGB").iterdir():
        path.unlink()
    (root / "Test_RGB").rmdir()
    data.setup("predict")
    assert data.test_set_names == ["ARAD_1K-valid"]


def test_scenes_known_to_be_unusable_are_passed_over(tmp_path):
    root = write_arad(tmp_path / "data", numbers=(1, 314, 901))
    (root / "Train_Spec" / "ARAD_1K_0314.mat").unlink()
    names = {name for batch in make(root).train_dataloader() for name in batch["name"]}
    assert not any("0314" in name for name in names)


def test_a_shortfall_is_told(root, caplog):
    data = make(root)
    assert "ARAD_1K-train has 3 scenes, 897 as published" in caplog.text
    assert "ARAD_1K-valid has 2 scenes, 50 as published" in caplog.text
    assert data.published_counts == {"ARAD_1K-valid": 50}


def test_missing_scenes_are_named(root):
    (root / "Train_Spec" / "ARAD_1K_0002.mat").unlink()
    with pytest.raises(DataError, match=r"every scene that names .*train_list\.txt, got 1 of 3 without: ARAD_1K_0002"):
        make(root)


def test_a_folder_that_is_not_arad_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must be or hold the folder of ARAD_1K, with Train_Spec and Train_RGB"):
        make(tmp_path)


def test_sizes_that_do_not_fit_are_refused(root):
    write_hdf5(root / "Train_Spec" / "ARAD_1K_0001.mat", "cube", smooth_cube(32, 24, 31, 0))
    with pytest.raises(DataError, match=r"0001\.mat must be 24 height × 32 width × 31 bands, got 32×24×31"):
        make(root).train_dataloader().dataset[0]
    write_image(root / "Train_RGB" / "ARAD_1K_0002.jpg", (smooth_cube(20, 20, 3, 0) * 200).astype(np.uint8))
    write_hdf5(root / "Train_Spec" / "ARAD_1K_0002.mat", "cube", smooth_cube(20, 20, 31, 0))
    patches = make(root).train_dataloader().dataset.dataset
    with pytest.raises(DataError, match=r"0002\.jpg must be of the first scene's size, 24×32, got less"):
        patches[8]


def test_a_photograph_of_one_value_is_refused(root):
    write_image(root / "Train_RGB" / "ARAD_1K_0901.jpg", np.full((24, 32, 3), 9, np.uint8))
    with pytest.raises(DataError, match=r"0901\.jpg must show something, got 9 everywhere"):
        next(iter(make(root, "validate").val_dataloader()[0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_size": 25}, r"patch_size \(25\) must not exceed the scenes, got 24×32"),
        ({"batch_size": 19}, r"batch_size \(19\) must not exceed the patches of an epoch, got 18"),
        ({"stride": 0}, r"stride \(0\) must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(root, **arguments)


def test_only_the_patch_is_read_of_a_cube(root, monkeypatch):
    shapes = []
    original = h5py.Dataset.__getitem__

    def watched(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        shapes.append(result.shape)
        return result

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watched)
    patches = make(root).train_dataloader().dataset.dataset
    assert isinstance(patches, Patches)
    patches[0]
    assert shapes == [(31, 16, 16)]
