"""Help: the list of verbs, and a page for each verb, without an import of torch or Lightning."""

import argparse
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainers.cli.run_options import Option, run_options
from trainers.cli.signature import Argument, read_signature
from trainers.cli.verbs import FUNCTION_VERBS, TRAINER_VERBS, FunctionVerb, Verb

FLAGS = ("-h", "--help")
"""What asks for help."""


def usage() -> str:
    """The text of `lowrank --help`."""
    examples = (TRAINER_VERBS["fit"].examples[0], FUNCTION_VERBS["restore"].examples[0])
    return _list_of_verbs("VERB", TRAINER_VERBS | FUNCTION_VERBS, examples)


def group_usage(group: str) -> str:
    """The text of `lowrank GROUP --help`, for verbs of two words of which GROUP is the first.

    Args:
        group: the first word.
    """
    verbs = {name: verb for name, verb in FUNCTION_VERBS.items() if name.startswith(f"{group} ")}
    return _list_of_verbs(f"{group} VERB", verbs, [verb.examples[0] for verb in verbs.values()][:2])


def _list_of_verbs(words: str, verbs: Mapping[str, Verb], examples: Sequence[str]) -> str:
    width = max(map(len, verbs))
    lines = [_hanging(f"  {name:{width}}  ", verb.description) for name, verb in verbs.items()]
    return "\n".join(
        [
            f"usage: lowrank {words} [options]",
            "",
            "verbs:",
            *lines,
            "",
            _examples(examples),
            "",
            f"lowrank {words} --help describes a verb's options; lowrank recipes lists what --config can name.",
        ]
    )


def function_help(name: str, verb: FunctionVerb) -> str:
    """The help of a verb that calls a function, from the function's signature and docstring.

    Args:
        name: the verb, as it is typed.
        verb: its entry of the table.
    """
    signature = read_signature(verb.module, verb.function)
    positional = [argument for argument in signature.arguments if argument.name == verb.positional]
    named = [argument for argument in signature.arguments if argument.name != verb.positional]
    words = [*map(_positional, positional)]
    words += [f"--{argument.name} {argument.metavar}" for argument in named if argument.required]
    parser = _page(f"lowrank {name} {' '.join(words)} [options]".replace("  ", " "), signature.paragraphs, verb)
    if positional:
        group = parser.add_argument_group("arguments")
        for argument in positional:
            text = argument.described.replace("%", "%%")
            group.add_argument(argument.name, metavar=argument.name.upper(), help=text)
    group = parser.add_argument_group("options")
    for argument in named:
        _add(group, Option(argument.name, argument.metavar, argument.described))
        if argument.is_class:
            _add(group, Option(f"{argument.name}.help", "[CLASS]", f"describe a class for --{argument.name}, and exit"))
    _add(group, Option("config", "FILE", "file with values of these options; those given here come first"))
    return parser.format_help().rstrip()


def trainer_help(name: str) -> str:
    """The help of a verb that Lightning runs: the options of a run that matter, and where the others are described.

    Args:
        name: one of `TRAINER_VERBS`.
    """
    verb = TRAINER_VERBS[name]
    sentence = f"{verb.description[0].upper()}{verb.description[1:]}."
    recipes = "A recipe is a YAML file with values of these options; `lowrank recipes` lists the installed ones."
    parser = _page(f"lowrank {name} --config RECIPE [options]", (sentence, recipes), verb)
    for title, options in run_options(name).items():
        group = parser.add_argument_group(title)
        for option in options:
            _add(group, option)
    return parser.format_help().rstrip()


def _page(usage: str, paragraphs: Iterable[str], verb: Verb) -> argparse.ArgumentParser:
    """A page without options yet; argparse is used for its layout only."""
    width = _width()
    text = "\n\n".join(textwrap.fill(paragraph, width) for paragraph in paragraphs)
    return argparse.ArgumentParser(
        usage=usage.replace("%", "%%"),
        description=f"{text}\n\n{_examples(verb.examples)}".replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )


def _add(group: argparse._ArgumentGroup, option: Option) -> None:
    values: dict[str, Any] = {"metavar": option.metavar} if option.metavar else {"action": "store_true"}
    group.add_argument(f"--{option.name}", **values, help=option.text.replace("%", "%%"))


def _positional(argument: Argument) -> str:
    word = argument.name.upper()
    if not argument.metavar.startswith("["):
        return word
    return f"{word} ..." if argument.required else f"[{word} ...]"


def _examples(examples: Sequence[str]) -> str:
    return "\n".join(["examples:", *(f"  {example}" for example in examples)])


def _hanging(start: str, text: str) -> str:
    return textwrap.fill(text, _width(), initial_indent=start, subsequent_indent=" " * len(start))


def _width() -> int:
    return max(40, shutil.get_terminal_size().columns - 2)
