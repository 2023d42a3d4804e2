"""Sheets of crops: versions, differences, the part that is chosen."""

import pytest
import torch

from trainers.figures.sheets.crops import INPUT, TARGET, Region, Scene, differing_region, draw_crops, wrapped


def scene(**changes) -> Scene:
    image = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0)) / 2
    other = image.clone()
    other[:, 30:40, 50:60] += 0.1
    versions = {INPUT: image[:, ::4, ::4], "released": image, "other": other, TARGET: image + 0.01}
    return Scene("photo", {**versions, **changes})


def test_the_part_is_where_versions_differ_most():
    # However much a third version is off everywhere.
    everywhere = scene().versions["released"] + 0.3
    for given in (scene(), scene(third=everywhere)):
        assert differing_region(given, "released", side=10) == Region(30, 50, 10, 10)
    assert differing_region(scene(), "released", side=70) == Region(0, 0, 60, 70)


def test_every_version_has_its_picture_and_figures():
    drawing = draw_crops([scene(), scene()], reference="released")
    titles = [axes.get_title() for axes in drawing.figure.axes if axes.get_title()]
    assert titles == 2 * ["photo", "input", "released", "other", "target"]
    rows = {row["version"]: row for row in drawing.rows}
    assert rows["released"]["dB to target"] == pytest.approx(40, abs=0.01)
    assert "dB to released" in rows["other"]
    assert "mean difference in the part" not in rows["released"]
    assert rows["other"]["mean difference in the part"] == pytest.approx(0.1 * 100 / (60 * 80), rel=1e-3)
    assert "dB to target" not in rows["input"]


def test_a_small_input_is_cut_where_the_others_are():
    given = scene()
    part = Region(20, 40, 20, 20).of(given.versions[INPUT], (60, 80))
    assert torch.equal(part, given.versions["released"][:, ::4, ::4][:, 5:10, 10:15])


@pytest.mark.parametrize(
    ("scenes", "problem"),
    [
        ([], "at least one image"),
        ([scene(), scene(third=torch.rand(3, 60, 80))], "in the versions"),
        ([scene(other=torch.rand(3, 6, 8))], "one size"),
        ([Scene("a", scene().versions, Region(0, 70, 20, 20))], "must lie in the image"),
        ([Scene("a", {"x": torch.rand(3, 4, 4)})], "reference"),
    ],
)
def test_what_does_not_fit_is_refused(scenes, problem):
    with pytest.raises(ValueError, match=problem):
        draw_crops(scenes, reference="released")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("LandmarkPooling(landmarks=16, cells=64, near='cross')", ["LandmarkPooling", "(16, 64, cross)"]),
        ("Softmax()", ["Softmax()"]),
        ("ContentPooling(landmarks=None, cells=None, bias_rank=16)", ["ContentPooling", "(bias_rank=16)"]),
        ("window 16, no bias", ["window 16, no bias"]),
        ("a name that is far too long for one line", ["a name that is far too", "long for one line"]),
    ],
)
def test_titles_are_short_lines(name, lines):
    assert wrapped(name).split("\n") == lines
