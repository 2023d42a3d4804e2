"""Two evaluations compared image by image: order, counts, plot, and what is refused."""

import json

import pytest

from datamodules.files.images import read_image
from trainers.commands.diff import diff_results
from trainers.evaluation.scores import Evaluation, ImageScore

FIRST = {"a": 30.0, "b": 20.0, "c": float("inf"), "d": 25.0}
SECOND = {"a": 31.0, "b": 17.5, "c": float("inf"), "d": 25.25}


@pytest.fixture
def results(tmp_path):
    """Writes the results of an evaluation, as `lowrank test` does, and returns their folder."""

    def write(name, values, metric="psnr", protocol="PSNR on RGB", directions=None):
        scores = [ImageScore("Set5", image, {metric: value}) for image, value in values.items()]
        evaluation = Evaluation(scores, {metric: protocol}, {"Set5": len(scores)}, directions or {})
        evaluation.report(tmp_path / name, data=None, weights=None, seed=None)
        return tmp_path / name

    return write


def test_images_are_sorted_and_counted_and_drawn(results, tmp_path, capsys):
    folders = [results("first", FIRST), results("second", SECOND) / "metrics.json"]
    capsys.readouterr()
    differences = diff_results(folders, output=tmp_path / "plots" / "diff.png")
    assert [(image.image, image.change) for image in differences.images] == [
        ("b", -2.5),
        ("c", 0.0),
        ("d", 0.25),
        ("a", 1.0),
    ]
    assert (differences.better, differences.worse) == (2, 1)
    assert differences.mean == pytest.approx(-0.3125)
    printed = capsys.readouterr().out
    assert "mean change -0.3125; the second is better on 2, worse on 1 and equal on 1 of 4 images" in printed
    assert printed.index("-2.5000") < printed.index("+1.0000")
    height, width, channels = read_image(tmp_path / "plots" / "diff.png").shape
    assert height > 100
    assert width > height
    assert channels in (3, 4)


def test_the_table_shows_the_largest_changes_of_many(results, tmp_path, capsys):
    values = {f"image{index:03}": float(index) for index in range(50)}
    changed = {name: value * 1.5 for name, value in values.items()}
    folders = [results("first", values), results("second", changed)]
    capsys.readouterr()
    diff_results(folders, rows=2, output=tmp_path / "diff.png")
    shown = [line.split()[3] for line in capsys.readouterr().out.splitlines() if "image0" in line]
    assert shown == ["image000", "image001", "image048", "image049"]


@pytest.mark.parametrize(("metric", "directions"), [("mrae", {}), ("error", {"error": False})])
def test_of_an_error_less_is_better(results, tmp_path, metric, directions):
    folders = [
        results(name, values, metric, "an error", directions)
        for name, values in (("first", {"a": 0.5, "b": 0.5}), ("second", {"a": 0.25, "b": 1.0}))
    ]
    differences = diff_results(folders, output=tmp_path / "diff.png")
    assert [image.image for image in differences.images] == ["b", "a"]
    assert (differences.better, differences.worse) == (1, 1)


def test_what_both_have_is_compared_on_request(results, tmp_path, lowrank, capsys):
    first, second = results("first", FIRST), results("second", {"b": 21.0, "e": 1.0})
    output = ["--output", tmp_path / "diff.png"]
    assert lowrank("diff", first, second, *output) == 2
    message = capsys.readouterr().err
    assert "must have the same images, got Set5/a in the first only" in message
    assert lowrank("diff", first, second, "--common", *output) == 0
    assert "better on 1, worse on 0 and equal on 0 of 1 images" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(results, tmp_path):
    first = results("first", FIRST)
    other = results("other", FIRST, protocol="PSNR on Y")
    with pytest.raises(ValueError, match="must have the same metrics, got psnr as PSNR on RGB and as PSNR on Y"):
        diff_results([first, other])
    with pytest.raises(ValueError, match="must share a metric of one protocol and an image, got 0 metrics"):
        diff_results([first, other], common=True)
    with pytest.raises(ValueError, match=r"metric \(psrn\) must be one of psnr, .*; did you mean psnr"):
        diff_results([first, first], metric="psrn")
    with pytest.raises(FileNotFoundError, match=r"results \(.*none\) must be a metrics.json"):
        diff_results([first, tmp_path / "none"])
    compared = tmp_path / "metrics.json"
    compared.write_text(json.dumps({"variants": {}}))
    with pytest.raises(ValueError, match="must be those of lowrank test, validate or score"):
        diff_results([first, compared])
    with pytest.raises(ValueError, match="must be two, got 1"):
        diff_results([first])
    with pytest.raises(ValueError, match=r"rows \(0\) must be at least 1"):
        diff_results([first, first], rows=0)
