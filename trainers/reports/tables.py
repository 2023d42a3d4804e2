"""Results of benchmarks and demonstrations for people: a table, and a JSON file with versions and machine."""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from datamodules.files.atomic import atomic_file
from trainers.evaluation.provenance import versions

LABEL = "label"
"""Key of a row's name."""


@dataclass(frozen=True)
class Column:
    """One column of a table of results.

    Attributes:
        heading: text above the column.
        key: key of the row's value; rows without it, or with None, have an empty cell.
        form: format of the value, such as ".2f"; "" for text.
        factor: by which numbers are multiplied before, for another unit.
        suffix: text behind each value, such as a unit.
    """

    heading: str
    key: str
    form: str = ""
    factor: float = 1.0
    suffix: str = ""

    def cell(self, row: Mapping[str, Any]) -> str:
        """Write the row's value."""
        value = row.get(self.key)
        if value is None:
            return ""
        return f"{value * self.factor if self.form else value:{self.form}}{self.suffix}"


NAME_COLUMN = Column("", LABEL)
SECONDS = Column("seconds", "seconds", ".3f")
MILLISECONDS = Column("ms", "seconds", ".2f", 1e3)
MEMORY = Column("memory MiB", "bytes", ".0f", 2**-20)


def labelled(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Make rows of results by name; the name is the row's `LABEL`."""
    return [{LABEL: name, **values} for name, values in results.items()]


def results_table(title: str, rows: Iterable[Mapping[str, Any]], columns: Iterable[Column]) -> Table:
    """Make a table of results, text to the left and numbers to the right.

    Args:
        title: above the table.
        rows: a mapping for each line.
        columns: what is shown of them.
    """
    columns = list(columns)
    table = Table(title=title)
    for column in columns:
        table.add_column(column.heading, justify="right" if column.form else "left")
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def markdown_table(rows: Iterable[Mapping[str, Any]], columns: Iterable[Column]) -> str:
    """Make the same table for a page of documentation.

    Args:
        rows: a mapping for each line.
        columns: what is shown of them.
    """
    columns = list(columns)
    lines = [[column.heading for column in columns], ["---:" if column.form else "---" for column in columns]]
    lines += [[column.cell(row).replace("|", "\\|") for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"±": "$\\pm$", "×": "$\\times$", "α": "$\\alpha$", "σ": "$\\sigma$", "Δ": "$\\Delta$"}
)


def latex_table(rows: Iterable[Mapping[str, Any]], columns: Iterable[Column]) -> str:
    """Make the same table for a paper, with the rules of the package booktabs.

    Args:
        rows: a mapping for each line.
        columns: what is shown of them.
    """
    columns = list(columns)
    lines = [[column.heading for column in columns], *([column.cell(row) for column in columns] for row in rows)]
    head, *body = (" & ".join(cell.translate(_LATEX) for cell in line) + r" \\" for line in lines)
    places = "".join("r" if column.form else "l" for column in columns)
    parts = [rf"\begin{{tabular}}{{{places}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(parts) + "\n"


def write_results(path: Path, settings: Mapping[str, Any], results: Any) -> None:
    """Write results as JSON, with what they depend on.

    Args:
        path: the file; its folder is made if it is missing.
        settings: of the measurement, by name; each is a key of the file.
        results: names and numbers in any nesting.

    Raises:
        OSError: if the file cannot be written; a former one survives.
    """
    machine = {
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    content = {**settings, "machine": machine, "versions": versions(), "results": results}
    with atomic_file(path) as file:
        file.write(json.dumps(content, indent=2).encode())
