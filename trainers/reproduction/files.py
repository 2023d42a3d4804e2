"""Tables as files: JSON for programs, CSV for spreadsheets, LaTeX for papers."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.files.atomic import atomic_file
from trainers.reports.tables import Column, latex_table, write_results


def write_table(
    folder: Path, name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], settings: Mapping[str, Any]
) -> list[Path]:
    """Write a table as `NAME.json`, `NAME.csv` and `NAME.tex`.

    Args:
        folder: made if it is missing.
        name: of the files.
        rows: a mapping for each line.
        columns: what is in the CSV and the LaTeX; the JSON holds all.
        settings: of the measurement, for the JSON.

    Returns:
        The files.
    """
    paths = [folder / f"{name}.{suffix}" for suffix in ("json", "csv", "tex")]
    write_results(paths[0], settings, rows)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([column.key for column in columns])
    writer.writerows([row.get(column.key) for column in columns] for row in rows)
    for path, content in ((paths[1], text.getvalue()), (paths[2], latex_table(rows, columns))):
        with atomic_file(path) as file:
            file.write(content.encode())
    return paths


def read_results(path: Path, *keys: str) -> dict[str, Any]:
    """Read a file of results.

    Args:
        path: the file.
        *keys: that it must have.

    Raises:
        ValueError: if it holds something else.
    """
    try:
        content = json.loads(path.read_text())
    except ValueError:
        content = None
    if not isinstance(content, dict) or not set(keys) <= content.keys():
        raise ValueError(f"results ({path}) must be JSON with {', '.join(keys)}, got something else: remove the file")
    return content
