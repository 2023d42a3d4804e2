"""One clear message for each mistake on a command line: from the parser's reports, or where it sees none."""

import ast
import functools
import inspect
import json
import operator
import re
from argparse import Action, ArgumentError
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from types import UnionType
from typing import Any, Union, get_args, get_origin

from jsonargparse import ArgumentParser, Namespace
from yaml import YAMLError

from trainers.errors import UNION_MISMATCH, UsageError, nearest, nearest_name
from trainers.recipes.classes import own_classes
from trainers.recipes.options import ACTING
from trainers.recipes.yaml_text import bounded_yaml

# Lines of jsonargparse's reports: the option, the class that is made, their frame, and the fault.
_KEY = re.compile(r'Parser key "(?P<key>.+?)"( element \d+)?:$')
_CLASS = re.compile(r"(- )?Problem with given class_path '(?P<name>.+)':$")
_STRUCTURE = re.compile(
    rf"(- )*({UNION_MISMATCH}|Subtypes: |Errors:$|Given value type|Expected a path but |Subclass types expect |"
    r"a class path \(str\)$|a dict with)|$"
)
# Of a value that is none of a type: the type's name. What Python says where a class is made of another structure.
_EXPECTED = re.compile(r"(Expected (an? )?|Not of type )(?P<name>[^:]+)")
_NO_CLASS = re.compile(
    r"Not a valid subclass of |unhashable type|.* has no attribute|argument of type .* is not iterable|"
    r".* must be a mapping|.* object is not subscriptable"
)
_LONGEST_VALUE = 200
_GIVEN = re.compile(
    r"Given value:\s*(NestedArg\(key='[^']*', val='(?P<inner>.*)'\)|(?P<value>.*?)(\. Got value: Namespace\(.*)?)$"
)
# A value that is the name of a file is read as a recipe first.
_NO_RECIPE = re.compile(r".* codec can't decode byte ")
_OTHER_CLASS = re.compile(r"Import path (?P<name>\S+) does not correspond to a subclass of (?P<base>\S+)")
_CALLABLE = re.compile(r"Type .+ expects a function or a callable class: (?P<problem>.+)")
_ABSENT = re.compile(r"(No (?P<face>[\w.]+) attribute|module '(?P<module>[\w.]+)' has no attribute) '?(?P<name>\w+)'?")
_DENIED = re.compile(r"Importing '(?P<name>[^']+)' is not allowed")
_NO_PATH = re.compile(r"Expected a dot import path string: (?P<name>[A-Za-z_]\w*)$")
_OF_CLASS = re.compile(r"(?P<problem>.+?)\.? Got value: Namespace\(class_path='(?P<name>[^']+)'")

_PACKAGES = {"model": "trainers.", "data": "datamodules."}


class StrictParser(ArgumentParser):
    """jsonargparse's parser, which refuses null where an option's type has no null, and keeps whole numbers whole.

    jsonargparse takes null for an option that was not given. The parsers of the classes that an option names are of
    this type as well, so it holds for their arguments.
    """

    # The base class makes that of its groups out of this one's source, so nothing but globals may occur in it.
    def add_argument(self, *args: Any, **kwargs: Any) -> Action:
        """Add an option.

        Args:
            *args: of the base class.
            **kwargs: of the base class.

        Returns:
            The option.
        """
        action = super().add_argument(*args, **kwargs)
        if hasattr(action, "_typehint"):
            action._typehint = whole_numbers_first(action._typehint)
        return action

    def parse_args(  # type: ignore[override]  # typed as argparse's
        self, args: Sequence[str] | None = None, *further: Any, **kwargs: Any
    ) -> Namespace:
        """Parse a command line.

        Args:
            args: its words; None for those of the process.
            *further: of the base class.
            **kwargs: of the base class.

        Returns:
            The values of all options.
        """
        if args is not None and getattr(self, "_inner_parser", False):
            # From the parser of the class around this one, which writes null as Python does.
            args = [_with_null(word) for word in args]
        return super().parse_args(args, *further, **kwargs)

    def validate(self, namespace: Namespace, *args: Any, branch: str | None = None, **kwargs: Any) -> None:
        """Check the values of a parsed configuration, null among them.

        Args:
            namespace: the values.
            *args: of the base class.
            branch: the option that they are of; None: they are of all options.
            **kwargs: of the base class.

        Raises:
            TypeError: if a value is not of its option's type.
            KeyError: if there is no option of a name.
        """
        # The default of a required option is null: it was not given, which the base class reports.
        null = [action.dest for action in self._actions if self._is_null(action, namespace)] if branch is None else []
        for option in null:
            super().validate(Namespace({option: None}), skip_unset=False, skip_required=True)
        super().validate(namespace, *args, branch=branch, **kwargs)

    @staticmethod
    def _is_null(action: Action, values: Namespace) -> bool:
        return action.default is not None and action.dest in values and values[action.dest] is None


