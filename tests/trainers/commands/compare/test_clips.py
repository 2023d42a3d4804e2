"""Clips in a comparison: frames are scored, flicker is measured, a film strip is drawn."""

import copy
import json

import pytest
import torch

from datamodules import VideoDemoDataModule
from tests.trainers.clip_networks import ClipNetwork
from trainers.commands.compare import command
from trainers.commands.compare.command import run_compare
from trainers.metrics import PSNR, flicker
from trainers.reports.comparison import RELEASED
from trainers.tiling.clips import ClipTiles, restore_clip


def test_clips_are_compared_with_their_flicker(tmp_path, monkeypatch, capsys):
    released = ClipNetwork(4)
    other = copy.deepcopy(released)
    with torch.no_grad():
        other.mix.weight.mul_(0.5)
    monkeypatch.setattr(command, "build_variants", lambda *_: {RELEASED: released, "other": other})
    torch.save({"params": {}}, tmp_path / "net.pth")
    data = VideoDemoDataModule(eval_frames=6, eval_size=64)
    figures = run_compare(
        data,
        pretrained=tmp_path / "net.pth",
        images=1,
        frames=4,
        repeats=1,
        memory=False,
        output=tmp_path,
        metrics=[PSNR()],
    )
    sample = data.test_dataloader()[0].dataset[0]
    for name, net in ((RELEASED, released), ("other", other)):
        restored = restore_clip(net, sample["input"], tiles=ClipTiles(4)).detach().clamp(0, 1)
        expected = [
            PSNR().measure(*pair).item() for pair in zip(restored.split(1), sample["target"].split(1), strict=True)
        ]
        assert figures[name].scores["PSNR"] == pytest.approx(sum(expected) / 6)
        assert figures[name].flicker == pytest.approx(flicker(restored, sample["target"]))
    assert figures[RELEASED].fidelity == float("inf")
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["variants"]["other"]["flicker"] == figures["other"].flicker
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "flicker" in printed
    assert "s/clip" in printed
