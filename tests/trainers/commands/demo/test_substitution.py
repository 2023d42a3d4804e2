"""The training-free part of the demonstration: a net of its own training, compared with itself."""

import functools
import json

import torch
import yaml

import nystra
from datamodules import DemoDataModule
from nystra.windows.geometry import WindowGeometry
from nystra.windows.position_bias import TableBias
from trainers.commands.demo import substitution as demo_substitution
from trainers.commands.demo.substitution import MeanOfValues


def test_every_variant_of_the_trained_net_is_in_one_table(lowrank, tmp_path, monkeypatch):
    # A process for each variant's memory, and whole photographs, would be most of the test's time.
    quick = functools.partial(demo_substitution.run_compare, repeats=1, memory=False)
    monkeypatch.setattr(demo_substitution, "run_compare", quick)
    monkeypatch.setattr(demo_substitution, "DemoDataModule", functools.partial(DemoDataModule, eval_size=32))
    output = tmp_path / "out"
    assert lowrank("demo", "substitution", "--steps", 2, "--output", output) == 0
    folder = output / "substitution"
    [config] = folder.rglob("config.yaml")
    assert yaml.safe_load(config.read_text())["data"]["init_args"]["degradation"]["init_args"]["sigma"] == [25, 25]
    records = {window: json.loads((folder / f"window_{window}" / "metrics.json").read_text()) for window in (8, 16)}
    assert records[8]["images"] == records[16]["images"] == ["chelsea-1", "chelsea-2", "coffee-1", "coffee-2"]
    kernels = [nystra.ContentPooling(), nystra.LandmarkPooling(), nystra.Nystrom(), nystra.Nystromformer()]
    kernels.append(nystra.PublishedNystrom())
    names = [*map(str, kernels), "MeanOfValues()"]
    assert list(records[8]["variants"]) == ["released", *names]
    assert list(records[16]["variants"]) == ["released", "window 16, no bias", "window 16, bias", *names]
    scores = {record["variants"]["released"]["scores"]["PSNR"] for record in records.values()}
    assert len(scores) == 1
    assert (folder / "window_16" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    summary = (output / "summary.txt").read_text()
    assert "A MINIATURE" in summary
    assert "do not carry over to released models" in " ".join(summary.split())
    lines = ["window 8, as trained", "window 16, no bias", "window 16, bias"]
    lines += [f"window {window}, {name.partition('(')[0]}" for window in (8, 16) for name in names]
    # The table is as wide as the terminal: labels may be broken between words.
    words = {word for line in lines for word in line.split()}
    assert not [word for word in words if word not in summary]


def test_mean_of_values_sees_neither_queries_nor_bias():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(4, 2, 16, 3, generator=generator) for _ in range(3))
    bias = TableBias(torch.randn(49, 2, generator=generator), (4, 4))
    means = MeanOfValues()(query, key, value, WindowGeometry((4, 4), (2, 2), bias=bias))
    torch.testing.assert_close(means, value.mean(2, keepdim=True).expand_as(value))
    # In shifted windows only what is seen counts: the last window's corners come from four corners of the image.
    means = MeanOfValues()(query, key, value, WindowGeometry((4, 4), (2, 2), (2, 2), bias))
    torch.testing.assert_close(means[0], value[0].mean(1, keepdim=True).expand_as(value[0]))
    corner = value[3, :, [0, 1, 4, 5]].mean(1)
    torch.testing.assert_close(means[3, :, 0], corner)
