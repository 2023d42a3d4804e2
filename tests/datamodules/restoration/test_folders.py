"""Folders of one's own."""

from pathlib import Path

import pytest
import torch

from datamodules import DegradedFolderDataModule, PairedFolderDataModule
from datamodules.degradations import BicubicDownsampling, GaussianNoise
from datamodules.errors import DataError
from datamodules.files.images import write_image
from tests.datamodules.conftest import coordinates, write_pairs

SHARED = Path(__file__).parents[3] / "../shared/data"


def test_set_is_called_by_the_folder_around_its_targets(tmp_path):
    write_pairs(tmp_path / "Set2", ["a", "b"], inputs="LR/X2", targets="HR", scale=2)
    data = PairedFolderDataModule(
        test_input=tmp_path / "Set2" / "LR" / "X2", test_target=tmp_path / "Set2" / "HR", scale=2, num_workers=0
    )
    data.setup("test")
    assert data.test_set_names == ["Set2"]
    assert next(iter(data.test_dataloader()[0]))["target"].shape == (1, 3, 48, 64)


@pytest.mark.parametrize(
    ("given", "stage", "missing"),
    [
        ({}, "fit", "train_input"),
        ({"train_input": "x"}, "fit", "train_target"),
        ({"val_input": "x"}, "validate", "val_target"),
        ({"test_target": "x"}, "test", "test_input"),
    ],
)
def test_folder_that_is_not_given_is_named(given, stage, missing):
    with pytest.raises(DataError, match=rf"{missing} \(None\) must be a folder of images; give --data\.{missing}"):
        PairedFolderDataModule(**given).setup(stage)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs real test images in ../shared/data")
@pytest.mark.parametrize(
    ("inputs", "targets", "scale", "count", "name"),
    [
        ("deraining/Rain100L/input", "deraining/Rain100L/target", 1, 20, "Rain100L"),
        ("super_resolution/Set5/LR_bicubic/X4", "super_resolution/Set5/HR", 4, 5, "Set5"),
        ("deblurring/GoPro_crops/input", "deblurring/GoPro_crops/groundtruth", 1, 40, "GoPro_crops"),
    ],
)
def test_real_images_are_read(inputs, targets, scale, count, name):
    data = PairedFolderDataModule(test_input=SHARED / inputs, test_target=SHARED / targets, scale=scale, num_workers=0)
    data.setup("test")
    batches = list(data.test_dataloader()[0])
    assert len(batches) == count
    assert data.test_set_names == [name]
    for batch in batches:
        shrunk = torch.nn.functional.avg_pool2d(batch["target"], scale)
        error = (shrunk - batch["input"]).square().mean()
        assert -10 * torch.log10(error) > 15


NAMES = [f"{number:02}" for number in range(20)]


def splitting(root, **options):
    data = PairedFolderDataModule(root=root, batch_size=2, patch_size=8, num_workers=0, **options)
    data.setup("fit")
    return data


def val_names(data):
    return [name for batch in data.val_dataloader()[0] for name in batch["name"]]


def train_names(data):
    return {name for batch in data.train_dataloader() for name in batch["name"]}


def test_validation_is_split_off_by_file_and_told(tmp_path, caplog):
    root = write_pairs(tmp_path / "mine", NAMES, inputs="noisy", targets="clean")
    data = splitting(root, val_images=16)
    assert data.val_set_names == ["mine-val"]
    held_out = val_names(data)
    assert len(held_out) == 4
    assert train_names(data) == set(NAMES) - set(held_out)
    [line] = [record.message for record in caplog.records]
    assert line == (
        "validation: 4 of 20 training images are split off (split_seed 0) and not trained on: " + ", ".join(held_out)
    )
    # The same ones each time, for `validate` as for `fit`; others for another seed.
    again = PairedFolderDataModule(root=root, val_images=16, num_workers=0)
    again.setup("validate")
    assert val_names(again) == held_out
    assert val_names(splitting(root, val_images=16, split_seed=1)) != held_out
    assert len(val_names(splitting(root, val_images=3))) == 3


def test_at_least_one_of_a_few_pairs_is_split_off(tmp_path):
    root = write_pairs(tmp_path, ["a", "b"])
    data = splitting(root, val_images=16, epoch_length=2)
    assert len(val_names(data)) == 1
    with pytest.raises(DataError, match=r"training images \(1\) must be at least 2 where validation is split off"):
        splitting(write_pairs(tmp_path / "one", ["a"]), val_images=16)


@pytest.mark.parametrize("options", [{}, {"val_images": 0}])
def test_without_being_asked_nothing_is_split_off(tmp_path, options, caplog):
    data = splitting(write_pairs(tmp_path, ["a", "b"]), **options)
    assert data.val_dataloader() == []
    assert train_names(data) == {"a", "b"}
    assert not caplog.records