def whole_numbers_first(hint: Any) -> Any:
    """Put int before float in a union: its types are tried in order, and 1 (one batch) is not 1.0 (all of them).

    `typing` keeps unions, and takes those of another order for the same. So the order of Lightning's depends on which
    libraries were imported before.

    Args:
        hint: a type, a union or not.
    """
    members = list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else []
    if int not in members or float not in members or members.index(int) < members.index(float):
        return hint
    first, second = members.index(float), members.index(int)
    members[first], members[second] = int, float
    return functools.reduce(operator.or_, members)


def usage_error(error: ArgumentError, options: Iterable[str]) -> UsageError:
    """Reduce a parser's report to the one fault that it is about.

    Args:
        error: the parser's exception.
        options: names of all options that the parser has.

    Returns:
        The exception to raise instead.
    """
    path: list[str] = []
    problems: list[str] = []
    owner = given = ""
    for line in (line.strip() for line in error.message.splitlines()):
        if key := _KEY.match(line):
            path.append(key["key"])
        elif name := _CLASS.match(line):
            owner = name["name"]
        elif value := _GIVEN.match(line):
            # What follows is about the values that this one is part of.
            given = value["inner"] or value["value"]
            break
        elif not _STRUCTURE.match(line):
            called = _CALLABLE.match(line.removeprefix("- "))
            problem = called["problem"] if called else line.removeprefix("- ")
            if key := _KEY.match(problem):
                # Each of a union's types reports the same argument.
                path += [key["key"]] if path[-1:] != [key["key"]] else []
                continue
            if part := _OF_CLASS.match(problem):
                owner, problem = part["name"], part["problem"]
            problems.append(problem)
    if not path:
        return UsageError(_option_unknown(" ".join(error.message.split()), options))
    return UsageError(_value_unfit(problems, ".".join(path), owner, given))


def refuse_options_of_others(verb: str, arguments: Sequence[str], classes: Mapping[str, str]) -> None:
    """Refuse options of a command line that cannot act on its verb.

    Args:
        verb: fit, validate, test or predict.
        arguments: what follows it.
        classes: class paths of "model" and "data". What options of other packages' classes do is not known.

    Raises:
        UsageError: naming the first such option, and the verbs that it acts on.
    """
    for option in given_options(arguments):
        words = [word for word in option.rstrip("+").split(".") if word != "init_args"]
        if not classes.get(words[0], "").startswith(_PACKAGES.get(words[0], "")):
            continue
        verbs = next((verbs for name, verbs in ACTING.items() if words[: name.count(".") + 1] == name.split(".")), None)
        if verbs is None or verb in verbs:
            continue
        for_others = f"must be given to lowrank {' or '.join(verbs)} only, got lowrank {verb}; leave it out"
        raise UsageError(f"option --{option} {for_others if verbs else 'must be left out: it cannot act'}")


def given_options(arguments: Sequence[str]) -> Iterator[str]:
    """Name the options of a command line, those within a value such as `--trainer '{max_steps: 3}'` as well."""
    for index, argument in enumerate(arguments):
        if not argument.startswith("--"):
            continue
        option, joined, value = argument.removeprefix("--").partition("=")
        yield option
        if not joined and index + 1 < len(arguments):
            value = arguments[index + 1]
        if value.startswith("{"):
            try:
                yield from _within(option, bounded_yaml(value))
            except YAMLError:
                # The parser will say so.
                continue


