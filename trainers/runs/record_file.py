"""The JSON of a run's record as plain values of the right types, without characters that act on a terminal."""

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from trainers.errors import printable

LARGEST_RECORD = 16 * 2**20
"""Bytes; a record of a recipe's options has a few thousand."""
NESTING = 100
ADDED = "added"
"""Key of the metadata of fields that records of earlier versions lack."""


def read_record(path: Path, kind: type) -> dict[str, Any]:
    """Read a record's values.

    Args:
        path: of the file.
        kind: the dataclass that the values are of.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no JSON object, or lacks a field that every version has written, or one of them is of
            another type.
    """
    content = read_object(path)
    hints = get_type_hints(kind)
    values = {}
    for field in fields(kind):
        if field.name not in content:
            if ADDED in field.metadata:
                continue
            raise ValueError(f"{path} lacks {field.name}")
        value = content[field.name]
        if not _is_of(value, hints[field.name]):
            raise ValueError(f"{path} has another kind of {field.name}")
        values[field.name] = value
    for name in ("started", "updated"):
        if datetime.fromisoformat(values[name]).tzinfo is None:
            raise ValueError(f"{path} has no time zone in {name}")
    return values


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object, from whomever it comes.

    Args:
        path: of the file.

    Returns:
        The object, its texts without characters that act on a terminal.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no regular file, too large, nested too deeply, or no JSON object.
    """
    if not path.is_file():
        # A pipe would be read for ever.
        raise ValueError(f"{path} is no regular file")
    if path.stat().st_size > LARGEST_RECORD:
        raise ValueError(f"{path} is too large")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds no object")
    return dict(printable_values(content))


def printable_values(value: Any, depth: int = 0) -> Any:
    """Write out, within lists and mappings too, the characters of texts that a terminal would act on.

    Args:
        value: of JSON.
        depth: levels above it.

    Raises:
        ValueError: if it is nested too deeply.
    """
    if depth > NESTING:
        raise ValueError("values are nested too deeply")
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [printable_values(inner, depth + 1) for inner in value]
    if isinstance(value, dict):
        return {printable(key): printable_values(inner, depth + 1) for key, inner in value.items()}
    return value


def _is_of(value: Any, hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_is_of(value, option) for option in get_args(hint))
    if hint is NoneType:
        return value is None
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    if options := [option for option in get_args(hint) if isinstance(option, str)]:
        return value in options
    return isinstance(value, Mapping)
