"""The demonstration runs end to end in a few steps and says what it found."""

import json

import pytest
import torch

import glmha
from trainers.commands.demo import command as demo
from trainers.commands.demo.learned import run_learned_demo
from trainers.commands.demo.spectral import run_spectral_demo
from trainers.commands.demo.substitution import run_substitution_demo
from trainers.reports.profiling import inference, interleaved_medians, peak_memory


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


def test_parts_run_in_their_order_into_one_summary(tmp_path, monkeypatch, capsys):
    calls = []

    def part(name):
        def run(output, **options):
            calls.append((name, output, options))
            return f"{name} says so"

        return run

    monkeypatch.setattr(demo, "PARTS", {name: part(name) for name in demo.PARTS})
    demo.run_demo([*reversed(demo.PARTS)], output=tmp_path, steps=3)
    assert calls == [(name, tmp_path / name, {"steps": 3}) for name in demo.PARTS]
    calls.clear()
    demo.run_demo(output=tmp_path)
    assert calls == [(name, tmp_path / name, {}) for name in demo.PARTS]
    summary = (tmp_path / "summary.txt").read_text()
    assert summary.index("learned says so") < summary.index("spectral says so") < summary.index("substitution says so")
    shown = capsys.readouterr().out
    # Each part's table is printed when the part ends, with its time.
    for number, name in enumerate(demo.PARTS, start=1):
        began, result = shown.index(f"part {number} of 4: {name}"), shown.index(f"{name} says so")
        assert began < result < shown.index(f"part {number} of 4, {name}, took 0 s")
    assert "the demonstration took 0 s" in shown


@pytest.mark.parametrize("run", [demo.run_demo, run_learned_demo, run_spectral_demo, run_substitution_demo])
def test_steps_must_be_positive(tmp_path, run):
    with pytest.raises(ValueError, match=r"steps \(0\) must be at least 1"):
        run(output=tmp_path, steps=0)


def test_parts_must_be_known(tmp_path):
    with pytest.raises(ValueError, match=r"parts \(spectrum\) must be of learned, spectral, "):
        demo.run_demo(["learned", "spectrum"], output=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_memory_of_a_larger_input_is_larger():
    net = glmha.load_pretrained(glmha.Restormer(dim=8, num_blocks=(1, 1, 1, 1), num_refinement_blocks=1).state_dict())

    small, large = (peak_memory(inference, net, torch.rand(1, 3, size, size)) for size in (16, 512))
    assert large > small + 2**23


def test_medians_are_taken_over_every_call():
    calls = []
    medians = interleaved_medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3
    assert set(medians) == {"a", "b"}
