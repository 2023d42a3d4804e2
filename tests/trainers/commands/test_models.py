"""`lowrank models` lists released checkpoints and where they are."""

import json

import pytest
import torch

from glmha.shared.released.table import released


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    return tmp_path / "lowrank"


def test_all_are_listed_with_where_they_are(lowrank, capsys, cache):
    cache.mkdir()
    (cache / "swinir-s-x2.pth").touch()
    assert lowrank("models") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert released().keys() <= lines.keys()
    assert " here " in lines["swinir-s-x2"]
    assert " by name " in lines["restormer-deraining"]
    assert "non-commercial" in lines["restormer-deraining"]
    assert " by hand " in lines["uformer-b-sidd"]


def test_family_and_task_choose(lowrank, capsys):
    assert lowrank("models", "--family", "restormer", "--task", "deblurring", "--json") == 0
    assert {entry["name"] for entry in json.loads(capsys.readouterr().out)} == {
        "restormer-motion-deblurring",
        "restormer-defocus-deblurring",
        "restormer-dual-pixel-deblurring",
    }


def test_one_is_described_with_its_place(lowrank, capsys, cache):
    assert lowrank("models", "uformer-b-sidd") == 0
    assert f"place       {cache / 'uformer-b-sidd.pth'}" in capsys.readouterr().out


def test_a_mistyped_name_is_told_its_neighbour(lowrank, capsys):
    assert lowrank("models", "restormer-derain") == 2
    assert "did you mean restormer-deraining?" in capsys.readouterr().err
