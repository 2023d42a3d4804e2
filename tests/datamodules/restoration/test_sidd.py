"""SIDD: crops to train on, validation blocks of both MATLAB formats or as images."""

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from datamodules import DataError, SIDDDataModule
from datamodules.restoration.sidd import read_block_pairs
from tests.datamodules.conftest import write_pairs

NOISY, CLEAN = "ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb"


def save(path, name, blocks, version):
    path.parent.mkdir(parents=True, exist_ok=True)
    if version == "v5":
        scipy.io.savemat(path, {name: blocks}, do_compression=True)
    else:
        with h5py.File(path, "w", userblock_size=512) as file:
            file[name] = blocks.T


@pytest.fixture
def blocks(rng):
    return {name: rng.integers(0, 256, (2, 3, 8, 10, 3)).astype(np.uint8) for name in (NOISY, CLEAN)}


@pytest.mark.parametrize("version", ["v5", "v7.3"])
@pytest.mark.parametrize("place", [".", "SIDD", "test", "SIDD/val"])
def test_blocks_are_images_by_scene_and_number(tmp_path, blocks, version, place, caplog):
    for name, values in blocks.items():
        save(tmp_path / place / f"{name}.mat", name, values, version)
    data = SIDDDataModule(tmp_path, num_workers=0)
    data.setup("test")
    batches = list(data.test_dataloader()[0])
    assert [batch["name"][0] for batch in batches] == ["0001_01", "0001_02", "0001_03", "0002_01", "0002_02", "0002_03"]
    for key, name in (("input", NOISY), ("target", CLEAN)):
        expected = torch.from_numpy(blocks[name][1, 0]).permute(2, 0, 1) / 255
        assert torch.equal(batches[3][key][0], expected)
    assert data.test_set_names == ["SIDD"]
    assert data.published_counts == {"SIDD": 1280}
    assert "SIDD has 6 pairs, 1280 as published" in caplog.text


def test_grey_blocks(tmp_path, blocks):
    for name, values in blocks.items():
        save(tmp_path / f"{name}.mat", name, values, "v5")
    data = SIDDDataModule(tmp_path, channels=1, num_workers=0)
    data.setup("validate")
    assert next(iter(data.val_dataloader()[0]))["input"].shape == (1, 1, 8, 10)


@pytest.mark.parametrize(
    "halves", [("input", "groundtruth"), ("input_crops", "target_crops"), ("input_crops", "gt_crops")]
)
@pytest.mark.parametrize("suffix", [".png", ".PNG"])
def test_crops_train_and_images_validate(tmp_path, halves, suffix):
    for split, names in (("train", ["1", "2", "3"]), ("val", ["4"])):
        write_pairs(tmp_path / "there" / split, names, inputs=halves[0], targets=halves[1], suffix=suffix)
    (tmp_path / "SIDD").symlink_to(tmp_path / "there")
    data = SIDDDataModule(tmp_path, patch_size=8, batch_size=3, num_workers=0)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["input"].shape == (3, 3, 8, 8)
    assert [batch["name"] for batch in data.val_dataloader()[0]] == [["4"]]


def test_a_folder_of_pairs_is_a_test_set(tmp_path):
    write_pairs(tmp_path, ["1", "2"], inputs="input", targets="groundtruth")
    assert len(SIDDDataModule(tmp_path).test_pairs()["SIDD"]) == 2


def test_what_is_missing_is_named(tmp_path, blocks):
    with pytest.raises(DataError, match=r"must hold ValidationNoisyBlocksSrgb\.mat and ValidationGtBlocksSrgb\.mat"):
        SIDDDataModule(tmp_path).setup("test")
    with pytest.raises(DataError, match=r"must hold train with \{input,groundtruth\}"):
        SIDDDataModule(tmp_path).setup("fit")
    save(tmp_path / f"{NOISY}.mat", NOISY, blocks[NOISY], "v5")
    with pytest.raises(DataError, match=rf"{CLEAN}\.mat must be a file"):
        SIDDDataModule(tmp_path).setup("test")
    write_pairs(tmp_path / "train", ["1"], targets="sharp")
    with pytest.raises(DataError, match=r"root's train/target \(.*\) must be an existing folder"):
        SIDDDataModule(tmp_path).setup("fit")


@pytest.mark.parametrize("version", ["v5", "v7.3"])
def test_other_files_are_refused(tmp_path, blocks, version):
    noisy, clean = tmp_path / "noisy.mat", tmp_path / "clean.mat"
    save(noisy, NOISY, blocks[NOISY], version)
    save(clean, CLEAN, blocks[CLEAN][:, :2], version)
    with pytest.raises(DataError, match=r"as many and as large .* \(2, 3, 8, 10, 3\), got \(2, 2, 8, 10, 3\)"):
        read_block_pairs(noisy, clean)
    save(clean, CLEAN, blocks[CLEAN][0], version)
    with pytest.raises(DataError, match="must be scenes × blocks × height × width × 3 channels, got 3×8×10×3"):
        read_block_pairs(noisy, clean)
    save(clean, CLEAN, blocks[CLEAN] / 255, version)
    with pytest.raises(DataError, match="must be uint8, got float64"):
        read_block_pairs(noisy, clean)
    save(clean, NOISY, blocks[CLEAN], version)
    with pytest.raises(DataError, match=rf"must hold the variable {CLEAN}, got {NOISY}"):
        read_block_pairs(noisy, clean)
    save(clean, CLEAN, blocks[CLEAN], version)
    clean.write_bytes(clean.read_bytes()[:600])
    with pytest.raises(DataError, match="must be a complete MATLAB file"):
        read_block_pairs(noisy, clean)
