"""Tables of small networks trained with several seeds: mean, deviation, and whether the published order appears."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from trainers.reports.tables import LABEL, NAME_COLUMN, Column
from trainers.reproduction.orders import Order, compare_order


@dataclass(frozen=True)
class MiniatureRow:
    """A row of a miniature.

    Attributes:
        method: its name.
        published: the paper's value of the real network; None if it is not known.
        rank: that value, or a number in the order that the paper states.
        values: measured, one a seed.
    """

    method: str
    published: float | None
    rank: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class MiniatureTable:
    """A published table in small.

    Attributes:
        name: of the table.
        title: above it: the table, and of what the miniature is.
        quantity: what is measured, with its unit.
        rows: in the table's order; differences are against the first one.
    """

    name: str
    title: str
    quantity: str
    rows: tuple[MiniatureRow, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of the table as it is shown."""
        return (
            NAME_COLUMN,
            Column("published", "published", ".2f"),
            Column("miniature", "mean", ".3f"),
            Column("±", "deviation", ".3f"),
            Column("against first", "difference", "+.3f"),
            Column("±", "difference_deviation", ".3f"),
        )

    def results(self) -> list[Mapping[str, Any]]:
        """A mapping for each row, of the columns' keys and the values of the seeds."""
        first = self.rows[0].values
        rows: list[Mapping[str, Any]] = []
        for row in self.rows:
            differences = [value - reference for value, reference in zip(row.values, first, strict=True)]
            several = len(row.values) > 1
            others = row is not self.rows[0]
            rows.append(
                {
                    LABEL: row.method,
                    "published": row.published,
                    "mean": fmean(row.values),
                    "deviation": stdev(row.values) if several else None,
                    "difference": fmean(differences) if others else None,
                    "difference_deviation": stdev(differences) if several and others else None,
                    "values": list(row.values),
                }
            )
        return rows

    def order(self) -> Order:
        """Compare the rows' order with the published one."""
        return compare_order([row.rank for row in self.rows], [row.values for row in self.rows])
