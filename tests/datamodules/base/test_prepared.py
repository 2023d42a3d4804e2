"""Records of prepared data that hold something else than `lowrank prepare` writes."""

from pathlib import Path

import pytest

from datamodules.base.published import read_prepared, shortfall
from datamodules.errors import DataError
from datamodules.pairs.matching import Pairs


@pytest.mark.parametrize("text", ["", "[]", "null", "3", "{", "[" * 100_000, '"text"', "\x00"])
def test_other_content_is_named(tmp_path: Path, text):
    path = tmp_path / "prepared.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"prepared\.json\) must be as `lowrank prepare` left it"):
        read_prepared(path)


@pytest.mark.parametrize("text", ["{}", '{"images": null}', '{"images": "3"}', '{"images": -1}', '{"images": true}'])
def test_a_record_without_a_number_of_images_is_named(tmp_path: Path, text):
    (tmp_path / "prepared.json").write_text(text)
    pairs = Pairs((tmp_path / "input/a.png",), (tmp_path / "target/a.png",), ("a",))
    with pytest.raises(DataError, match="must hold the number of images"):
        shortfall("Set", pairs, 1)
