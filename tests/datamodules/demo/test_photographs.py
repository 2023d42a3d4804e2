"""Bundled photographs."""

import numpy as np
import pytest

from datamodules.demo import photographs
from datamodules.demo import restoration as demo
from datamodules.demo.photographs import photograph
from datamodules.errors import DataError


@pytest.mark.parametrize("name", [*demo.TRAIN, *demo.VAL, *demo.TEST])
def test_photographs_are_read_once_and_cannot_be_changed(name):
    image = photograph(name)
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype == np.uint8
    assert photograph(name) is image
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0, 0] = 0


def test_package_without_its_photographs_is_told(monkeypatch):
    monkeypatch.setitem(photographs._SOURCES, "lost", ("skimage", "data/lost.png"))
    with pytest.raises(DataError, match=r"photograph lost must be in .* pip install --force-reinstall scikit-image"):
        photograph("lost")
