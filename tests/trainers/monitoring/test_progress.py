"""What is shown of a run as it goes, on a terminal and in a log file."""

import functools
import re

import pytest

from trainers.cli import main as cli
from trainers.monitoring.progress import ProgressBar

VALUES = r"train/loss [\d.]+, val/psnr [\d.]+, samples/s [\d.e+]+, data wait \d+ %, memory \d+ MiB"


def test_a_log_file_gets_a_line_after_every_validation(lowrank, recipe, capsys):
    assert lowrank("fit", "--config", recipe, "--trainer.enable_progress_bar", "true") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert len(lines) == 1
    assert re.fullmatch(rf"step 4 of 4, epoch 2/2: {VALUES}", lines[0])


def test_a_log_file_gets_a_line_now_and_then(lowrank, recipe, capsys, monkeypatch):
    monkeypatch.setattr(cli, "ProgressBar", functools.partial(ProgressBar, seconds_per_line=1e-9))
    assert lowrank("fit", "--config", recipe, "--trainer.enable_progress_bar", "true") == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^step (\d) of 4, epoch ./2: train/loss", shown, re.MULTILINE) == ["1", "2", "3", "4", "4"]
    assert "validation: 2 of 2 batches" in shown
    assert lowrank("test", "--config", recipe, "--trainer.enable_progress_bar", "true") == 0
    assert "test: 3 of 3 batches" in capsys.readouterr().out


def test_a_terminal_has_a_bar_with_the_values(lowrank, recipe, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    assert lowrank("fit", "--config", recipe, "--trainer.enable_progress_bar", "true") == 0
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert "Epoch 2/2 ━" in shown
    assert re.search(r"train/loss: [\d.]+ +val/psnr: [\d.]+ +samples/s: \S+ +data wait: \d+ % +memory: \d+ MiB", shown)
    assert "v_num" not in shown
    assert "step 4 of 4" not in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"redraws_per_second": 0}, r"redraws_per_second \(0\) must be at least 1"),
        ({"seconds_per_line": 0.0}, r"seconds_per_line \(0.0\) above 0"),
    ],
)
def test_rates_that_cannot_be_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ProgressBar(**options)
