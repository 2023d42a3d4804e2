"""Data of the shapes that recipes read."""

from pathlib import Path

import pytest

from tests.spectral_data import write_arad, write_cassi


@pytest.fixture
def data(pairs: Path) -> Path:
    """One folder that is laid out as Rain13K and as GoPro, with the images of `pairs`, and as ARAD_1K and CASSI's."""
    root = pairs.parent / "data"
    root.mkdir()
    (root / "train").symlink_to(pairs / "train")
    (root / "test").mkdir()
    for kind in ("input", "target"):
        (root / "test" / kind).symlink_to(pairs / "test" / kind)
    for name in ("Rain100L", "Rain100H"):
        (root / "test" / name).symlink_to(pairs / "test")
    write_arad(root)
    return write_cassi(root)
