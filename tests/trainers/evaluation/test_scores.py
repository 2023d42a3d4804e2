"""Scores of images become means of sets, a table and an average."""

import pytest
from rich.console import Console

from trainers.evaluation.scores import Evaluation, ImageScore, gather
from trainers.metrics import PSNR

pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",  # within Lightning
    "ignore:The '.*_dataloader' does not have many workers",  # tests need none
    "ignore:You defined a `validation_step` but have no",  # nor validation
)


def test_the_average_says_over_how_many_of_the_sets():
    scores = [ImageScore(name, "a", {"psnr": 10.0}) for name in ("one", "two")]
    console = Console(width=100)
    with console.capture() as capture:
        console.print(Evaluation(scores, {"psnr": PSNR().protocol}, {"one": 1, "two": 1, "three": 4}).table())
    assert "mean of 2 of 3 sets" in capture.get()
    assert "2 of 6" in capture.get()


def test_names_of_metrics_are_never_cut_short():
    names = ["psnr-bands", "ssim-bands", "psnr-bands-uint8", "ssim-bands-uint8"]
    evaluation = Evaluation([ImageScore("KAIST", "a", dict.fromkeys(names, 0.5))], dict.fromkeys(names, ""), {})
    console = Console(width=60)
    with console.capture() as capture:
        console.print(evaluation.table())
    assert "…" not in capture.get()
    assert capture.get().count("psnr-") == capture.get().count("ssim-") == 2


def test_scores_of_several_processes_count_each_image_once():
    first, second = (ImageScore("set", name, {"psnr": value}) for name, value in (("b", 20.0), ("a", 30.0)))
    assert gather([first, second, first]) == [second, first]


def test_the_average_is_the_mean_of_the_sets_means():
    scores = [ImageScore("one", "a", {"psnr": 10.0}), *(ImageScore("two", name, {"psnr": 20.0}) for name in "bcd")]
    evaluation = Evaluation(scores, {"psnr": PSNR().protocol}, {"one": 1, "two": 3})
    assert evaluation.average() == {"psnr": 15.0}
    assert not evaluation.partial
