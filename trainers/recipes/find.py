"""Recipes found by name: in the working directory, else among the installed ones."""

import re
from importlib.resources import files
from pathlib import Path

from trainers.errors import nearest
from trainers.recipes.yaml_text import require_recipe

INCLUDED = ("net/", "data/", "attention/")
"""Folders of files that recipes include, or that are given beside a recipe; none of them is a recipe."""


def installed_configs() -> dict[str, Path]:
    """Find the installed recipes and included files: name, such as `demo/swinir.yaml`, → file."""
    folder = Path(str(files("configs")))
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find_configs(arguments: list[str]) -> list[str]:
    """Replace recipes that are not in the working directory by the installed ones of that name.

    Raises:
        FileNotFoundError: if there is no such recipe.
        UsageError: if a file is no recipe.
    """
    found = list(arguments)
    for index, argument in enumerate(arguments):
        # `--config FILE`, `--config=FILE`, `-c FILE`, `-c=FILE`, `-cFILE`
        joined = re.match(r"--config=|-c=?(?=.)", argument)
        if joined or (index and arguments[index - 1] in ("--config", "-c")):
            path = find_config(argument[joined.end() :] if joined else argument)
            require_recipe(Path(path))
            found[index] = f"--config={path}" if joined else path
    return found


def find_config(name: str) -> str:
    """Find a recipe in the working directory, else the installed one of that name.

    Args:
        name: path of a file, or name of an installed recipe, with or without `configs/` before it.

    Returns:
        Path of the file.

    Raises:
        FileNotFoundError: if there is neither; the message names the nearest installed one.
    """
    path = Path(name)
    if path.is_file():
        return str(path)
    # Recipes have the same names whether the repository is the working directory or not.
    inner = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    installed = installed_configs()
    if inner.as_posix() in installed:
        return str(installed[inner.as_posix()])
    recipes = [recipe for recipe in installed if not recipe.startswith(INCLUDED)]
    raise FileNotFoundError(
        f"config ({name}) must be a file, got none of that name here or among the installed recipes "
        f"(lowrank recipes lists them){nearest(str(inner), recipes)}"
    )
