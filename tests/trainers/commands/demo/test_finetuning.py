"""The fine-tuning part of the demonstration: three figures, of a net of its own training or the one that is there."""

import functools
import json

import pytest

from datamodules import DemoDataModule
from trainers.commands.demo import finetuning as demo_finetune


@pytest.mark.slow
def test_three_figures_are_given_and_a_trained_miniature_is_taken(lowrank, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_finetune, "DemoDataModule", functools.partial(DemoDataModule, eval_size=32))
    # Epochs of one step, for that one to end with a validation.
    fit = demo_finetune.fit
    monkeypatch.setattr(demo_finetune, "fit", lambda options: fit([*options, "--data.epoch_length=8"]))
    output = tmp_path / "out"
    assert lowrank("demo", "finetune", "--steps", 3, "--output", output) == 0
    [tuning] = (output / "finetune").rglob("fine_tuning.json")
    assert json.loads(tuning.read_text())["now"]
    figures = json.loads((output / "finetune" / "metrics.json").read_text())
    assert len(figures) == 3
    assert len(set(figures.values())) == 3
    assert "win" in (output / "summary.txt").read_text()
    # The miniature of the substitution part is not trained once more.
    (output / "finetune" / "SwinIR").rename(tmp_path / "SwinIR")
    (output / "substitution").mkdir()
    (tmp_path / "SwinIR").rename(output / "substitution" / "SwinIR")
    monkeypatch.setattr(demo_finetune, "train_miniature", None)
    assert lowrank("demo", "finetune", "--steps", 3, "--output", output) == 0
    again = json.loads((output / "finetune" / "metrics.json").read_text())
    assert list(again.values())[:2] == list(figures.values())[:2]


def test_steps_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match=r"steps \(0\) must be at least 1"):
        demo_finetune.run_finetune_demo(tmp_path, steps=0)
