"""Two folders scored in a benchmark's protocol: the values of its recipe, pairs by name, mistakes."""

import json

import numpy as np
import pytest
import yaml

from datamodules.errors import DataError
from datamodules.files.images import read_image, write_image
from tests.trainers.recipes.shrinking import CONFIGS
from trainers.commands.score import score_folders
from trainers.metrics import PSNR, as_images, protocol_metrics, psnr

RECIPES = {
    "deraining": "rain13k",
    "denoising": "denoising",
    "gopro": "gopro",
    "sidd": "sidd",
    "realblur": "realblur",
    "sots": "sots",
}


@pytest.fixture
def folders(tmp_path):
    """Three restored images and their targets, photograph-like waves."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((40, 48))[..., None] / 6
    for index in range(3):
        waves = 128 + 90 * np.sin(rows + np.arange(3) + index) * np.cos(columns)
        for folder, noise in (("restored", 5 + index), ("clean", 0)):
            (tmp_path / folder).mkdir(exist_ok=True)
            pixels = (waves + rng.integers(-noise, noise + 1, waves.shape)).clip(0, 255).astype(np.uint8)
            write_image(tmp_path / folder / f"{index}.png", pixels)
    return [tmp_path / "restored", tmp_path / "clean"]


@pytest.mark.parametrize(("protocol", "recipe"), RECIPES.items())
def test_a_protocol_is_that_of_the_benchmark_s_recipe(protocol, recipe):
    entries = yaml.safe_load((CONFIGS / f"eval/{recipe}.yaml").read_text())["model"]["init_args"]["metrics"]
    found = [(f"trainers.metrics.{type(metric).__name__}", metric.protocol) for metric in protocol_metrics(protocol)]
    assert [path for path, _ in found] == [entry["class_path"] for entry in entries]
    for (_, words), entry in zip(found, entries, strict=True):
        arguments = entry.get("init_args", {})
        assert ("float" in words) == (not arguments.get("quantise", True) or "PooledSSIM" in entry["class_path"])
        assert ("rounded Y" in words) == (arguments.get("space") == "y_rounded")


def test_every_image_is_scored_and_written(folders, tmp_path, capsys):
    evaluation = score_folders(folders, protocol="denoising", output=tmp_path / "out")
    results = json.loads((tmp_path / "out" / "metrics.json").read_text())
    values = results["sets"]["clean"]["per_image"]
    for name in ("0", "1", "2"):
        images = [as_images(read_image(folder / f"{name}.png")) for folder in folders]
        assert values[name]["psnr"] == pytest.approx(psnr(*images).item())
    assert results["average"]["psnr"] == pytest.approx(np.mean([row["psnr"] for row in values.values()]))
    assert results["higher_is_better"] == {"psnr": True, "ssim": True}
    assert (results["protocol"], results["restored"]) == ("denoising", str(folders[0]))
    assert (results["partial"], len(evaluation.scores)) == (False, 3)
    assert "PSNR on RGB, uint8, border 0" in capsys.readouterr().out


def test_names_are_matched_and_the_border_is_the_scale(folders, tmp_path, lowrank):
    for path in folders[0].iterdir():
        path.rename(path.with_name(f"{path.stem}x2.png"))
    options = ["--protocol", "super_resolution", "--scale", 2, "--output", tmp_path / "out"]
    assert lowrank("score", *folders, *options) == 0
    results = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert results["metrics"]["psnr-y"] == "PSNR on BasicSR's unrounded Y, uint8, border 2"
    images = [as_images(read_image(path)) for path in (folders[0] / "1x2.png", folders[1] / "1.png")]
    expected = psnr(*images, space="y", border=2).item()
    assert results["sets"]["clean"]["per_image"]["1x2"]["psnr-y"] == pytest.approx(expected)


def test_alpha_is_left_out_and_any_metric_is_taken(folders, tmp_path, lowrank):
    path = folders[0] / "0.png"
    pixels = read_image(path)
    write_image(path, np.concatenate([pixels, np.full_like(pixels[..., :1], 7)], 2))
    metrics = json.dumps([{"class_path": "trainers.metrics.PSNR", "init_args": {"border": 4}}])
    assert lowrank("score", *folders, "--metrics", metrics, "--output", tmp_path / "out") == 0
    results = json.loads((tmp_path / "out" / "metrics.json").read_text())
    images = as_images(pixels), as_images(read_image(folders[1] / "0.png"))
    expected = PSNR(border=4).measure(*images).item()
    assert results["sets"]["clean"]["per_image"]["0"]["psnr"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"protocol \(None\) must be given, or metrics"),
        ({"protocol": "gopro", "metrics": [PSNR()]}, r"protocol \(gopro\) must be given, or metrics"),
        ({"metrics": []}, r"metrics \(none\) must be at least one"),
        ({"metrics": [PSNR(), PSNR(border=2)]}, r"metrics \(psnr, psnr\) must be at least one, each of another name"),
        ({"metrics": [PSNR()], "scale": 2}, r"scale \(2\) must be given with protocol super_resolution only"),
        ({"protocol": "sots", "scale": 2}, r"scale \(2\) must be given with protocol super_resolution only, got sots"),
        ({"protocol": "super_resolution"}, r"scale \(None\) must be the factor of super_resolution"),
        ({"protocol": "set5"}, r"protocol \(set5\) must be one of deraining, super_resolution"),
    ],
)
def test_options_that_do_not_fit_are_refused(folders, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        score_folders(folders, output=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_folders_that_do_not_fit_are_refused(folders, tmp_path):
    with pytest.raises(ValueError, match="must be two, restored images and clean ones, got 1"):
        score_folders(folders[:1], protocol="gopro")
    (folders[0] / "0.png").unlink()
    with pytest.raises(DataError, match=r"2 and 3 images, 1 without counterpart: .*0\.png"):
        score_folders(folders, protocol="gopro", output=tmp_path / "out")
    write_image(folders[0] / "0.png", np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(ValueError, match="must have the shape of target") as error:
        score_folders(folders, protocol="gopro", output=tmp_path / "out")
    assert error.value.__notes__ == [f"This was image {folders[0] / '0.png'}, whose target is {folders[1] / '0.png'}."]
