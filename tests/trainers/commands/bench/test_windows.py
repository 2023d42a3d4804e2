"""The verb `bench windows`: every kernel in a whole network, exact where it should be, and its errors."""

import functools
import json
import re

import pytest
import torch
from torch import nn

import nystra
from nystra.hosts.rvrt.network import RVRT
from trainers.cli.main import main
from trainers.commands.bench import windows as bench_windows
from trainers.commands.bench.windows import Absent, ExplicitSoftmax, run_bench_windows

SWINIR = "tests.reference.swinir.SwinIR"


@pytest.fixture
def small(monkeypatch):
    """A network that is timed in moments."""
    arguments = {"embed_dim": 8, "depths": (2,), "num_heads": (2,), "window_size": 4, "upscale": 2}
    arguments["upsampler"] = "pixelshuffledirect"
    monkeypatch.setitem(bench_windows.NETWORKS, "small", functools.partial(nystra.hosts.swinir.SwinIR, **arguments))


@pytest.mark.slow
def test_kernels_are_timed_beside_explicit_and_fused_softmax(small, tmp_path, capsys):
    file = tmp_path / "times.json"
    sizes = {"network": "small", "window": 8, "height": 16, "width": 16, "repeats": 1, "threads": 1}
    arguments = [f"--{name}={value}" for name, value in sizes.items()]
    main(["bench", "windows", *arguments, "--kernels+=Nystrom", "--memory", "true", "--output", str(file)])
    written = json.loads(file.read_text())
    labels = ["explicit softmax", "fused softmax", "Softmax()", str(nystra.Nystrom()), "attention taken out"]
    assert list(written["results"]) == [f"{name}, {kind}" for name in labels for kind in ("float32", "bfloat16")]
    for values in written["results"].values():
        assert values["seconds"] > 0
        assert values["bytes"] >= 0
    assert written["results"]["explicit softmax, float32"]["explicit"] == 1
    assert written["attention_share"] == pytest.approx(
        1 - 1 / written["results"]["attention taken out, float32"]["explicit"]
    )
    assert "window 8×8, position bias" in capsys.readouterr().out


def test_networks_are_timed_compiled_too(small, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, **_: compiled.append(type(module).__name__))
    sizes = {"window": 8, "height": 16, "width": 16, "repeats": 1, "threads": 1}
    results = run_bench_windows(network="small", **sizes, kernels=[nystra.Nystrom()], half=False, compiled=True)
    labels = ["explicit softmax", "fused softmax", "Softmax()", str(nystra.Nystrom()), "attention taken out"]
    names = [f"{name}, float32" for name in labels]
    assert list(results) == [*names, *(f"{name}, compiled" for name in names[1:])]
    # Two blocks of four networks.
    assert compiled == ["SwinBlock"] * 8


def test_a_baseline_is_timed_with_the_networks_arguments_and_weights(small, tmp_path, capsys):
    file = tmp_path / "times.json"
    settings = {"network": "small", "window": 4, "height": 16, "width": 16, "repeats": 1, "threads": 1, "kernels": []}
    results = run_bench_windows(**settings, baseline=SWINIR, output=file)
    assert list(results)[:3] == ["baseline, float32", "baseline, bfloat16", "explicit softmax, float32"]
    assert results["baseline, float32"]["baseline"] == 1
    for values in results.values():
        assert values["baseline"] == pytest.approx(results["baseline, float32"]["seconds"] / values["seconds"])
    assert json.loads(file.read_text())["baseline"] == SWINIR
    (difference,) = re.findall(r"differ by at most (\S+) on the same weights", capsys.readouterr().out)
    assert float(difference) < 1e-5


def test_a_network_of_clips_is_timed_on_a_clip(monkeypatch, capsys):
    arguments = {"num_blocks": [1] * 3, "depths": [1] * 3, "embed_dims": [12] * 3, "num_heads": [2] * 3}
    small = functools.partial(RVRT, **arguments, deformable_groups=6, attention_heads=6)
    monkeypatch.setitem(bench_windows.CLIP_NETWORKS, "rvrt", small)
    settings = {"network": "rvrt", "window": 4, "height": 8, "width": 8, "frames": 4, "repeats": 1, "threads": 1}
    results = run_bench_windows(**settings, kernels=[], baseline="tests.reference.rvrt.RVRT")
    assert next(iter(results)) == "baseline, float32"
    shown = capsys.readouterr().out
    assert "rvrt, window 2×4×4, 4×4, position bias, 4×8×8 pixels" in " ".join(shown.split())
    (difference,) = re.findall(r"differ by at most (\S+) on the same weights", shown)
    assert float(difference) < 1e-5


@pytest.mark.parametrize("window", [8, 16])
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("swinir-light-x2", SWINIR),
        ("dehazeformer-t", "tests.reference.dehazeformer.DehazeFormer"),
        ("uformer-t", "tests.reference.uformer.Uformer"),
        ("rvrt-x4", "tests.reference.rvrt.RVRT"),
    ],
)
def test_networks_have_a_published_structure_in_windows_of_any_size(name, path, window):
    make = (bench_windows.NETWORKS | bench_windows.CLIP_NETWORKS)[name]
    arguments = bench_windows.trained_in(make, window)
    exact = make.func(**arguments)
    assert {site.window_size[-2:] for site in nystra.find_sites(exact).values()} == {(window, window)}
    published = bench_windows.published_structure(path, exact, arguments)
    torch.testing.assert_close(published.state_dict(), exact.state_dict(), rtol=0, atol=0)
    assert not published.training


def test_explicit_softmax_is_exact_attention_and_absent_attention_gives_the_values():
    query, key, value = torch.randn(3, 4, 2, 16, 4).unbind(0)
    geometry = nystra.WindowGeometry((4, 4), (2, 2), (2, 2))
    exact = nystra.Softmax()(query, key, value, geometry)
    torch.testing.assert_close(ExplicitSoftmax()(query, key, value, geometry), exact)
    assert torch.equal(Absent()(query, key, value, geometry), value)


@pytest.mark.parametrize("name", ["swinir-light-x2", "dehazeformer-t", "uformer-t"])
def test_networks_have_the_released_sizes(name):
    parameters = {"swinir-light-x2": 910152, "dehazeformer-t": 687404, "uformer-t": 5291853}
    assert sum(weight.numel() for weight in bench_windows.NETWORKS[name]().parameters()) == parameters[name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "vgg"}, r"network \(vgg\) must be package.module:name, or one of swinir-light-x2, "),
        ({"network": "small", "frames": 2}, r"frames \(2\) must be null with network \(small\), which takes images"),
        ({"network": "small", "repeats": 0}, r"repeats \(0\) must be at least 1"),
        (
            {"network": "small", "window": 4, "position_bias": "drop", "baseline": SWINIR},
            r"position_bias \(drop\) must be keep with a baseline",
        ),
        (
            {"network": "small", "window": 4, "baseline": "tests.reference.uformer.Uformer"},
            r"baseline \(tests.reference.uformer.Uformer\) must be the import path of a class like SwinIR",
        ),
    ],
)
def test_what_cannot_be_timed_is_refused(small, arguments, message):
    with pytest.raises(ValueError, match=message):
        run_bench_windows(**arguments)
