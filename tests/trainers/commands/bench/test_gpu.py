"""The verb `bench gpu`: every table is made or said to have failed, and what was made is kept."""

import json

import pytest

from trainers.commands.bench import gpu
from trainers.commands.bench.gpu import Section, run_bench_gpu
from trainers.reports.tables import NAME_COLUMN, SECONDS


def test_small_tables_are_made_on_the_processor(tmp_path):
    results = run_bench_gpu(device="cpu", quick=True, output=tmp_path)
    titles = list(results)
    assert [title.split(",")[0] for title in titles] == ["window attention", "mst-plus-plus", "swinir-light-x2"]
    for rows in results.values():
        assert all(row["seconds"] > 0 for row in rows.values())
    assert all(any(name.startswith("baseline, float32") for name in results[title]) for title in titles[1:])
    assert json.loads((tmp_path / "gpu.json").read_text())["results"] == results
    page = (tmp_path / "gpu.md").read_text()
    assert page.startswith("# processor, ")
    assert page.count("\n## ") == 3
    assert "| Softmax() | " in page


def test_what_fails_or_comes_too_late_is_said_and_costs_nothing_else(tmp_path, monkeypatch, capsys):
    clock = iter([0.0, 1.0, 2.0, 61.0])

    def fail():
        raise RuntimeError("CUDA out of memory.\nTried to allocate")

    tables = [
        Section("first", fail, (NAME_COLUMN, SECONDS)),
        Section("second", lambda: {"net": {"seconds": 2.0}}, (NAME_COLUMN, SECONDS)),
        Section("third", lambda: {}, (NAME_COLUMN,)),
    ]
    monkeypatch.setattr(gpu, "sections", lambda *_, **__: tables)
    monkeypatch.setattr(gpu.time, "monotonic", lambda: next(clock))
    results = run_bench_gpu(device="cpu", seconds=60, output=tmp_path)
    assert results == {
        "first": {"failed": "RuntimeError: CUDA out of memory."},
        "second": {"net": {"seconds": 2.0}},
        "third": {"failed": "not begun: 60 seconds were over"},
    }
    assert "first: RuntimeError: CUDA out of memory." in capsys.readouterr().out
    assert (tmp_path / "gpu.md").read_text().endswith("## third\n\nnot begun: 60 seconds were over")
    assert "| net | 2.000 |" in (tmp_path / "gpu.md").read_text()


def test_arguments_that_cannot_be_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"seconds \(0\) must be above 0"):
        run_bench_gpu(device="cpu", seconds=0, output=tmp_path)
    with pytest.raises(ValueError, match=r"device \(graphics card\)"):
        run_bench_gpu(device="graphics card", output=tmp_path)
