"""The change of an image's value, and whether it is for the better."""

import json
import math

import pytest

from trainers.evaluation.differences import Differences, ImageDifference

IMAGES = [
    ImageDifference("Set5", "a", 30.0, 31.0),
    ImageDifference("Set5", "b", math.inf, math.inf),
    ImageDifference("Set5", "c", 20.0, 17.0),
    ImageDifference("Set5", "d", 20.0, 22.0),
]


@pytest.mark.parametrize(("higher", "better", "worse"), [(True, 2, 1), (False, 1, 2)])
def test_images_are_better_or_worse_by_the_metric_s_direction(higher, better, worse):
    differences = Differences("psnr", "PSNR on RGB", higher, IMAGES)
    assert (differences.better, differences.worse) == (better, worse)
    # Equal values have no change, infinite ones neither.
    assert differences.mean == 0


def test_a_file_that_is_no_result_is_refused(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match="must be those of lowrank test"):
        Differences.between(tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"metrics\.json or a folder"):
        Differences.between(tmp_path / "none", tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": ["psnr"]},
        {"metrics": {"psnr": 3}},
        {"higher_is_better": []},
        {"higher_is_better": {"psnr": "yes"}},
        {"sets": {"set": {"per_image": {"a": {"psnr": 10**400}}}}},
    ],
)
def test_results_of_other_types_are_refused_by_name(tmp_path, change):
    results = {"metrics": {"psnr": "P"}, "sets": {"set": {"per_image": {"a": {"psnr": 1.0}}}}}
    (tmp_path / "metrics.json").write_text(json.dumps(results | change))
    with pytest.raises(ValueError, match=r"metrics\.json\) must be those of"):
        Differences.between(tmp_path, tmp_path)


def test_results_that_are_nested_without_end_are_refused(tmp_path):
    (tmp_path / "metrics.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"metrics\.json\) must be those of"):
        Differences.between(tmp_path, tmp_path)
