"""Folders of runs and results as commands leave them, without a training."""

import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

from trainers.reports.pictures import draw_triplet
from trainers.runs.run import RUN_FILE, Run

CONFIGURATION: dict[str, Any] = {
    "seed_everything": 3,
    "trainer": {"max_steps": 30, "max_epochs": None, "precision": "bf16-mixed"},
    "model": {
        "class_path": "trainers.RestorationTask",
        "init_args": {
            "net": {"class_path": "glmha.Restormer", "init_args": {"dim": 8, "heads": [1, 2, 4, 8], "bias": False}},
            "tile": None,
        },
    },
    "data": {"class_path": "mine.Data", "init_args": {"root": "photos"}},
    "watch": {"sites": 6},
}


def write_run(folder: Path, word: str = "word", *, rate: float = 1e-3, best: float = 30.5) -> Path:
    """A finished run with curves, a validation picture, a log and a checkpoint."""
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("last.ckpt", "best-step=30.ckpt"):
        (folder / "checkpoints" / name).touch()
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": rate, "weight_decay": 0.01}}
    model = {**CONFIGURATION["model"], "init_args": {**CONFIGURATION["model"]["init_args"], "optimizer": optimizer}}
    configuration = {**CONFIGURATION, "model": model, word: word}
    run = Run(
        state="finished",
        host=socket.gethostname(),
        process=os.getpid(),
        process_start=None,
        job=None,
        started="2026-01-01T00:00:00+00:00",
        updated="2026-01-01T01:30:00+00:00",
        step=30,
        max_steps=30,
        monitor="val/psnr",
        best=best,
        best_checkpoint=f"elsewhere/{folder.name}/checkpoints/best-step=30.ckpt",
        configuration=configuration,
        environment={"device": word},
    )
    (folder / RUN_FILE).write_text(json.dumps(asdict(run)))
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration))
    (folder / "train.log").write_text(f"2026-01-01 00:00:00+00:00 {word}\n")
    writer = SummaryWriter(folder)
    for step in range(9, 30, 10):
        writer.add_scalar("train/loss", 1 / (step + rate * 1e3), step)
        writer.add_scalar("watch/rank/body.0", 0.5, step)
    writer.add_scalar("val/psnr", best, 29)
    target = torch.full((3, 24, 200), 0.5)
    for step in (10, 30):
        picture = draw_triplet(target + 0.3, target + 3 * rate * step, target, name="image")
        writer.add_image("val/set/image", picture, step, dataformats="HWC")
    writer.close()
    return folder


def write_evaluation(folder: Path, word: str = "word", change: float = 0.0) -> Path:
    """Scores of a test, as `metrics.json`."""
    rows = {f"{word} {index}": {"psnr": 30.0 + index + change, "ssim": 0.9} for index in range(3)}
    mean = {"psnr": 31.0 + change, "ssim": 0.9}
    content = {
        "data": "Data",
        "metrics": {"psnr": f"{word} protocol", "ssim": "another"},
        "higher_is_better": {"psnr": True, "ssim": True},
        "partial": True,
        "sets": {word: {"images": 3, "images_expected": 5, "mean": mean, "per_image": rows}},
        "weights": {"path": word, "sha256": "0" * 64},
        "versions": {"torch": word},
    }
    return _write(folder, content)


def write_comparison(folder: Path, word: str = "word") -> Path:
    """Figures of a comparison, as `metrics.json`."""
    names = ("released", f"Kernel({word})", "Other()")
    variants = {
        name: {
            "scores": {"PSNR": 30.0 - index},
            "worst_drop": float(index),
            "seconds": 3.0 - index,
            "memory": 2.0**20,
            "per_image": {"PSNR": [30.0, 30.0 - 2 * index]},
            **({"fidelity": 50.0 - index, "worst_fidelity": 45.0} if index else {}),
        }
        for index, name in enumerate(names)
    }
    protocol = {"PSNR": f"{word} protocol"}
    files = {label: f"pictures/0/{index}.png" for index, label in enumerate(("input", names[1], "target"))}
    pictures = {"a": files, "b": {"input": "../../outside.png", "target": "/outside.png"}}
    about = {"data": word, "images": ["a", word], "pictures": pictures}
    return _write(folder, {**about, "protocol": protocol, "variants": variants})


def write_bench(file: Path, word: str = "word") -> Path:
    """Times of a benchmark."""
    results = {word: {"seconds": 0.5, "bytes": 3 * 2**20}, "other": {"seconds": 0.25, "note": word}}
    file.write_text(json.dumps({"size": 64, "machine": {"instructions": word}, "results": results}))
    return file


def picture(folder: Path, name: str, level: int) -> Path:
    """An image file."""
    from datamodules.files.images import write_image

    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.full((20, 30, 3), level, np.uint8)
    write_image(folder / name, pixels)
    return folder / name


def _write(folder: Path, content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder
