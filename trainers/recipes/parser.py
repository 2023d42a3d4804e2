"""The parser of recipes: Lightning's, whose help lists this package's classes and none that serve another purpose."""

from argparse import Action
from typing import Any

from jsonargparse import DefaultHelpFormatter
from lightning.pytorch.cli import LightningArgumentParser

from trainers.recipes.classes import listed_classes
from trainers.recipes.parser_messages import StrictParser

_MARK = ", known subclasses: "


class RecipeHelpFormatter(DefaultHelpFormatter):
    """Help of a parser that lists the classes of use for an option.

    jsonargparse lists every subclass that is imported: for a network, more than 500 modules of torch.
    """

    def _get_help_string(self, action: Action) -> str:
        text = super()._get_help_string(action)
        head, mark, rest = text.partition(_MARK)
        if not mark:
            return text
        listed = listed_classes(action.dest, rest.removesuffix(")").split(", "))
        return f"{head}, classes: {', '.join(listed)})"


class RecipeParser(StrictParser, LightningArgumentParser):
    """Lightning's parser with `RecipeHelpFormatter`, also for the help of a class, whose parser is of this type."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", RecipeHelpFormatter)
        super().__init__(*args, **kwargs)
