"""The demonstration runs end to end in a few steps and says what it found."""

import json

import pytest
import torch

import glmha
from trainers import demo
from trainers.measure import inference, interleaved_medians, peak_memory


def test_the_demonstration_leaves_table_pictures_and_figures(tmp_path, capsys):
    rows = demo.run_demo(tmp_path, steps=2)
    assert list(rows) == ["input", "CSA", "GLMHA"]
    assert 15 < rows["input"].psnr < 30
    assert rows["GLMHA"].macs < rows["CSA"].macs
    # With one head a level the calibration has as many parameters as smaller keys and values save, Eq. (8).
    assert rows["GLMHA"].parameters == rows["CSA"].parameters
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert figures["results"]["GLMHA"]["psnr"] == rows["GLMHA"].psnr
    assert figures["psnr_in_bfloat16"]["GLMHA"] == pytest.approx(rows["GLMHA"].psnr, abs=0.2)
    assert figures["psnr_in_bfloat16"]["GLMHA"] != rows["GLMHA"].psnr
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob("GLMHA/**/events.out.tfevents.*"))
    assert "tensorboard --logdir" in capsys.readouterr().out


def test_steps_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match=r"steps \(0\) must be at least 1"):
        demo.run_demo(tmp_path, steps=0)


def test_memory_of_a_larger_input_is_larger():
    net = glmha.load_pretrained(glmha.Restormer(dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1).state_dict())

    small, large = (peak_memory(inference, net, torch.rand(1, 3, size, size)) for size in (16, 512))
    assert large > small + 2**23


def test_medians_are_taken_over_every_call():
    calls = []
    medians = interleaved_medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3
    assert set(medians) == {"a", "b"}
