"""Recipes as text: plain YAML of bounded size, in UTF-8, or one message that names the file."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from trainers.errors import UsageError

LARGEST_FILE = 2**20
"""Bytes of a recipe; the largest installed one has 3000."""
VALUES = 100_000
"""Most values that a text may stand for, those behind an alias counted each time."""
NESTING = 100
"""Deepest nesting of lists and mappings."""
# What making values of a text raises beside errors of YAML's.
_UNFIT = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, AttributeError)

_load = get_loader("yaml")


def bounded_yaml(text: str) -> Any:
    """Load YAML as plain data.

    Args:
        text: of a file, or a value on the command line.

    Raises:
        yaml.YAMLError: if it is no YAML, names other types than plain ones, or stands for too many values.
    """
    _require_bounded(text)
    try:
        return _load(text)
    except _UNFIT as error:
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error


# The parser reads files, included ones too, and values by the loader of this name.
set_loader("yaml", bounded_yaml, exceptions=(yaml.YAMLError,))


def require_recipe(path: Path) -> None:
    """Refuse a file that is no recipe, by its name.

    Args:
        path: of a file that is there.

    Raises:
        UsageError: with what is wrong, and where.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise UsageError(f"config ({path}) must be a recipe, got a file of {path.stat().st_size} bytes")
    try:
        content = bounded_yaml(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise UsageError(f"config ({path}) must be text in UTF-8, got another encoding: save it as UTF-8") from None
    except yaml.YAMLError as error:
        hint = "; indent by spaces, not by tabs" if "'\\t'" in str(error) else ""
        raise UsageError(f"config ({path}) must be YAML, got: {' '.join(str(error).split())}{hint}") from None
    if not isinstance(content, dict):
        raise UsageError(f"config ({path}) must hold options and their values, got {type(content).__name__}")
    if "config" in content:
        raise UsageError(
            f"config ({path}) must hold options and their values, got another recipe (config): give it by --config"
        )


def _require_bounded(text: str) -> None:
    """Refuse aliases that stand for more values than there is memory for, without making any of them."""
    sizes: dict[str, int] = {}
    # Name and size of each list and mapping that is open.
    opened: list[tuple[str | None, int]] = [(None, 0)]

    def add(size: int) -> None:
        name, before = opened[-1]
        opened[-1] = name, before + size
        if opened[-1][1] > VALUES:
            raise yaml.YAMLError(f"it stands for more than {VALUES} values, by aliases of aliases or in full")

    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, 1))
            if len(opened) > NESTING:
                raise yaml.YAMLError(f"lists and mappings are nested more than {NESTING} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            name, size = opened.pop()
            if name is not None:
                sizes[name] = size
            add(size)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise yaml.YAMLError(f"alias *{event.anchor} must stand for a value that ended before it")
            add(sizes[event.anchor])
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                sizes[event.anchor] = 1
            add(1)
