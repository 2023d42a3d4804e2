"""What is said at the end of training, and that its commands work."""

import re
import shlex

import pytest

from datamodules.files.images import read_image
from trainers.monitoring.remaining import duration


def test_the_summary_s_commands_work(lowrank, recipe, tmp_path, pairs, capsys):
    assert lowrank("fit", "--config", recipe) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    folder = tmp_path / "logs/run/version_0"
    assert re.fullmatch(
        r"4 steps; now 8 samples in \d+ s, \d+ s of it in steps: \S+ samples/s, data wait \d+ %, memory \d+ MiB",
        lines["trained"],
    )
    assert lines["last checkpoint"] == f"{folder}/checkpoints/last.ckpt (step 4)"
    best = f"{folder}/checkpoints/best-step=4.ckpt"
    assert re.fullmatch(re.escape(best) + r" \(val/psnr [\d.]+\)", lines["best checkpoint"])
    assert best in lines["to evaluate it"]
    assert lowrank(*shlex.split(lines["to evaluate it"])[1:]) == 0
    assert "psnr" in capsys.readouterr().out
    photo, output = pairs / "test/input/test0.png", tmp_path / "restored"
    command = lines["to restore images"].replace("PHOTO.png", str(photo)).replace("DIR", str(output))
    assert lowrank(*shlex.split(command)[1:]) == 0
    assert read_image(next(output.rglob("*.png"))).shape == (24, 32, 3)


def test_without_checkpoints_none_is_named(lowrank, recipe, capsys):
    assert lowrank("fit", "--config", recipe, "--trainer.enable_checkpointing", "false") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["log folder", "trained"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (390, "6 min 30 s"), (3 * 3600 + 120, "3 h 2 min"), (200000, "2 d 7 h")],
)
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("without", "verb"),
    [(("test",), "validate"), (("test", "val"), None)],
)
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_without_a_test_set_test_is_not_offered(lowrank, recipe, capsys, without, verb):
    absent = [word for split in without for kind in ("input", "target") for word in (f"--data.{split}_{kind}", "null")]
    assert lowrank("fit", "--config", recipe, *absent) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert "to restore images" in lines
    if verb is None:
        assert "to evaluate it" not in lines
    else:
        assert lines["to evaluate it"].startswith(f"lowrank {verb} --config ")
        assert lowrank(*shlex.split(lines["to evaluate it"])[1:]) == 0
