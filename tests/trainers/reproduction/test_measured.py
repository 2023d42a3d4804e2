"""Published rows get what was measured: from evaluations and comparisons in the output folder."""

import csv
import json
from pathlib import Path

import pytest

from glmha.complexity import Complexity
from trainers.evaluation.scores import Evaluation, ImageScore
from trainers.recipes.find import find_config
from trainers.reports.tables import Column, latex_table
from trainers.reproduction import channel_tables, window_tables
from trainers.reproduction.files import write_table
from trainers.reproduction.items import ITEMS
from trainers.reproduction.measured import (
    channel_chain,
    channel_rows,
    measured,
    protocols,
    window_chain,
    window_rows,
)


@pytest.mark.parametrize("number", channel_tables.TABLES)
def test_rows_of_a_channel_table_show_an_evaluation(tmp_path, number, capsys):
    table = channel_tables.TABLES[number]
    row = table.rows[1]
    chain = channel_chain(table, row, tmp_path, "DIR", "given.pth", None)
    assert [job.verb for job in chain.jobs] == ["test"]
    assert not chain.jobs[0].done
    scores = [ImageScore("set", name, {table.host.metric: row.psnr + change}) for name, change in (("a", 1), ("b", 2))]
    evaluation = Evaluation(scores, {table.host.metric: "how"}, {"set": 4})
    evaluation.report(chain.jobs[0].folder, data=None, weights=None, seed=None)
    assert chain.jobs[0].done
    # Of another checkpoint, or of other data, it is not.
    assert not channel_chain(table, row, tmp_path, "DIR", "other.pth", None).jobs[0].done
    assert not channel_chain(table, row, tmp_path, "OTHER", "given.pth", None).jobs[0].done
    rows = channel_rows(table, tmp_path, costs=False)
    assert measured(rows) == 1
    assert rows[1]["psnr_difference"] == pytest.approx(1.5)
    assert (rows[1]["images"], rows[1]["partial"]) == ("2 of 4", True)
    assert protocols(rows) == ["how"]


def test_a_row_without_a_checkpoint_is_trained_and_then_evaluated(tmp_path):
    table = channel_tables.TABLES[9]
    chain = channel_chain(table, table.rows[1], tmp_path, None, None, None)
    assert [job.verb for job in chain.jobs] == ["fit", "test"]
    assert (chain.trains, chain.missing) == (True, ("data.root",))
    attention = json.loads(chain.jobs[0].options[channel_tables.ATTENTION])
    assert [level["class_path"] for level in attention] == ["glmha.GLMHA", *["glmha.ChannelAttention"] * 3]
    assert "ckpt_path" in chain.jobs[0].options


def test_costs_stand_beside_the_published_ones(tmp_path, monkeypatch):
    cost = Complexity(parameters=26_000_000, macs=1, published_macs=23_050_000_000, layer_macs=141_000_000_000)
    monkeypatch.setattr(channel_tables.PublishedTable, "cost", lambda *_: cost)
    # MST++ is counted by every product, Restormer by its layers, as the paper counts them.
    spectral, rain = (channel_rows(channel_tables.TABLES[number], tmp_path)[0] for number in (1, 7))
    assert spectral["gmacs_difference"] == pytest.approx(0.0)
    assert rain["gmacs_difference"] == pytest.approx(0.01)
    assert rain["parameters"] == 26.0
    assert "gmacs" not in channel_rows(channel_tables.TABLES[8], tmp_path)[0]


@pytest.mark.parametrize("number", window_tables.TABLES)
def test_rows_of_a_window_table_show_a_comparison(tmp_path, number):
    table = window_tables.TABLES[number]
    benchmark = table.benchmarks[0]
    empty = window_rows(table, tmp_path)
    assert measured(empty) == 0
    chain = window_chain(benchmark, tmp_path, "DIR", "CKPT")
    assert chain.missing == ()
    names = [benchmark.original]
    for kernel in benchmark.kernels:
        options = ", ".join(f"{name}={value}" for name, value in kernel["init_args"].items())
        names.append(f"{kernel['class_path'].removeprefix('nystra.')}({options})")
    variants = {
        name: {"scores": {"PSNR": 30.0 - place, "SSIM": 0.9}, "seconds": 2.0 / (1 + place)}
        for place, name in enumerate(names)
    }
    content = {"variants": variants, "images": ["a"], "images_expected": 5, "partial": True}
    chain.jobs[0].folder.mkdir(parents=True)
    content |= {"protocol": {"PSNR": "how"}, "weights": None}
    (chain.jobs[0].folder / "metrics.json").write_text(json.dumps(content))
    rows = window_rows(table, tmp_path)
    there = [row for row in rows if "partial" in row]
    assert len(there) == measured(rows) == {"quality": 4, "speed": 1, "drop": len(benchmark.kernels)}[table.kind]
    if table.kind == "quality":
        assert [row["psnr"] for row in there] == [30.0, 29.0, 28.0, 27.0]
        assert all(
            row["psnr_difference"] == row["psnr"] - row["published_psnr"] for row in there if "psnr_difference" in row
        )
    elif table.kind == "speed":
        assert there[0]["speed_up"] == pytest.approx(4.0)
    else:
        assert [row["psnr_drop"] for row in there] == [1.0 + place for place in range(len(benchmark.kernels))]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"average": {}}'])
def test_files_that_hold_something_else_are_named(tmp_path, content):
    table = channel_tables.TABLES[8]
    folder = channel_chain(table, table.rows[0], tmp_path, "DIR", "given.pth", None).jobs[0].folder
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(content)
    with pytest.raises(ValueError, match=r"results \(.*metrics.json\) must be JSON with average"):
        channel_rows(table, tmp_path)


def test_recipes_of_all_rows_exist():
    hosts = {table.host.training: table.host for table in channel_tables.TABLES.values()}.values()
    recipes = [recipe for host in hosts for recipe in (host.training, host.evaluation)]
    recipes += [each.recipe for table in window_tables.TABLES.values() for each in table.benchmarks]
    assert all(Path(find_config(recipe)).is_file() for recipe in recipes)


def test_rows_of_one_network_have_one_key():
    recipes: dict[tuple[str, str], set[str]] = {}
    for table in channel_tables.TABLES.values():
        for row in table.rows:
            recipes.setdefault((table.host.training, row.key), set()).add(row.recipe)
    assert all(len(each) == 1 for each in recipes.values())
    # The other way round, no network has two keys.
    assert len({(host, *each) for (host, _), each in recipes.items()}) == len(recipes)


def test_every_table_and_figure_of_the_papers_is_listed():
    glmha = [f"glmha-table{number}" for number in range(1, 10)] + [f"glmha-figure{number}" for number in (1, 5, 6, 7)]
    pnp = [f"pnp-table{number}" for number in range(1, 7)] + [f"pnp-figure{number}" for number in range(1, 5)]
    assert list(ITEMS) == [*glmha, *pnp, "pnp-rvrt"]


def test_a_table_is_written_for_programs_spreadsheets_and_papers(tmp_path):
    columns = (Column("", "label"), Column("here dB", "psnr", ".2f"))
    rows = [{"label": "50 % & α", "psnr": 33.861}, {"label": "none"}]
    write_table(tmp_path, "table", rows, columns, {"title": "T"})
    assert json.loads((tmp_path / "table.json").read_text())["results"] == rows
    with (tmp_path / "table.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["label", "psnr"], ["50 % & α", "33.861"], ["none", ""]]
    assert r"50 \% \& $\alpha$ & 33.86 \\" in (tmp_path / "table.tex").read_text()
    assert latex_table(rows, columns).count("&") == 4
