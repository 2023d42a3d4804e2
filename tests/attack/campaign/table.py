"""The table at a campaign's end: kinds of inputs down, what came of them across."""

from collections.abc import Iterable

from tests.attack.campaign.judging import COLUMNS
from tests.attack.campaign.pool import Failure


def table(results: Iterable[Failure]) -> str:
    """Write the table as Markdown, a row for each kind and one for all."""
    counts: dict[str, dict[str, int]] = {}
    for result in results:
        for row in (result.kind, "all"):
            found = counts.setdefault(row, dict.fromkeys(COLUMNS, 0))
            found[result.verdict.column] += 1
    rows = [["kind of input", "tried", *COLUMNS], ["---", *["---:"] * (1 + len(COLUMNS))]]
    for kind in sorted(counts, key=lambda kind: (kind == "all", kind)):
        numbers = counts[kind]
        rows.append([kind, str(sum(numbers.values())), *(str(numbers[column]) for column in COLUMNS)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
