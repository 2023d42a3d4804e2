"""Recipes found by name: in the working directory, else among the installed ones."""

from importlib.resources import files
from pathlib import Path

from trainers.errors import nearest

PARTS = ("net/", "data/", "attention/")
"""Folders of what recipes include, or what is given with one; no recipes themselves."""


def find_configs(arguments: list[str]) -> list[str]:
    """Replace recipes that are not in the working directory by the installed ones of that name."""
    found = list(arguments)
    for index, argument in enumerate(arguments):
        if argument.startswith("--config="):
            found[index] = f"--config={find_config(argument.removeprefix('--config='))}"
        elif index and arguments[index - 1] in ("--config", "-c"):
            found[index] = find_config(argument)
    return found


def find_config(name: str) -> str:
    """Find a recipe in the working directory, else the installed one of that name."""
    installed = Path(str(files("configs")))
    path = Path(name)
    # Recipes are called the same whether the repository is the working directory or not.
    inner = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    for candidate in (path, installed / inner):
        if candidate.is_file():
            return str(candidate)
    found = (str(path.relative_to(installed)) for path in sorted(installed.rglob("*.yaml")))
    recipes = [recipe for recipe in found if not recipe.startswith(PARTS)]
    raise FileNotFoundError(
        f"config ({name}) must be a file, got none of that name here or among the installed recipes "
        f"({', '.join(recipes)}){nearest(str(inner), recipes)}"
    )
