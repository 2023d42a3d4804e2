"""Classes of a user's own, in a module in the working directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODULE = """
from datamodules import PairedFolderDataModule


class SceneFolders(PairedFolderDataModule):
    def __init__(self, root: str = ".", patch_size: int = 16) -> None:
        super().__init__(patch_size=patch_size)
"""


def test_the_installed_command_finds_modules_in_the_working_directory(tmp_path, recipe):
    command = Path(sys.executable).with_name("lowrank")
    if not command.is_file():
        pytest.skip("the package is not installed")
    (tmp_path / "mydata.py").write_text(MODULE)
    options = ["--config", str(recipe), "--data", "mydata.SceneFolders", "--data.root", "scenes", "--print_config"]
    result = subprocess.run(
        [command, "fit", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "class_path: mydata.SceneFolders" in result.stdout
    assert "root: scenes" in result.stdout


def test_a_file_in_the_working_directory_hides_no_installed_module(tmp_path):
    for name in ("torch", "yaml", "lightning", "jsonargparse"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('executed')")
    result = subprocess.run(
        [sys.executable, "-m", "trainers", "recipes", "demo/restormer_glmha.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
