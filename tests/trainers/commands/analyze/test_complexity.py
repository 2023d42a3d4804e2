"""Published costs beside counted ones, from the command line."""

import json

import pytest

from trainers.cli.main import main


@pytest.mark.slow
def test_published_tables_are_printed_beside_the_counts(tmp_path, capsys):
    assert main(["analyze", "complexity", "1", "9", f"--output={tmp_path / 'costs.json'}"]) == 0
    tables = json.loads((tmp_path / "costs.json").read_text())
    spectral, levels = tables.values()
    assert [row["method"] for row in spectral] == ["CSA", "Reformer", "Linformer", "Performer", "GLMHA"]
    assert spectral[0]["published"] == {"gmacs": 23.05, "parameters_millions": 1.62}
    assert spectral[0]["counted"]["layer_macs"] == 20_963_229_696
    assert spectral[0]["counted"]["parameters"] == 1_619_625
    # Every further level of GLMHA saves something, by every way of counting.
    for way in ("macs", "published_macs", "layer_macs"):
        costs = [row["counted"][way] for row in levels]
        assert costs == sorted(costs, reverse=True)
        assert len(set(costs)) == len(costs)
    printed = capsys.readouterr().out
    assert "Table 1" in printed
    assert "Table 9" in printed
    assert "Table 2" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["complexity", "5"], "tables (5) must be of 1, 2, 3, 4, 7, 9"),
        (["rank"], "verb (analyze rank) must be one of"),
        ([], "verb (analyze) must be one of"),
    ],
)
def test_what_cannot_be_analyzed_is_named(arguments, message, capsys):
    assert main(["analyze", *arguments]) == 2
    assert message in capsys.readouterr().err
