"""The benchmark's figures and errors, on a network small enough for tests."""

import functools
import json

import pytest

import glmha
from trainers.commands.bench import networks as bench

SMALL = {"dim": 8, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1}


def test_every_network_is_measured_in_one_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(bench.NETWORKS, "restormer", functools.partial(glmha.Restormer, **SMALL))
    results = bench.run_bench(
        size=16,
        repeats=1,
        threads=1,
        baseline="tests.reference.restormer.Restormer",
        output=tmp_path / "bench.json",
        memory=False,
    )
    assert len(results) == 8
    assert all(values["seconds"] > 0 for values in results.values())
    assert results["baseline, float32, forward"]["ratio"] == 1
    assert json.loads((tmp_path / "bench.json").read_text())["results"] == results
    assert "differ by at most" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "vit"}, r"network \(vit\) must be one of restormer, mst-l"),
        ({"device": "card"}, r"device \(card\)"),
        ({"size": 12}, r"size \(12\)"),
        ({"repeats": 0}, r"repeats \(0\)"),
        ({"baseline": "nowhere.Net"}, r"baseline \(nowhere.Net\)"),
        ({"baseline": "torch.nn.Linear"}, r"baseline \(torch.nn.Linear\) must be the import path of a class like"),
    ],
)
def test_arguments_that_cannot_be_are_named(monkeypatch, arguments, message):
    monkeypatch.setitem(bench.NETWORKS, "restormer", functools.partial(glmha.Restormer, **SMALL))
    with pytest.raises(ValueError, match=message):
        bench.run_bench(**arguments)
