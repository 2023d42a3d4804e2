"""Any pair of folders."""

from pathlib import Path

import pytest
import torch

from datamodules import PairedFolderDataModule
from datamodules.errors import DataError
from tests.datamodules.conftest import write_pairs

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
