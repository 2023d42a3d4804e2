"""Window attention alone: every kernel is timed beside exact attention, on the same inputs."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.attention.flex_attention import flex_attention

import nystra
from nystra.windows.position_bias import TableBias
from trainers.cli.main import main
from trainers.commands.bench.attention import EXACT, EXPLICIT, FLEX, FUSED, flex_exact, run_bench_attention
from trainers.reports import profiling


def test_kernels_are_timed_beside_exact_attention(tmp_path, capsys):
    options = {"window": 8, "windows": 2, "heads": 2, "channels": 4, "repeats": 1, "threads": 1}
    command = ["bench", "attention", *(f"--{name}={value}" for name, value in options.items())]
    assert main([*command, f"--output={tmp_path / 'bench.json'}", "--kernels+=Nystrom"]) == 0
    record = json.loads((tmp_path / "bench.json").read_text())
    assert list(record["results"]) == [EXPLICIT, FUSED, EXACT, str(nystra.Nystrom())]
    assert record["results"][FUSED]["fused"] == 1
    assert record["results"][EXPLICIT]["explicit"] == 1
    assert "2×2×64×4, position bias" in capsys.readouterr().out


def test_memory_is_measured_of_what_has_a_site(monkeypatch):
    measured = []
    monkeypatch.setattr(profiling, "peak_memory", lambda *call: measured.append(call) or 2.0**20)
    sizes = {"window": 4, "windows": 1, "heads": 1, "channels": 2, "repeats": 1, "threads": 1}
    results = run_bench_attention(**sizes, kernels=[nystra.Nystrom(4, 4)], memory=True)
    assert [name for name, values in results.items() if "bytes" in values] == [FUSED, EXACT, str(nystra.Nystrom(4, 4))]
    assert len(measured) == 3


@pytest.mark.filterwarnings("ignore:flex_attention called without")  # the stand-in compiles nothing
def test_kernels_are_timed_compiled_too(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiled.append(call) or call)
    kernel = nystra.Nystrom(4, 4)
    results = run_bench_attention(
        window=4, windows=1, heads=1, channels=2, kernels=[kernel], compiled=True, repeats=1, threads=1
    )
    assert compiled[:2] == [kernel.attend, flex_attention]
    assert list(results) == [EXPLICIT, FUSED, EXACT, str(kernel), f"{kernel}, compiled", FLEX]


def test_errors_are_measured_on_a_network_s_own_queries(tmp_path):
    file, figure = tmp_path / "queries.safetensors", tmp_path / "errors.png"
    generator = torch.Generator().manual_seed(0)
    save_file({name: torch.randn(9, 8, 3, 2, 4, generator=generator).half() for name in "ab"}, file)
    results = run_bench_attention(
        window=4, windows=3, queries=file, kernels=[nystra.Nystrom(4, 4)], figure=figure, repeats=1, threads=1
    )
    assert results[EXACT]["error"] < 1e-6 > results[FUSED]["error"]
    assert 0.01 < results[str(nystra.Nystrom(4, 4))]["error"] < 1
    assert figure.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"windows \(9\) must be at most the 8 that the file"):
        run_bench_attention(window=4, windows=9, queries=file, kernels=[nystra.Nystrom(4, 4)])
    with pytest.raises(ValueError, match=r"at least 9×9 tokens, got \(9, 8, 3, 2, 4\) \(a\)"):
        run_bench_attention(window=9, windows=1, queries=file, kernels=[nystra.Nystrom(9, 9)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 0}, r"heads \(0\) must be at least 1"),
        ({"threads": 1_000_000}, r"threads \(1000000\) must be at least 1 and at most 1024"),
        ({"threads": 0}, r"threads \(0\) must be at least 1"),
        ({"heads": 2, "queries": Path("some")}, r"heads \(2\) must be null with queries"),
        ({"channels": 2, "queries": Path("some")}, r"channels \(2\) must be null with queries"),
        ({"figure": Path("errors.png")}, r"figure \(errors.png\) must be null without queries"),
    ],
)
def test_what_cannot_be_timed_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        run_bench_attention(**options)


@pytest.mark.filterwarnings("ignore:flex_attention called without")  # the stand-in compiles nothing
def test_flex_attention_reads_the_position_bias_as_the_kernels_do(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 16, 8, generator=generator) for _ in range(3))
    table = torch.randn(49, 3, generator=generator)
    geometry = nystra.WindowGeometry((4, 4), bias=TableBias(table, (4, 4)))
    torch.testing.assert_close(
        flex_exact(query, key, value, table, 4)(), nystra.Softmax()(query, key, value, geometry), rtol=1e-4, atol=1e-5
    )


def test_windows_reach_over_frames(capsys):
    sizes = {"window": 4, "windows": 1, "heads": 1, "channels": 4, "repeats": 1, "threads": 1}
    run_bench_attention(**sizes, frames=2, kernels=[nystra.Nystrom(4, 8)])
    assert "1×1×32×4, position bias" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"frames \(2\) must be null with queries"):
        run_bench_attention(frames=2, compiled=True)
