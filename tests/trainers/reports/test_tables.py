"""Tables of results: cells in the units of their columns, empty where nothing was measured; files with the machine."""

import json

from rich.console import Console

from trainers.reports.tables import MEMORY, MILLISECONDS, NAME_COLUMN, Column, labelled, results_table, write_results

RESULTS = {"fast": {"seconds": 0.0125, "bytes": 3 * 2**20}, "slow": {"seconds": 2.0}}


def test_cells_have_their_column_s_unit_or_nothing():
    fast, slow = labelled(RESULTS)
    assert [column.cell(fast) for column in (NAME_COLUMN, MILLISECONDS, MEMORY)] == ["fast", "12.50", "3"]
    assert [column.cell(slow) for column in (NAME_COLUMN, MILLISECONDS, MEMORY)] == ["slow", "2000.00", ""]
    assert Column("", "share", ".0f", 100, " %").cell({"share": 0.25}) == "25 %"
    assert Column("", "share", ".0f").cell({"share": None}) == ""


def test_a_table_has_a_line_for_each_result():
    console = Console(width=80)
    with console.capture() as capture:
        console.print(results_table("times", labelled(RESULTS), (NAME_COLUMN, MILLISECONDS)))
    lines = capture.get().splitlines()
    assert "times" in lines[0]
    assert [name for line in lines for name in RESULTS if name in line] == list(RESULTS)


def test_results_are_written_with_settings_and_machine(tmp_path):
    write_results(tmp_path / "new" / "results.json", {"repeats": 3}, RESULTS)
    content = json.loads((tmp_path / "new" / "results.json").read_text())
    assert content["repeats"] == 3
    assert content["results"] == RESULTS
    assert content["machine"]["threads"] >= 1
    assert "torch" in content["versions"]
