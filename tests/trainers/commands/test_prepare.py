"""The verb `prepare`: its messages, and a real process that is killed while it cuts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datamodules import RESIDEDataModule
from datamodules.files.images import write_image
from tests.datamodules.conftest import write_pairs
from trainers.cli.main import main

CUT = ["--crop_size=24", "--step=16"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "source/GoPro/train", [f"{number:03}" for number in range(30)], size=(40, 40))
    return tmp_path / "source"


def prepare(*arguments) -> int:
    return main(["prepare", *map(str, arguments)])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_that_looks_finished_and_the_next_goes_on(source, tmp_path, capsys):
    arguments = ["gopro", "--source", source, *CUT, "--output", tmp_path / "out"]
    command = [sys.executable, "-m", "trainers", "prepare", *map(str, arguments), "--workers=2"]
    log = tmp_path / "out/GoPro/.train.unfinished/log"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[3])
    try:
        deadline = time.monotonic() + 120
        while not (log.exists() and log.read_text().count("\n") >= 2):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = log.read_text().count("\n")
    assert done < 30
    assert not (tmp_path / "out/GoPro/train").exists()
    # Its processes end with it: none goes on writing.
    time.sleep(1)
    left = files(tmp_path / "out")
    time.sleep(0.5)
    assert files(tmp_path / "out").keys() == left.keys()

    assert prepare(*arguments, "--workers=0") == 0
    assert f"120 crops of 30 images, {30 - done} of them in this run" in capsys.readouterr().out
    assert prepare("gopro", "--source", source, *CUT, "--output", tmp_path / "whole", "--workers=0") == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    capsys.readouterr()
    assert prepare(*arguments, "--workers=0") == 0
    assert "120 crops of 30 images were there: nothing to do" in capsys.readouterr().out


def test_verify_names_all_faults_in_one_message(source, capsys):
    train = source / "GoPro/train"
    for name in ("001", "017", "029"):
        (train / "input" / f"{name}.png").write_bytes(b"\x89PNG\r\n")
    (train / "target/005.png").unlink()
    write_image(train / "target/006.png", np.zeros((40, 40, 3), np.uint16))
    # Without reading anything, names alone are refused.
    assert prepare("gopro", "--source", source) == 2
    assert "got 1 faults" in capsys.readouterr().err
    assert prepare("gopro", "--source", source, "--verify", "--workers=0") == 2
    printed = capsys.readouterr()
    assert "got 6 faults" in printed.err
    for path in ("input/001.png", "input/017.png", "input/029.png", "input/005.png", "target/006.png"):
        assert str(train / path) in printed.err
    assert "GoPro/train has 29 pairs, 2103 as published" in printed.err
    assert "not here: GoPro/test" in printed.out


def test_a_whole_set_is_verified_by_several_processes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(RESIDEDataModule, "sots_counts", {"SOTS-indoor": 2})
    write_pairs(tmp_path / "SOTS-indoor", ["1", "2"], inputs="hazy", targets="GT")
    assert prepare("reside", "--source", tmp_path, "--verify", "true", "--workers=2") == 0
    assert "verified: every file of SOTS-indoor can be used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ntire2022", "--output=out"], "output (out) must be null for ntire2022"),
        (["realblur", "--output=out"], "output (out) must be null for realblur"),
        (["cassi", "--output=out"], "output (out) must be null for cassi"),
        (["gopro", "--workers=-1"], "workers (-1) must be at least 0"),
        (["gopro", "--workers=2"], "workers (2) must be left out where nothing is read"),
        (["sidd", "--seed=-1", "--output=out"], "seed (-1) must be at least 0"),
        (["sidd", "--crop_size=0", "--output=out"], "crop_size (0) must be at least 1"),
        (["hide"], "dataset (hide) must be"),
        (["gopro", "--output=out", "--crop_size=8", "--step=4", "--crops_per_image=3"], "step (4) must be null"),
        (["gopro", "--crop_size=8"], "crop_size (8) must be left out without output"),
        (["gopro", "--step=4", "--verify"], "step (4) must be left out without output"),
        (["gopro", "--crops_per_image=0"], "crops_per_image (0) must be left out without output"),
        (["gopro", "--seed=0"], "seed (0) must be left out without output"),
        (["gopro", "--pack"], "pack (True) must be left out without output"),
        (["gopro", "--scale=2"], "scale (2) must be null for gopro"),
        (["gopro", "--scale=2", "--output=out"], "scale (2) must be null for gopro"),
        (["gopro", "--seed=1", "--output=out"], "seed (1) must be null where crops lie on a grid"),
        (["sidd", "--seed=1", "--step=8", "--output=out"], "seed (1) must be null where crops lie on a grid"),
        (["rain13k", "--seed=1", "--pack", "--output=out"], "seed must be null for rain13k"),
        (["reside", "--crops_per_image=0", "--pack", "--output=out"], "crops_per_image must be null for reside"),
        (["div2k", "--scale=5"], "scale (5) must be one of 2, 3, 4, 8"),
    ],
)
def test_options_that_do_not_fit_are_refused(source, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare(*arguments, f"--source={source}") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
