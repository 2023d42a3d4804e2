"""CAVE and KAIST with toy scenes: crops and mosaics, and what a net is given of a snapshot."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
import torch
from torch.testing import assert_close

from datamodules import CASSIDataModule
from datamodules.cassi import initial_estimate, measure, shift
from datamodules.errors import DataError
from datamodules.files.cubes import read_cube, read_mask
from tests.spectral_data import smooth_cube, write_cassi, write_hdf5

OPTIONS = {"patch_size": 16, "batch_size": 5, "num_workers": 0, "epoch_length": 10, "bands": 6}


@pytest.fixture
def root(tmp_path):
    return write_cassi(tmp_path / "data", bands=6)


def make(root, stage="fit", **kwargs):
    data = CASSIDataModule(root, **{**OPTIONS, **kwargs})
    data.setup(stage)
    return data


def places(batch, cubes, side):
    """Of each part of `side` pixels of a target: (scene, turned) of the scene's window that it is."""
    found = []
    for target in batch["target"]:
        levels = (target * 65536).numpy().transpose(1, 2, 0)
        parts = [levels[i : i + side, j : j + side] for i in range(0, 16, side) for j in range(0, 16, side)]
        found.append([place(part, cubes) for part in parts])
    return found


def place(part, cubes):
    for turned in range(8):
        view = np.rot90(part, turned % 4)
        view = view[:, ::-1] if turned > 3 else view
        for name, cube in cubes.items():
            windows = np.lib.stride_tricks.sliding_window_view(cube, view.shape[:2], axis=(0, 1))
            starts = np.argwhere((windows[..., 0, 0] == view[0, 0]).all(2))
            if any((windows[r, c].transpose(1, 2, 0) == view).all() for r, c in starts):
                return name, turned
    return None


def test_two_of_five_are_crops_and_three_mosaics_of_four(root):
    data = make(root, patch_size=16)
    cubes = {path.stem: read_cube(path) for path in (root / "cave_1024_28").iterdir()}
    turns = set()
    for batch in data.train_dataloader():
        whole, pieces = places(batch, cubes, 16), places(batch, cubes, 8)
        assert [None not in parts for parts in whole] == [True, True, False, False, False]
        assert all(None not in parts for parts in pieces)
        # Mosaics are not turned, and named after their parts.
        for parts, name in zip(pieces[2:], batch["name"][2:], strict=True):
            assert "+".join(part[0] for part in parts) == name
            assert {part[1] for part in parts} == {0}
        turns |= {parts[0][1] for parts in whole[:2]}
    assert len(turns) > 1


def test_scenes_are_scaled_and_measured_as_upstream_does(root):
    batch = next(iter(make(root).train_dataloader()))
    mask = torch.from_numpy(read_mask(root / "TSA_simu_data" / "mask.mat"))
    assert 0 < batch["target"].min() < batch["target"].max() < 1
    assert_close(batch["input"], initial_estimate(measure(batch["target"], mask), 6))
    assert_close(batch["mask"], shift(mask.expand(5, 6, 16, 16)))


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_step_has_as_many_crops_on_two_devices_as_on_one(root, accumulated):
    kinds = []
    for rank in range(2):
        data = make(root, batch_size=4, epoch_length=24)
        strategy = SimpleNamespace(broadcast=lambda seed: seed)
        data.trainer = SimpleNamespace(
            world_size=2, global_rank=rank, strategy=strategy, accumulate_grad_batches=accumulated
        )
        kinds.append(["+" in name for batch in data.train_dataloader() for name in batch["name"]])
    # Devices take turns.
    order = [kind for turn in zip(*kinds, strict=True) for kind in turn]
    assert order == [False, False, True, True] * 6


@pytest.mark.parametrize("num_workers", [0, 2])
def test_patches_depend_on_the_seed_and_their_number_alone(root, num_workers):
    drawn = []
    for workers in (0, num_workers):
        torch.manual_seed(5)
        drawn.append(list(make(root, num_workers=workers).train_dataloader()))
    for one, two in zip(*drawn, strict=True):
        assert one["name"] == two["name"]
        assert torch.equal(one["target"], two["target"])


def test_test_scenes_validate_and_test(root):
    data = make(root)
    data.setup("test")
    assert data.val_set_names == data.test_set_names == ["KAIST"]
    assert data.published_counts == {"KAIST": 10}
    batches = list(data.test_dataloader()[0])
    assert [batch["name"] for batch in batches] == [["scene01"], ["scene02"]]
    expected = smooth_cube(16, 16, 6, 101).transpose(2, 0, 1)
    assert_close(batches[0]["target"][0], torch.from_numpy(expected).float())


def test_scenes_beyond_205_are_left_aside(tmp_path, caplog):
    root = write_cassi(tmp_path, bands=6, train=(1, 206))
    data = make(root)
    assert "CAVE has 1 scenes, 205 as published" in caplog.text
    assert {name for batch in data.train_dataloader() for name in batch["name"][:2]} == {"scene1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_size": 18}, r"patch_size \(18\) must not exceed the mask .*mask\.mat, got 16×16"),
        ({"patch_size": 15}, r"patch_size \(15\) must be even"),
        ({"epoch_length": 4}, r"epoch_length \(4\) must be at least batch_size \(5\)"),
        ({"bands": 0}, r"bands \(0\) must be at least 1"),
        ({"step": -1}, r"step \(-1\) must be at least 0"),
        ({"net_input": "both"}, r"net_input \(both\) must be one of estimate, masked_estimate, measurement"),
        ({"net_mask": "both"}, r"net_mask \(both\) must be one of shifted, plain, none"),
        ({"train": "nowhere"}, r"train \(.*nowhere\) must be a folder of \.mat files"),
        ({"test": "nowhere"}, r"test \(.*nowhere\) must be a folder of \.mat files"),
        ({"mask": "nowhere.mat"}, r"nowhere\.mat must be a file"),
        ({"bands": 5}, r"scene1\.mat must be height × width × 5 bands, got 24×28×6"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(root, **arguments)


def test_a_folder_without_training_scenes_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must hold scene1\.mat to scene205\.mat, got none of these"):
        make(write_cassi(tmp_path, bands=6, train=(206,)))


def test_scenes_in_another_range_are_refused(root):
    scipy.io.savemat(root / "cave_1024_28" / "scene1.mat", {"img": smooth_cube(24, 24, 6, 0)})
    with pytest.raises(DataError, match=r"scene1\.mat must hold levels of 16 bits, got values of at most 0\.95"):
        make(root)
    write_hdf5(root / "TSA_simu_data" / "Truth" / "scene01.mat", "img", smooth_cube(16, 16, 6, 0) * 2)
    with pytest.raises(DataError, match=r"scene01\.mat must lie in \[0, 1\], got \[0\.577, 1\.9\]"):
        next(iter(make(root, "test").test_dataloader()[0]))


def test_scenes_larger_than_the_mask_are_refused(root):
    write_hdf5(root / "TSA_simu_data" / "Truth" / "scene01.mat", "img", smooth_cube(16, 18, 6, 0))
    with pytest.raises(DataError, match=r"at most as large as the mask, \(16, 16\), got \(16, 18\)"):
        next(iter(make(root, "test").test_dataloader()[0]))
