"""Every option of every verb changes what the verb does, or is refused: none is taken and ignored.

A verb's function is called twice, with and without another value of one option, on inputs that take no time: what is
slow in it is replaced by a recorder, so that "what the verb does" is the calls that it makes and the files that it
writes. An option without an entry here fails.
"""

import inspect
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import nystra
from tests.trainers.cli import stand_ins
from trainers.cli.verbs import FUNCTION_VERBS
from trainers.metrics.psnr_ssim import PSNR, SSIM

KERNEL = nystra.Nystrom(4, 4)

# Verb → the least that it needs, and another value of each option, with what that value needs beside it.
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "analyze complexity": ({"tables": [7]}, {"tables": {"tables": [9]}, "output": {"output": "a.json"}}),
    "analyze plan": (
        {"images": ["in"], "pretrained": "net.pth", "output": "plan.yaml"},
        {
            "images": {"images": ["target"]},
            "pretrained": {"pretrained": "other.pth"},
            "network": {"network": "nowhere:make"},
            "window_size": {"window_size": 8},
            "budget_db": {"budget_db": 50.0},
            "precisions": {"precisions": ("bf16",)},
            "size": {"size": 16},
            "repeats": {"repeats": 1},
            "seconds": {"seconds": 1.0},
            "output": {"output": "other.yaml"},
        },
    ),
    "analyze spectrum": (
        {"images": ["in"], "pretrained": "net.pth"},
        {
            "images": {"images": ["in/a.png"]},
            "pretrained": {"pretrained": "other.pth"},
            "output": {"output": "other"},
            "size": {"size": 16},
        },
    ),
    "analyze warmstart": (
        {"modules": "modules"},
        {
            "modules": {"modules": "others"},
            "reductions": {"reductions": (0.5,)},
            "steps": {"steps": 2},
            "learning_rate": {"learning_rate": 1.0},
            "blocks": {"blocks": 1},
            "seed": {"seed": 1},
        },
    ),
    "bench": (
        {"size": 8, "memory": False},
        {
            "network": {"network": "mst-l"},
            "size": {"size": 16},
            "repeats": {"repeats": 1},
            "threads": {"threads": 1},
            "baseline": {"baseline": "own.Class"},
            "training": {"training": False},
            "compiled": {"compiled": True},
            "memory": {"memory": True},
            "device": {"device": "cuda:77"},
            "output": {"output": "a.json"},
        },
    ),
    "bench attention": (
        {"window": 4, "kernels": [KERNEL]},
        {
            "window": {"window": 8},
            "windows": {"windows": 2},
            "heads": {"heads": 1},
            "channels": {"channels": 2},
            "bias": {"bias": False},
            "queries": {"queries": "queries.safetensors"},
            "kernels": {"kernels": []},
            "compiled": {"compiled": True},
            "memory": {"memory": True},
            "repeats": {"repeats": 1},
            "threads": {"threads": 1},
            "device": {"device": "cuda:77"},
            "output": {"output": "a.json"},
            "figure": {"figure": "a.png"},
        },
    ),
    "bench gpu": (
        {"device": "cpu", "quick": True},
        {
            "device": {"device": "cuda:77"},
            "quick": {"quick": False},
            "seconds": {"seconds": 1e-9},
            "repeats": {"repeats": 3},
            "output": {"output": "other"},
        },
    ),
    "bench loop": (
        {},
        {
            "recipe": {"recipe": "other.yaml"},
            "size": {"size": 16},
            "batch_sizes": {"batch_sizes": (3,)},
            "blocks": {"blocks": 1},
            "block": {"block": 1},
            "threads": {"threads": 1},
            "accelerator": {"accelerator": "cuda"},
            "output": {"output": "a.json"},
        },
    ),
    "bench runtimes": (
        {"network": "small", "size": 16, "repeats": 1},
        {
            "network": {"network": "other"},
            "size": {"size": 24},
            "repeats": {"repeats": 2},
            "threads": {"threads": 1},
            "baseline": {"baseline": "tests.trainers.cli.stand_ins.Gained"},
            "compiled": {"compiled": True},
            "memory": {"memory": True},
            "output": {"output": "a.json"},
        },
    ),
    "bench windows": (
        {"network": "small", "window": 4, "height": 8, "width": 8, "kernels": [KERNEL]},
        {
            "network": {"network": "other"},
            "window": {"window": 8},
            "position_bias": {"position_bias": "drop"},
            "height": {"height": 16},
            "width": {"width": 16},
            "kernels": {"kernels": []},
            "baseline": {"baseline": "own.Class"},
            "half": {"half": False},
            "compiled": {"compiled": True},
            "memory": {"memory": True},
            "repeats": {"repeats": 1},
            "threads": {"threads": 1},
            "device": {"device": "cuda:77"},
            "output": {"output": "a.json"},
        },
    ),
    "compare": (
        {"data": "data", "pretrained": "net.pth", "kernels": [KERNEL]},
        {
            "data": {"data": "others"},
            "pretrained": {"pretrained": "other.pth"},
            "network": {"network": "nowhere:make"},
            "kernels": {"kernels": []},
            "plan": {"plan": "nowhere.yaml"},
            "metrics": {"metrics": [PSNR()]},
            "window_size": {"window_size": 8},
            "position_bias": {"position_bias": "drop"},
            "images": {"images": 1},
            "tile": {"tile": 24},
            "frames": {"frames": 4},
            "repeats": {"repeats": 1},
            "memory": {"memory": False},
            "output": {"output": "other"},
        },
    ),
    "data": (
        {},
        {"names": {"names": ["sidd"]}, "output": {"output": "other", "names": ["div2k"]}, "json": {"json": True}},
    ),
    "demo": ({}, {"parts": {"parts": ["learned"]}, "output": {"output": "other"}, "steps": {"steps": 1}}),
    "diff": (
        {"results": ["first", "second"], "rows": 1},
        {
            "results": {"results": ["second", "first"]},
            "metric": {"metric": "ssim"},
            "common": {"common": True},
            "rows": {"rows": 2},
            "output": {"output": "other.png"},
        },
    ),
    "export": (
        {"checkpoint": "net.pth", "output": "a.pth"},
        {
            "checkpoint": {"checkpoint": "other.pth"},
            "output": {"output": "b.pth"},
            "format": {"format": "safetensors"},
            "size": {"size": (16, 16)},
            "precision": {"precision": "float16"},
            "pad": {"pad": True},
            "freeze_bias": {"freeze_bias": False},
        },
    ),
    "info": ({}, {"files": {"files": ["net.pth"]}, "json": {"json": True}}),
    "models": (
        {},
        {
            "names": {"names": ["swinir-s-x2"]},
            "family": {"family": "uformer"},
            "task": {"task": "rain"},
            "json": {"json": True},
        },
    ),
    "prepare": (
        {"dataset": "div2k", "source": "source", "output": "out"},
        {
            "dataset": {"dataset": "gopro"},
            "source": {"source": "other"},
            "output": {"output": "other"},
            "verify": {"verify": True},
            "scale": {"scale": 4},
            "crop_size": {"crop_size": 240},
            "step": {"step": 120},
            "crops_per_image": {"crops_per_image": 3},
            "seed": {"seed": 1, "dataset": "sidd"},
            "pack": {"pack": True},
            "workers": {"workers": 0},
        },
    ),
    "push": (
        {"checkpoint": "net.pth", "repository": "me/net"},
        {
            "checkpoint": {"checkpoint": "other.pth"},
            "repository": {"repository": "me/other"},
            "private": {"private": True},
            "licence": {"licence": "mit"},
        },
    ),
    "recipes": ({}, {"names": {"names": ["demo/swinir.yaml"]}}),
    "restore": (
        {"images": ["in/a.png"], "pretrained": "net.pth", "output": "out", "tile": 16, "overlap": 4, "device": "cpu"},
        {
            "images": {"images": ["in"]},
            "pretrained": {"pretrained": "other.pth"},
            "output": {"output": "other"},
            "network": {"network": "nowhere:make"},
            "tile": {"tile": 24},
            "overlap": {"overlap": 8},
            "frames": {"frames": 8},
            "frame_overlap": {"frame_overlap": 4},
            "noise_level": {"noise_level": 20.0},
            "device": {"device": "cuda:77"},
            "precision": {"precision": "bf16"},
            "self_ensemble": {"self_ensemble": True},
            "kernel": {"kernel": KERNEL},
            "plan": {"plan": "nowhere.yaml"},
            "window_size": {"window_size": 8},
            "suffix": {"suffix": "_r"},
            "format": {"format": "tif"},
            "quality": {"quality": 50, "format": "jpg"},
            "codec": {"codec": "h264"},
            "rate": {"rate": 24.0},
            "exif": {"exif": True},
            "overwrite": {"overwrite": True, "output": "full"},
        },
    ),
    "runs": ({"folders": ["runs"]}, {"folders": {"folders": ["others"]}, "json": {"json": True}}),
    "score": (
        {"folders": ["in", "target"], "protocol": "gopro"},
        {
            "folders": {"folders": ["target", "target"]},
            "protocol": {"protocol": "super_resolution", "scale": 2},
            "metrics": {"metrics": [PSNR()], "protocol": None},
            "scale": {"scale": 2},
            "output": {"output": "other"},
        },
    ),
}
# Beside what an option is heard of, where the least that the verb needs leaves it no room.
BESIDE: dict[tuple[str, str], dict[str, Any]] = {
    ("data", "output"): {"names": ["div2k"]},
    ("diff", "common"): {"results": ["first", "third"]},
    ("prepare", "seed"): {"dataset": "sidd"},
    **{("export", name): {"output": "a.onnx"} for name in ("size", "precision", "pad", "freeze_bias")},
    ("restore", "exif"): {"images": ["camera.jpg"]},
    ("restore", "overwrite"): {"output": "full"},
    ("restore", "quality"): {"format": "jpg"},
    ("score", "metrics"): {"protocol": None, "metrics": [SSIM()]},
    ("score", "scale"): {"protocol": "super_resolution", "scale": 3},
}
# What is printed is all that these verbs do.
PRINTING = ("analyze complexity", "data", "diff", "info", "models", "recipes", "runs")
PATHS = ("images", "output", "pretrained", "source", "queries", "figure", "checkpoint", "modules", "folders", "results")


