"""Cuts as published, and changed ones."""

import pytest

from datamodules.base.crops import Cut
from datamodules.errors import DataError
from datamodules.preparation.published_crops import choose_cut
from tests.datamodules.conftest import write_pairs
from tests.datamodules.preparation.conftest import make


def test_a_source_without_a_training_set_makes_nothing(tmp_path):
    write_pairs(tmp_path / "GoPro/test", ["1"])
    with pytest.raises(DataError, match="must hold GoPro/train to make training data of, got none"):
        make("gopro", tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, r"crop_size \(0\) must be at least 1"),
        ({"step": -1}, r"step \(-1\) must be at least 1"),
        ({"random": 0}, r"crops_per_image \(0\) must be at least 1"),
        ({"step": 8, "random": 4}, r"step \(8\) must be null where crops_per_image \(4\)"),
    ],
)
def test_numbers_out_of_range_are_refused(gopro, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make("gopro", gopro, tmp_path / "out", **arguments)


def test_published_cuts():
    assert choose_cut("gopro") == Cut(512, 256)
    assert choose_cut("sidd") == Cut(256, None, 300)
    assert choose_cut("sidd", size=512, step=256) == Cut(512, 256)
    assert choose_cut("div2k") == Cut(480, 240)
