"""The installed recipes: a list with one line each, or the text of some."""

from collections.abc import Sequence
from pathlib import Path

from trainers.recipes.find import INCLUDED, find_config, installed_configs


def run_recipes(names: Sequence[str] = ()) -> None:
    """List the installed recipes by folder, each with its first line, or print recipes.

    A recipe in the working directory comes before the installed one of the same name, as for `--config`.

    Args:
        names: recipes to print, such as `demo/swinir.yaml`; none lists all.

    Raises:
        FileNotFoundError: if there is no such recipe.
    """
    if names:
        for path in map(find_config, names):
            print(Path(path).read_text(encoding="utf-8"), end="")
        return
    installed = installed_configs()
    ordered = sorted(installed, key=lambda name: (name.startswith(INCLUDED), name))
    width = max(map(len, installed))
    folder = None
    for name in ordered:
        if name.partition("/")[0] != folder:
            folder = name.partition("/")[0]
            note = " (included by a recipe, or given beside one)" if name.startswith(INCLUDED) else ""
            print(f"{folder}{note}")
        print(f"  {name:{width}}  {headline(installed[name])}")
    print("\nlowrank recipes NAME prints one; lowrank fit, test or compare --config NAME runs it.")


def headline(recipe: Path) -> str:
    """Return the first line of a recipe's comment, which describes it in one sentence."""
    return recipe.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