@pytest.fixture
def outcome(tmp_path, monkeypatch, capsys):
    """Calls a verb's function in a folder of its own, and tells what came of it."""
    recorder = stand_ins.install(monkeypatch)
    inputs = tmp_path / "inputs"
    stand_ins.write_inputs(inputs)

    def call(verb: str, options: dict[str, Any]) -> tuple[Any, ...]:
        folder = tmp_path / "run"
        shutil.copytree(inputs, folder)
        monkeypatch.chdir(folder)
        recorder.calls.clear()
        capsys.readouterr()
        entry = FUNCTION_VERBS[verb]
        refusal = None
        try:
            getattr(import_module(entry.module), entry.function)(**{k: as_paths(k, v) for k, v in options.items()})
        except (ValueError, RuntimeError, OSError) as error:
            refusal = str(error)
        printed = capsys.readouterr().out if verb in PRINTING else ""
        written = stand_ins.outputs(folder)
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
        return refusal, list(recorder.calls), written, printed

    return call


def as_paths(name: str, value: Any) -> Any:
    if name not in PATHS or not isinstance(value, str | list):
        return value
    return [Path(each) for each in value] if isinstance(value, list) else Path(value)


def arguments_of(verb: str) -> list[str]:
    entry = FUNCTION_VERBS[verb]
    return list(inspect.signature(getattr(import_module(entry.module), entry.function)).parameters)


def test_every_option_has_an_entry():
    assert {verb: list(options) for verb, (_, options) in OPTIONS.items()} == {
        verb: arguments_of(verb) for verb in FUNCTION_VERBS
    }


@pytest.mark.parametrize("verb", OPTIONS)
def test_every_option_changes_what_its_verb_does_or_is_refused(outcome, verb):
    least, changes = OPTIONS[verb]
    usual = outcome(verb, least)
    assert usual[0] is None
    assert usual == outcome(verb, least), f"{verb} does not do the same twice"
    ignored = []
    for option, change in changes.items():
        beside = BESIDE.get((verb, option), {})
        before = outcome(verb, least | beside) if beside else usual
        if outcome(verb, least | beside | change) == before:
            ignored.append(option)
    assert ignored == []
