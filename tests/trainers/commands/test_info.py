"""What the installation has, for people and for programs."""

import json
import types
from pathlib import Path

import pytest
import torch

from glmha import GLMHA
from nystra.programs.cpu import library
from tests.trainers.small_networks import dehazeformer, restormer, swinir
from trainers.runs import cards


def test_versions_and_native_programs_are_told(lowrank, capsys):
    assert lowrank("info") == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["torch"].strip() == torch.__version__
    path, phrase = library.object_file()
    assert (str(path) if path else phrase) in lines["native programs"]


def test_missing_programs_are_told_with_the_reason(lowrank, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(library, "_LIBRARY", None)
    assert lowrank("info", "--json", "true") == 0
    assert json.loads(capsys.readouterr().out)["native programs"].startswith("none")


def test_a_checkpoint_is_described_for_people_and_for_programs(lowrank, released, capsys):
    assert lowrank("info", released) == 0
    lines = capsys.readouterr().out
    assert "architecture: SwinIR\n" in lines
    assert "embed_dim: 8\n" in lines
    assert "ema: False\n" in lines
    assert lowrank("info", released, "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert card["arguments"]["window_size"] == 4
    assert card["parameters"] == sum(value.numel() for value in swinir().parameters())


def test_a_graph_is_described(lowrank, released, tmp_path, capsys):
    assert lowrank("export", "--checkpoint", released, "--output", tmp_path / "net.onnx") == 0
    capsys.readouterr()
    assert lowrank("info", tmp_path / "net.onnx", "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["family"], card["channels"], card["precision"]) == ("SwinIR", 3, "float32")
    (tmp_path / "net.onnx").write_bytes(b"other")
    assert lowrank("info", tmp_path / "net.onnx") == 2
    assert "must be a graph that its runtime reads" in capsys.readouterr().err


def test_a_run_s_checkpoint_is_described_with_its_recipe_and_scores(lowrank, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "version_0"
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(
        {"state_dict": {f"net.{key}": value for key, value in restormer(GLMHA).state_dict().items()}}, last(folder)
    )
    start = {"init_args": {"pretrained": "restormer-deraining"}}
    configuration = {"model": start, "data": {"class_path": "Mine", "init_args": {"root": str(tmp_path / "rain")}}}
    run = types.SimpleNamespace(configuration=configuration, step=4)
    monkeypatch.setattr(cards, "read_run", lambda folder: run)
    results = {"metrics": {"psnr": "PSNR, RGB"}, "average": {"psnr": 30.5}, "sets": {"a": 1}}
    (folder / "metrics.json").write_text(json.dumps(results))
    assert lowrank("info", last(folder), "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["steps"], card["started from"]) == (4, "restormer-deraining")
    assert "Academic Public License" in card["licence"]
    assert card["recipe"]["data"] == {"class_path": "Mine", "init_args": {"root": "rain"}}
    assert card["results"] == {"metrics": {"psnr": "PSNR, RGB"}, "average": {"psnr": 30.5}}
    assert card["attention"] == [{"class": "GLMHA", "reduction": 0.5, "alpha": 0.6, "kernel_size": 3}]


@pytest.mark.parametrize("content", ["[1]", "no JSON", "[" * 100_000, '{"average": {"psnr\\u001b": 1}}'])
def test_a_damaged_record_of_scores_is_no_obstacle(lowrank, tmp_path, capsys, content):
    folder = tmp_path / "version_0"
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"params": swinir().state_dict()}, last(folder))
    (folder / "metrics.json").write_text(content)
    assert lowrank("info", last(folder)) == 0
    assert "\x1b" not in capsys.readouterr().out


def last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize("make", [restormer, dehazeformer])
def test_multiply_adds_are_counted_without_computing(make):
    net = make().eval()
    macs = cards.describe_network(net)["multiply-adds at 256×256"]
    # Every pixel passes the first convolution at least.
    assert macs > 256 * 256 * 3 * 9 * 4
