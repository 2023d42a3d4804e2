"""One clear message for each mistake of a user's, out of what libraries say about it."""

import inspect
import re
from argparse import ArgumentError
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from trainers.errors import NonFiniteError

# What the packages and Lightning raise for input that cannot be used. Anything else is a bug and keeps its traceback.
_MISTAKES = (ValueError, OSError, MisconfigurationException, NonFiniteError, torch.OutOfMemoryError)

_UNION = "Does not validate against any of the Union subtypes"
# jsonargparse's reports: where it is, the class that it is making, what it says besides, and what is wrong.
_KEY = re.compile(r'Parser key "(?P<key>.+)":$')
_CLASS = re.compile(r"(- )?Problem with given class_path '(?P<name>.+)':$")
_STRUCTURE = re.compile(rf"(- )?({_UNION}|Subtypes: |Errors:$|Given value type|Expected a path but )|$")
_GIVEN = re.compile(r"Given value: (?P<value>.*)")
_CALLABLE = re.compile(r"Type .+ expects a function or a callable class: (?P<problem>.+)")
_OF_CLASS = re.compile(r"(?P<problem>.+?)\.? Got value: Namespace\(class_path='(?P<name>[^']+)'")
_WORKER = re.compile(r"Caught \w+ in DataLoader worker.*\n[\w.]+: (?P<message>.*)\Z", re.DOTALL)
# What is left of another process of a run: its end of the line.
_PEER = re.compile(r"Connection (closed|reset) by peer|Broken pipe|Remote process|NCCL error")
# A convolution that is given an image of another kind.
_CHANNELS = re.compile(r"Given groups=1, .* to have (?P<wanted>\d+) channels, but got (?P<found>\d+) channels")


class UsageError(ValueError):
    """A command line or recipe that does not say what can be done."""


def explain(error: Exception) -> str | None:
    """Say in a few words what a user did wrong and how to put it right.

    Args:
        error: what ended the command.

    Returns:
        The message, without "error:"; None if this is no mistake of the user's but a bug.
    """
    root: BaseException = error
    while str(root).startswith((_UNION, "Problem with given class_path")) and root.__cause__ is not None:
        # jsonargparse wraps what a constructor raises, and of a union's types reports each that failed; the cause is
        # the first one's, which is the one that was meant.
        root = root.__cause__
    message = str(root)
    if channels := _CHANNELS.match(message):
        return (
            f"images ({channels['found']} channels) must have the channels that the net takes ({channels['wanted']}): "
            "change --data.channels or the net"
        )
    if isinstance(root, torch.distributed.DistError) or (type(root) is RuntimeError and _PEER.search(message)):
        return "\n".join(
            [
                "another process of this run has ended, so this one cannot go on: look for that one's message "
                f"({message.splitlines()[0]})",
                *getattr(error, "__notes__", []),
            ]
        )
    if not isinstance(root, _MISTAKES):
        return None
    if isinstance(root, torch.OutOfMemoryError):
        message = (
            f"the device must hold the network and its batch, got: {message.splitlines()[0]} "
            "Lower --max_batch_per_device, add --model.checkpoint_activations true, or evaluate in tiles (--model.tile)"
        )
    elif isinstance(root, OSError) and root.strerror:
        message = f"file ({root.filename}) must be usable, got: {root.strerror}"
    in_worker = _WORKER.match(message)
    return "\n".join([in_worker["message"] if in_worker else message, *getattr(error, "__notes__", [])])


def usage_error(error: ArgumentError, options: Iterable[str]) -> UsageError:
    """Reduce a parser's report to the one thing that is wrong.

    Args:
        error: as the parser raised it.
        options: names of all options that the parser has.

    Returns:
        What to raise instead.
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
            given = value["value"]
            break
        elif not _STRUCTURE.match(line):
            called = _CALLABLE.match(line.removeprefix("- "))
            problem = called["problem"] if called else line.removeprefix("- ")
            if part := _OF_CLASS.match(problem):
                owner, problem = part["name"], part["problem"]
            problems.append(problem)
    if not path:
        return UsageError(_option_unknown(" ".join(error.message.split()), options))
    return UsageError(_value_unfit(problems, ".".join(path), owner, given))


def _option_unknown(problem: str, options: Iterable[str]) -> str:
    if wrong := re.match(r"Subcommand '\w+' does not accept option '(.+)'", problem):
        return f"option {wrong[1]} of the recipe is unknown{nearest(wrong[1], options)}"
    if wrong := re.match(r"unrecognized arguments: (.+)", problem, re.IGNORECASE):
        name = wrong[1].split()[0].split("=")[0].removeprefix("--")
        return f"option {wrong[1]} is unknown{nearest(name, options)}"
    if problem.startswith("the following arguments are required") and ".model" in problem:
        return f"{problem}: name a recipe that has them with --config"
    return problem


def _value_unfit(problems: list[str], where: str, owner: str, given: str) -> str:
    # A union's other types complain that the value is not theirs; what is wrong with the one that fits says more.
    for problem in sorted(problems, key=lambda problem: problem.startswith("Expected")):
        if wrong := re.match(r"Option '(.+)' is not accepted", problem):
            return f"option {wrong[1]} is unknown to {owner} ({where}){nearest(wrong[1], _parameters(owner))}"
        if wrong := re.match(r"module '([\w.]+)' has no attribute '(\w+)'", problem):
            similar = nearest(wrong[2], dir(import_module(wrong[1])))
            return f"{where} ({wrong[1]}.{wrong[2]}) must name a class, got nothing of that name{similar}"
        if wrong := re.match(r"Expected an? (.+?)\. Got value: (.*)", problem):
            return f"{where} ({wrong[2]}) must be {_type(wrong[1])}"
    types = [wrong[1] for problem in problems if (wrong := re.match(r"Expected (?:an? )?([^:]+)", problem))]
    if types and len(types) == len(problems):
        return f"{where} ({given}) must be {' or '.join(map(_type, types))}"
    return f"{where}: {problems[0]}"


def _type(name: str) -> str:
    """A type as jsonargparse writes it, in a user's words."""
    name = re.sub(r"<class '(.+)'>", r"\1", name)
    words = {"NoneType": "null", "collections.abc.Sequence": "a list", "dot import path string": "a class"}
    return words.get(name, name.replace("typing.Literal", "one of "))


def nearest(name: str, known: Iterable[str]) -> str:
    """The ending "; did you mean …?" of a message, or nothing if no known name is like `name`."""
    matches = get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def _parameters(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    return [
        key for owner in getattr(import_module(module), name).__mro__ for key in inspect.signature(owner).parameters
    ]
