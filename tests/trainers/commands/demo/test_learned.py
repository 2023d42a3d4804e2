"""The learned part runs end to end in a few steps and says what it found."""

import json

import pytest


@pytest.mark.slow
def test_the_learned_part_leaves_table_pictures_and_figures(lowrank, tmp_path, capsys):
    output = tmp_path / "out"
    assert lowrank("demo", "learned", "--steps", 2, "--output", output) == 0
    figures = json.loads((output / "learned" / "metrics.json").read_text())
    rows = figures["results"]
    assert list(rows) == ["input", "CSA", "GLMHA"]
    assert 15 < rows["input"]["psnr"] < 30
    assert rows["GLMHA"]["macs"] < rows["CSA"]["macs"]
    # With one head a level the calibration has as many parameters as smaller keys and values save, Eq. (8).
    assert rows["GLMHA"]["parameters"] == rows["CSA"]["parameters"]
    assert 0 < abs(figures["psnr_change_in_bfloat16"]["GLMHA"]) < 0.2
    assert (output / "learned" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    # Two steps are fewer than TensorBoard is written after.
    assert list(output.glob("learned/GLMHA/**/train.log"))
    # Another part was not asked for.
    assert {path.name for path in output.iterdir()} == {"learned", "summary.txt"}
    assert "tensorboard --logdir" in capsys.readouterr().out
