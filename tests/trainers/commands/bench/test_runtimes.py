"""The verb `bench runtimes`: one network in every runtime, with the same results."""

import functools
import json

import pytest

import glmha
from tests.reference.restormer import Restormer
from trainers.commands.bench import runtimes
from trainers.commands.bench.runtimes import run_bench_runtimes

SIZES = {"dim": 8, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1, "heads": (1, 2, 2, 2)}


@pytest.mark.slow
def test_every_runtime_gives_the_same(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runtimes, "build", lambda network, attention: glmha.Restormer(**SIZES, attention=attention))
    small = functools.partial(Restormer, **SIZES)
    monkeypatch.setattr("trainers.commands.bench.networks.import_class", lambda *_: small)
    file = tmp_path / "times.json"
    results = run_bench_runtimes(size=16, repeats=1, baseline="small", memory=True, output=file)
    labels = [
        f"{name}, {runtime}"
        for name in ("baseline", "dense", "low-rank")
        for runtime in ("eager", "ONNX Runtime", "OpenVINO")
    ]
    assert list(results) == labels
    assert list(json.loads(file.read_text())["results"]) == labels
    assert results["baseline, eager"]["ratio"] == 1
    assert max(values.get("difference", 0) for values in results.values()) <= 1e-5
    assert all(values["bytes"] >= 0 for values in results.values())
    assert "low-rank, OpenVINO" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [({"network": "none"}, "must be one of restormer"), ({"size": 20}, "must be a multiple of 8")],
)
def test_options_that_do_not_fit_are_refused(options, message, monkeypatch):
    monkeypatch.setattr(runtimes, "build", lambda network, attention: glmha.Restormer(**SIZES, attention=attention))
    with pytest.raises(ValueError, match=message):
        run_bench_runtimes(**options)