def test_parts_of_root_are_found_and_need_no_split(tmp_path):
    for part, names in (("train", ["a", "b"]), ("valid", NAMES), ("test", ["t"])):
        write_pairs(tmp_path / part, names, inputs="LQ", targets="GT")
    data = splitting(tmp_path, val_images=4)
    assert train_names(data) == {"a", "b"}
    assert val_names(data) == ["00", "05", "10", "15"]
    data.setup("test")
    assert data.test_set_names == ["test"]
    assert len(val_names(splitting(tmp_path))) == 20


def test_folders_that_are_named_go_before_those_of_root(tmp_path):
    write_pairs(tmp_path / "train", ["a", "b"])
    write_pairs(tmp_path / "val", ["c"])
    other = write_pairs(tmp_path / "other", ["d"])
    data = splitting(tmp_path, val_input=other / "input", val_target=other / "target")
    assert val_names(data) == ["d"]


def test_a_root_without_a_test_part_names_both_remedies(tmp_path):
    root = write_pairs(tmp_path, ["a", "b"])
    with pytest.raises(DataError, match=r"give --data\.test_input, or a folder test in "):
        PairedFolderDataModule(root=root).setup("test")


def test_names_are_matched_without_prefixes_and_suffixes(tmp_path):
    for name in ("1", "2"):
        write_image(tmp_path / "lq" / f"in_{name}.png", coordinates(24, 32))
        write_image(tmp_path / "gt" / f"{name}_clean.png", coordinates(24, 32))
    data = splitting(tmp_path, input_prefix="in_", target_suffix="_clean")
    assert train_names(data) == {"in_1", "in_2"}


@pytest.mark.parametrize(("repeat", "epoch_length", "patches"), [(1, 10, 12), (1, None, 4), (5, 10, 20), (1, 4, 4)])
def test_an_epoch_is_as_long_as_is_asked_for(tmp_path, repeat, epoch_length, patches):
    data = splitting(write_pairs(tmp_path, ["a", "b", "c", "d"]), repeat=repeat, epoch_length=epoch_length)
    assert len(data.train_dataloader().dataset) == patches


@pytest.mark.parametrize("scale", [1, 2])
def test_the_middle_of_large_images_validates_and_the_set_says_so(tmp_path, scale):
    root = write_pairs(tmp_path / "mine", NAMES, size=(40, 24), scale=scale)
    data = splitting(root, val_images=2, val_size=32, scale=scale)
    assert data.val_set_names == ["mine-val-centre32"]
    batch = next(iter(data.val_dataloader()[0]))
    assert batch["input"].shape == (1, 3, 32, 24)
    assert batch["target"].shape == (1, 3, 32 * scale, 24 * scale)
    assert batch["input"][0, 0, 0, 0] == 4 / 255


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_images": -1}, r"val_images \(-1\) must be at least 0"),
        ({"val_size": 4}, r"val_size \(4\) must be at least 8"),
        ({"split_seed": -1}, r"split_seed \(-1\) must be at least 0"),
        ({"epoch_length": 0}, r"epoch_length \(0\) must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PairedFolderDataModule(**options)


def clean_images(folder, names=NAMES):
    for name in names:
        write_image(folder / f"{name}.png", coordinates(24, 32))
    return folder


def test_clean_images_are_degraded_and_split(tmp_path):
    root = clean_images(tmp_path / "photos")
    data = DegradedFolderDataModule(root, val_images=16, batch_size=2, patch_size=8, num_workers=0)
    data.setup("fit")
    assert data.val_set_names == ["photos-val"]
    assert train_names(data) == set(NAMES) - set(val_names(data))
    batch = next(iter(data.train_dataloader()))
    assert batch["input"].shape == batch["target"].shape == (2, 3, 8, 8)
    first, second = (list(data.val_dataloader()[0]) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one["input"], other["input"])
        assert not torch.equal(one["input"], one["target"])


def test_clean_images_of_parts_are_found(tmp_path):
    for part in ("train", "val", "test"):
        clean_images(tmp_path / part, [f"{part}1", f"{part}2"])
    data = DegradedFolderDataModule(tmp_path, GaussianNoise((0.0, 0.0)), batch_size=2, patch_size=8, num_workers=0)
    data.setup("fit")
    assert train_names(data) == {"train1", "train2"}
    assert val_names(data) == ["val1", "val2"]
    data.setup("test")
    batch = next(iter(data.test_dataloader()[0]))
    assert torch.equal(batch["input"], batch["target"])


def test_clean_images_are_shrunk_by_the_scale_of_the_degradation(tmp_path):
    data = DegradedFolderDataModule(
        clean_images(tmp_path), BicubicDownsampling(2), val_images=1, val_size=8, batch_size=2, patch_size=8
    )
    data.num_workers = 0
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert (batch["input"].shape, batch["target"].shape) == ((2, 3, 8, 8), (2, 3, 16, 16))
    batch = next(iter(data.val_dataloader()[0]))
    assert (batch["input"].shape, batch["target"].shape) == ((1, 3, 8, 8), (1, 3, 16, 16))


def test_clean_images_without_a_test_part_are_not_tested(tmp_path):
    with pytest.raises(DataError, match=r"root \(.*\) must hold test with clean images, got none"):
        DegradedFolderDataModule(clean_images(tmp_path)).setup("test")