def _within(option: str, value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{option}.{key}"
            yield from _within(f"{option}.{key}", inner)


def _option_unknown(problem: str, options: Iterable[str]) -> str:
    if wrong := re.match(r"Subcommand '\w+' does not accept option '(.+)'", problem):
        return f"option {wrong[1]} of the recipe is unknown{nearest(wrong[1], options)}"
    if wrong := re.match(r"unrecognized arguments: (.+)", problem, re.IGNORECASE):
        name = wrong[1].split()[0].split("=")[0].removeprefix("--")
        return f"option {wrong[1]} is unknown{nearest(name, options)}"
    if problem.startswith("the following arguments are required") and ".model" in problem:
        return (
            "config (null) must name a recipe that chooses model and data, got none; for pairs of images of your own: "
            "--config train/pairs.yaml --data.root MY_PAIRS; all recipes: lowrank recipes"
        )
    return problem


def _value_unfit(problems: list[str], where: str, owner: str, given: str) -> str:
    for problem in problems:
        if denied := _DENIED.search(problem):
            return (
                f"{where} ({denied['name']}) must name a class of this package, of torch.nn, torch.optim or "
                "Lightning's callbacks, loggers, plugins and strategies, of a package that you installed beside, or of "
                "a module in the working directory: nothing else is imported"
            )
        if absent := _ABSENT.match(problem):
            module, name = absent["face"] or absent["module"], absent["name"]
            similar = nearest(name, dir(import_module(module)))
            return f"{where} ({module}.{name}) must name a class, got nothing of that name{similar}"
        if other := _OTHER_CLASS.match(problem):
            return f"{where} ({other['name']}) must name a class that is a {other['base']}, got one that is not"
        if no_path := _NO_PATH.match(problem):
            return _class_unknown(where, no_path["name"]) or _types_unfit(problems, where, given)
    # Of a union's types those that do not fit at all begin with "Expected"; the fault of the one that fits says more.
    for problem in sorted(problems, key=lambda problem: problem.startswith("Expected")):
        if wrong := re.match(r"Option '(.+)' is not accepted", problem):
            return f"option {wrong[1]} is unknown to {owner} ({where}){nearest(wrong[1], _parameters(owner))}"
        if wrong := re.match(r"Expected an? (.+?)\. Got value: (.*)", problem):
            return _must_be(where, wrong[2], _type(wrong[1]))
    return _types_unfit(problems, where, given)


def _types_unfit(problems: list[str], where: str, given: str) -> str:
    types = []
    for problem in problems:
        if _NO_CLASS.match(problem):
            types.append("a class")
        elif expected := _EXPECTED.match(problem):
            types.append(_type(expected["name"]))
        elif _NO_RECIPE.match(problem):
            types.append("a value, or the name of a recipe (a text file)")
    if types and len(types) == len(problems):
        return _must_be(where, given or "empty", " or ".join(dict.fromkeys(types)))
    return f"{where}: {problems[0]}"


def _with_null(word: str) -> str:
    option, _, value = word.partition("=")
    if re.search(r"\bNone\b", value):
        try:
            return f"{option}={json.dumps(ast.literal_eval(value))}"
        except (ValueError, SyntaxError, TypeError):
            # Text, such as the name of a file.
            return word
    return word


def _must_be(where: str, given: str, types: str) -> str:
    if given == "None":
        return f"{where} (null) must be {types}; leave it out for the default"
    shown = given if len(given) <= _LONGEST_VALUE else f"{given[:_LONGEST_VALUE]} …"
    return f"{where} ({shown}) must be {types}"


def _class_unknown(where: str, name: str) -> str | None:
    """The message on a class without its module; None for an option that takes no class of this package."""
    known = {path.rpartition(".")[2]: path for path in own_classes(where)}
    if not known:
        return None
    similar = nearest_name(name, known)
    if similar is None:
        remedy = f"for a class of your own MODULE.{name}; this package's: {', '.join(known.values())}"
    else:
        remedy = f"did you mean {known[similar]}?"
    return f"{where} ({name}) must name a class by its path, got a name without a module; {remedy}"


def _type(name: str) -> str:
    """A type as jsonargparse writes it, in a user's words."""
    name = re.sub(r"<class '(.+)'>", r"\1", name)
    words = {"NoneType": "null", "collections.abc.Sequence": "a list", "dot import path string": "a class"}
    return words.get(name, name.replace("typing.Literal", "one of "))


def _parameters(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    return [
        key for owner in getattr(import_module(module), name).__mro__ for key in inspect.signature(owner).parameters
    ]
