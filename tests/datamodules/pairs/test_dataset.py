"""Reading of pairs."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.errors import DataError
from datamodules.files.images import write_image
from datamodules.pairs.dataset import CentreCrops, PairedImageDataset
from datamodules.pairs.transforms import PairedTransform
from tests.datamodules.conftest import coordinates, write_pairs


def dataset(folder, stems=("a",), **kwargs):
    inputs, targets = ([folder / sub / f"{stem}.png" for stem in stems] for sub in ("input", "target"))
    return PairedImageDataset(inputs, targets, **kwargs)


def test_items_hold_the_whole_pair(tmp_path):
    write_pairs(tmp_path, ["a"], scale=2)
    item = dataset(tmp_path, scale=2)[0]
    assert set(item) == {"input", "target", "name"}
    assert item["name"] == "a"
    torch.testing.assert_close(item["input"], torch.from_numpy(coordinates(24, 32)).permute(2, 0, 1) / 255)
    assert item["target"].shape == (3, 48, 64)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("stored", [1, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_stored_image_gets_the_channels_asked_for(tmp_path, dtype, white, stored, channels):
    for sub in ("input", "target"):
        (tmp_path / sub).mkdir()
        write_image(tmp_path / sub / "a.png", np.full((8, 8, stored), white, dtype))
    item = dataset(tmp_path, channels=channels)[0]
    torch.testing.assert_close(item["input"], torch.ones(channels, 8, 8))


def test_repeat_lengthens_the_epoch(tmp_path):
    data = dataset(write_pairs(tmp_path, ["a", "b"]), ["a", "b"], repeat=3)
    assert len(data) == 6
    assert [data[i]["name"] for i in range(6)] == ["a", "b"] * 3
    for index in (6, -1):
        with pytest.raises(IndexError):
            data[index]


def test_given_names_are_used(tmp_path):
    assert dataset(write_pairs(tmp_path, ["a"]), names=["video-a"])[0]["name"] == "video-a"


def test_corrupt_image_is_refused_by_name(tmp_path):
    data = dataset(write_pairs(tmp_path, ["a"]))
    data.targets[0].write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"target/a\.png must be a complete image"):
        data[0]


@pytest.mark.parametrize("scale", [1, 2])
def test_sizes_that_do_not_fit_are_refused_with_both_names(tmp_path, scale):
    data = dataset(write_pairs(tmp_path, ["a"], scale=scale), scale=scale)
    write_image(data.targets[0], coordinates(25 * scale, 32 * scale))
    with pytest.raises(DataError, match=rf"target .*target/a\.png must be {24 * scale}×{32 * scale} .*input/a\.png"):
        data[0]


def test_unequal_lists_are_refused():
    with pytest.raises(DataError, match=r"inputs \(2 images\) must be as many as targets \(1\)"):
        PairedImageDataset(["a.png", "b.png"], ["a.png"])


def test_empty_lists_are_refused():
    with pytest.raises(DataError, match="at least one"):
        PairedImageDataset([], [])


def test_names_must_be_unique():
    with pytest.raises(DataError, match="more than once: a; rename"):
        PairedImageDataset(["x/a.png", "y/a.png"], ["x/b.png", "y/b.png"])


@pytest.mark.parametrize(("argument", "value"), [("repeat", 0), ("channels", 2), ("scale", 0)])
def test_numbers_out_of_range_are_refused(argument, value):
    with pytest.raises(ValueError, match=rf"{argument} \({value}\) must be"):
        PairedImageDataset(["a.png"], ["a.png"], **{argument: value})


def patches(folder, num_workers, seed=0):
    """Patches of the same index, drawn by turns by every worker."""
    torch.manual_seed(seed)
    data = dataset(folder, transform=PairedTransform(8))
    loader = DataLoader(data, batch_size=None, sampler=[0] * 4, num_workers=num_workers)
    return torch.stack([item["input"] for item in loader])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_patches_repeat_with_the_seed_and_differ_between_workers_and_seeds(tmp_path, num_workers):
    write_pairs(tmp_path, ["a"])
    first = patches(tmp_path, num_workers)
    assert torch.equal(first, patches(tmp_path, num_workers))
    assert not torch.equal(first, patches(tmp_path, num_workers, seed=1))
    assert len(torch.unique(first, dim=0)) == 4


def test_processes_with_the_same_seed_draw_differently_for_other_indices(tmp_path):
    data = dataset(write_pairs(tmp_path, ["a"]), transform=PairedTransform(8), repeat=2)
    drawn = []
    for index in (0, 1):
        torch.manual_seed(0)
        drawn.append(data[index]["input"])
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("scale", [1, 2])
def test_the_middle_of_a_pair_is_the_same_place_of_both(tmp_path, scale):
    write_pairs(tmp_path, ["a"], size=(24, 32), scale=scale)
    [item] = CentreCrops(dataset(tmp_path, scale=scale), size=9, scale=scale)
    pixels = (item["input"] * 255).round().permute(1, 2, 0)
    assert np.array_equal(pixels, coordinates(24, 32)[7:16, 11:20])
    assert item["target"].shape == (3, 9 * scale, 9 * scale)
    assert torch.equal(item["target"][:, ::scale, ::scale], item["input"])


def test_images_that_are_small_already_stay_whole(tmp_path):
    write_pairs(tmp_path, ["a"], size=(24, 32))
    whole = dataset(tmp_path)
    crops = CentreCrops(whole, size=28)
    assert len(crops) == 1
    assert crops[0]["input"].shape == (3, 24, 28)
    assert torch.equal(crops[0]["input"], whole[0]["input"][:, :, 2:30])
