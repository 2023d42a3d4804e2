"""The benchmark of the training loop, on a network small enough for tests."""

import json

import pytest
import torch

from trainers.commands.bench.loop import run_bench_loop


@pytest.mark.slow
def test_bare_steps_and_steps_in_the_loop_alternate(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    output = tmp_path / "loop.json"
    results = run_bench_loop(
        recipe=str(recipe), size=16, batch_sizes=(1, 2), blocks=2, block=2, threads=threads, output=output
    )
    assert list(results) == [1, 2]
    for row in results.values():
        assert list(row) == ["wall", "cpu"]
        for share in row.values():
            assert share.bare > 0
            assert share.loop > 0
            assert share.overhead > -1
    record = json.loads(output.read_text())["results"]["2"]["wall"]
    assert record["overhead"] == results[2]["wall"].overhead
    shown = capsys.readouterr().out
    assert "overhead" in shown
    # Nothing is kept of these runs.
    assert "log folder" not in shown
    assert not (tmp_path / "logs").exists()


def test_recipes_that_limit_a_device_s_batch_are_timed_as_well(recipe):
    recipe.write_text(f"max_batch_per_device: 1\n{recipe.read_text()}")
    threads = torch.get_num_threads()
    assert list(run_bench_loop(recipe=str(recipe), size=16, batch_sizes=(2,), blocks=1, block=1, threads=threads)) == [
        2
    ]


@pytest.mark.parametrize("options", [{"blocks": 0}, {"block": 0}, {"threads": 0}, {"batch_sizes": (2, 0)}])
def test_numbers_that_cannot_be_are_named(options):
    [name] = options
    with pytest.raises(ValueError, match=rf"{name} \(0\) must be at least 1"):
        run_bench_loop(**options)
