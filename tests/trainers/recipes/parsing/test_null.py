"""Null in the place of a value: refused where an option's type has none, and passed on however deep the option is."""

import inspect
import json
from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import get_type_hints

import pytest
import torch
from jsonargparse import ArgumentError, set_parsing_settings
from torch import nn

from trainers.names import import_class, restrict_names
from trainers.recipes.classes import CHOICES, own_classes
from trainers.recipes.parser import RecipeParser

FACTORIES = {
    "attention": Callable[[int, int], nn.Module],
    "scheduler": Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler],
}
REQUIRED = {"channels", "heads"}


class Nullable(nn.Identity):
    """A network with options that may be null, beside others."""

    def __init__(
        self, scale: float | None = 1.0, sizes: Sequence[int | None] = (), name: str | None = "a", depth: int = 1
    ) -> None:
        super().__init__()


class Around(nn.Identity):
    """A network that holds another."""

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()


@pytest.mark.parametrize("option", sorted(set(CHOICES) - {"loss", "metrics"}))
def test_null_is_refused_for_numbers_of_all_classes_that_an_option_takes(option):
    restrict_names()
    base = resolve_name(CHOICES[option].base)
    parser = RecipeParser(exit_on_error=False)
    # What is made later with arguments of the program is a factory.
    parser.add_argument(f"--{option}", type=FACTORIES.get(option, base))
    tried = 0
    for path in own_classes(option):
        owner = import_class(path, base)
        parameters = inspect.signature(owner).parameters
        hints = get_type_hints(owner.__init__)
        names = [
            name for name in parameters if hints.get(name) in (int, float) and parameters[name].default is not None
        ]
        for name in {*names[-2:]} - REQUIRED:
            with pytest.raises(ArgumentError, match=f'Parser key "{name}":\n *Expected an? .*(int|float)'):
                parser.parse_object({option: {"class_path": path, "init_args": {name: None}}})
            tried += 1
    assert tried


@pytest.mark.parametrize(
    ("option", "value"),
    [("scale", None), ("sizes", [None, 2]), ("name", None), ("name", "a None b.png"), ("depth", 3), ("name", "x")],
)
@pytest.mark.parametrize("around", [0, 1, 2])
def test_null_on_a_command_line_is_null_however_deep(option, value, around):
    restrict_names()
    set_parsing_settings(import_path_allowlist=["tests"])
    parser = RecipeParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "net")
    names = ["net", *["inner"] * around]
    words = [f"--{'.'.join(names[: depth + 1])}={__name__}.Around" for depth in range(around)]
    words.append(f"--{'.'.join(names)}={__name__}.Nullable")
    given = value if isinstance(value, str) else json.dumps(value)
    found = parser.parse_args([*words, f"--{'.'.join([*names, option])}", given])
    assert found[".init_args.".join([*names, option])] == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.batch_size=null"], "data.batch_size (null) must be int"),
        (["--model.net.attention.reduction", "null"], "model.net.attention.reduction (null) must be float"),
        (["--model.optimizer.weight_decay", "null"], "model.optimizer.weight_decay (null) must be float"),
        (["--trainer.max_steps", "null"], "trainer.max_steps (null) must be int"),
    ],
)
def test_the_message_names_the_option_and_the_remedy(lowrank, recipe, capsys, words, message):
    assert lowrank("fit", "--config", recipe, *words) == 2
    assert capsys.readouterr().err == f"error: {message}; leave it out for the default\n"


@pytest.mark.parametrize("words", [["info", "--json", "null"], ["bench", "--size", "null"]])
def test_verbs_that_are_functions_refuse_it_as_well(lowrank, capsys, words):
    assert lowrank(*words) == 2
    assert "(null) must be" in capsys.readouterr().err
