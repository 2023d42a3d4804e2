"""The video part of the demonstration: a miniature of its own training, in larger windows, beside bicubic."""

import functools
import json

import pytest

from datamodules import VideoDemoDataModule
from trainers.commands.demo import video as demo_video


@pytest.mark.slow
def test_the_part_leaves_a_table_film_strips_and_figures(lowrank, tmp_path, monkeypatch):
    small = functools.partial(VideoDemoDataModule, eval_size=64)
    monkeypatch.setattr(demo_video, "VideoDemoDataModule", small)
    fit = demo_video.fit
    monkeypatch.setattr(
        demo_video, "fit", lambda options: fit([*options, "--data.eval_size=64", "--data.eval_frames=2"])
    )
    output = tmp_path / "out"
    assert lowrank("demo", "video", "--steps", 2, "--output", output) == 0
    folder = output / "video/window_16"
    variants = json.loads((folder / "metrics.json").read_text())["variants"]
    assert list(variants)[:3] == ["released", "window 16, no bias", "window 16, bias"]
    assert len(variants) == 4
    assert all(variant["flicker"] > 0 for variant in variants.values())
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    summary = (output / "summary.txt").read_text()
    # The table is as wide as the terminal.
    assert "as trained," in summary
    assert "bicubic: 2" in summary
