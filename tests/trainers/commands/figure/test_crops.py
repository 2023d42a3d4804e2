"""`lowrank figure crops`: images of folders side by side."""

import numpy as np
import pytest

from datamodules.files.images import write_image
from trainers.commands.figure.crops import figure_crops


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("rainy", "exact", "clean"):
        for name in "abcd"[: 3 if folder == "rainy" else 4]:
            write_image(tmp_path / folder / f"{name}.png", rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    return ["input=rainy", "exact=exact", "target=clean"]


def test_images_that_all_folders_have_are_drawn(folders, tmp_path):
    drawing = figure_crops(folders, count=2, output=tmp_path / "sheet")
    assert [(row["image"], row["version"]) for row in drawing.rows] == [
        (image, version) for image in "ac" for version in ("input", "exact", "target")
    ]
    assert (tmp_path / "sheet.pdf").exists()
    drawing = figure_crops(folders[1:], names=["d"], reference="target", region=(1, 2, 8, 9), output=tmp_path / "b")
    assert {(row["image"], row["top"], row["width"]) for row in drawing.rows} == {("d", 1, 9)}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"versions": ["rainy"]}, "NAME=FOLDER"),
        ({"versions": ["a=rainy", "a=exact"]}, "NAME=FOLDER"),
        ({"names": ["d"]}, r"names \(d\)"),
        ({"reference": "exat"}, "reference .exat.*exact"),
        ({"region": (20, 0, 8, 8)}, "must lie in the image"),
        ({"count": 0}, "count"),
    ],
)
def test_what_does_not_fit_is_refused(folders, options, problem):
    with pytest.raises(ValueError, match=problem):
        figure_crops(**{"versions": folders, **options})
