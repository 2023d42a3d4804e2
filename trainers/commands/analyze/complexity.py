"""The verb `analyze`: what networks cost beside what the papers say, and how much rank their attention has."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from datamodules.files.atomic import atomic_file
from glmha.complexity import Complexity
from trainers.reproduction.channel_tables import COSTS, NOTES, PublishedTable


def analyze_complexity(tables: Sequence[int] = (), *, output: Path | None = None) -> dict[str, list[dict]]:
    """Print the FLOPs and parameters of the GLMHA paper's tables, published beside counted.

    Args:
        tables: numbers of the paper's tables: 1, 2, 3, 4, 7, 9; none: all.
        output: JSON file for the figures; null: only the tables.

    Returns:
        Title of the table → its rows: method, published and counted figures.

    Raises:
        ValueError: if the paper has no such table of costs.
    """
    numbers = tables or list(COSTS)
    for number in numbers:
        if number not in COSTS:
            raise ValueError(f"tables ({number}) must be of {', '.join(map(str, COSTS))}: they have columns of costs")
    console = Console(markup=False, emoji=False)
    results = {}
    for number in numbers:
        published = COSTS[number]
        counts = [published.cost(row) for row in published.rows]
        console.print(_cost_table(published, counts))
        results[published.heading] = [
            {
                "method": row.method,
                "published": {"gmacs": row.gmacs, "parameters_millions": row.parameters},
                "counted": asdict(cost),
            }
            for row, cost in zip(published.rows, counts, strict=True)
        ]
    console.print(NOTES, soft_wrap=True, highlight=False)
    if output is not None:
        with atomic_file(output) as file:
            file.write(json.dumps(results, indent=2).encode())
        console.print(f"figures: {output}", soft_wrap=True, highlight=False)
    return results


def _cost_table(published: PublishedTable, counts: list[Complexity]) -> Table:
    # Four counts and their changes are to fit in 80 columns.
    result = Table(title=published.heading, box=box.SIMPLE_HEAD, padding=0, collapse_padding=True)
    result.add_column("", no_wrap=True)
    for column in ("paper G", "layers G", "products G", "here G", "paper M", "M"):
        result.add_column(column, justify="right", no_wrap=True)
    first, dense = published.rows[0], counts[0]
    for row, cost in zip(published.rows, counts, strict=True):
        result.add_row(
            row.method,
            _change(row.gmacs, first.gmacs),
            _change(cost.layer_macs / 1e9, dense.layer_macs / 1e9),
            _change(cost.published_macs / 1e9, dense.published_macs / 1e9),
            _change(cost.macs / 1e9, dense.macs / 1e9),
            f"{row.parameters:.2f}",
            f"{cost.parameters / 1e6:.2f}",
        )
    return result


def _change(value: float, reference: float) -> str:
    return f"{value:.2f} {100 * (value / reference - 1):+.1f}%" if value != reference else f"{value:.2f}"
