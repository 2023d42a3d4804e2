"""A verb that is a plain function: its parser, and the call."""

import inspect
from argparse import ArgumentError
from importlib import import_module
from typing import Literal, get_args, get_origin

from trainers.cli.verbs import FunctionVerb
from trainers.names import restrict_names
from trainers.recipes.find import find_configs
from trainers.recipes.parser_messages import StrictParser, usage_error
from trainers.recipes.quiet import filter_warnings


def function_parser(name: str, verb: FunctionVerb) -> StrictParser:
    """Make the parser of a verb's options out of its function's signature.

    Args:
        name: the verb, as it is typed.
        verb: its entry of the table.

    Returns:
        The parser, with `--config` for a file of options.
    """
    function = getattr(import_module(verb.module), verb.function)
    parser = StrictParser(prog=f"lowrank {name}", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="file with values of these options")
    skip: set[str | int] = set()
    if verb.positional is not None:
        argument = inspect.signature(function).parameters[verb.positional]
        if get_origin(argument.annotation) is Literal:
            parser.add_argument(verb.positional, type=argument.annotation)
        else:
            (kind,) = get_args(argument.annotation)
            if argument.default is inspect.Parameter.empty:
                parser.add_argument(verb.positional, nargs="+", type=kind)
            else:
                # A list: the parser replaces its items by parsed ones.
                parser.add_argument(verb.positional, nargs="*", type=kind, default=list(argument.default))
        skip.add(verb.positional)
    parser.add_function_arguments(function, skip=skip)
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:
            # `--verify` is short for `--verify true`.
            action.nargs, action.const = "?", True
    return parser


def call_function(name: str, verb: FunctionVerb, arguments: list[str]) -> None:
    """Parse a function verb's arguments and call the function.

    Args:
        name: the verb, as it is typed.
        verb: its entry of the table.
        arguments: what follows the verb.

    Raises:
        UsageError: if the arguments do not fit the function.
    """
    parser = function_parser(name, verb)
    # The import of the function may have brought Lightning, which sets its loggers' levels as it is imported.
    filter_warnings()
    restrict_names()
    try:
        config = parser.parse_args(find_configs(arguments))
    except ArgumentError as error:
        raise usage_error(error, [action.dest for action in parser._actions]) from error
    values = parser.instantiate(config).as_dict()
    del values["config"]
    getattr(import_module(verb.module), verb.function)(**values)
