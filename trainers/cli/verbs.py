"""The verbs of `lowrank`, and how one that is a plain function is called."""

import inspect
from argparse import ArgumentError
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, get_args, get_origin

from jsonargparse import ArgumentParser

from trainers.recipes.find import find_configs
from trainers.recipes.parser_messages import usage_error

TRAINER_VERBS = {
    "fit": "train a network as a recipe says (--config), or resume (--ckpt_path FILE | last | auto)",
    "validate": "score a checkpoint on the recipe's validation sets",
    "test": "score a checkpoint on the recipe's test sets",
    "predict": "restore the recipe's test sets and save the images",
}


@dataclass(frozen=True)
class FunctionVerb:
    """A verb that calls a plain function, imported when it is asked for.

    Attributes:
        module: where the function is.
        function: its name; its arguments are the verb's options.
        description: one line for `lowrank --help`.
        positional: the argument that is given without a name: one value, or a list, which may be left out if the
            function has a default for it. None: no such.
    """

    module: str
    function: str
    description: str
    positional: str | None = None


FUNCTION_VERBS = {
    "analyze complexity": FunctionVerb(
        "trainers.commands.analyze.complexity",
        "analyze_complexity",
        "parameters and multiply-adds: the paper's tables beside the counts",
        positional="tables",
    ),
    "analyze spectrum": FunctionVerb(
        "trainers.commands.analyze.spectrum",
        "analyze_spectrum",
        "what rank a checkpoint's attention has on images",
        positional="images",
    ),
    "analyze warmstart": FunctionVerb(
        "trainers.commands.analyze.warm_start",
        "analyze_warm_start",
        "what a start from dense weights is worth to GLMHA, on trained modules",
    ),
    "bench": FunctionVerb(
        "trainers.commands.bench.networks",
        "run_bench",
        "time and memory of whole networks, side by side in one run",
    ),
    "bench attention": FunctionVerb(
        "trainers.commands.bench.attention",
        "run_bench_attention",
        "time of window attention alone, kernel by kernel",
    ),
    "bench loop": FunctionVerb(
        "trainers.commands.bench.loop",
        "run_bench_loop",
        "what the training loop costs over the bare step",
    ),
    "bench windows": FunctionVerb(
        "trainers.commands.bench.windows",
        "run_bench_windows",
        "time of whole window-attention networks, kernel by kernel",
    ),
    "compare": FunctionVerb(
        "trainers.commands.compare.command",
        "run_compare",
        "a released window-attention model under other kernels, side by side",
    ),
    "demo": FunctionVerb(
        "trainers.commands.demo.command",
        "run_demo",
        "train small networks on bundled photographs and compare them",
        positional="parts",
    ),
    "export": FunctionVerb(
        "trainers.commands.export",
        "export_weights",
        "write a checkpoint's weights alone, for the original code to read",
    ),
    "prepare": FunctionVerb(
        "trainers.commands.prepare",
        "run_prepare",
        "check a downloaded data set, and cut the crops to train on",
        positional="dataset",
    ),
    "restore": FunctionVerb(
        "trainers.commands.restore.command",
        "restore_images",
        "restore images of any size with a checkpoint",
        positional="images",
    ),
    "runs": FunctionVerb(
        "trainers.commands.runs",
        "run_runs",
        "list the runs below a folder: what they differ in, how far they came, how to go on",
        positional="folders",
    ),
}


def usage() -> str:
    """The text of `lowrank --help`."""
    verbs = TRAINER_VERBS | {name: verb.description for name, verb in FUNCTION_VERBS.items()}
    width = max(map(len, verbs))
    lines = [f"  {name:{width}}  {description}" for name, description in verbs.items()]
    return "\n".join(
        ["usage: lowrank VERB [options]", "", "verbs:", *lines, "", "lowrank VERB --help lists a verb's options."]
    )


def call_function(name: str, verb: FunctionVerb, arguments: list[str]) -> None:
    """Parse a function verb's arguments and call the function."""
    function = getattr(import_module(verb.module), verb.function)
    parser = ArgumentParser(prog=f"lowrank {name}", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="file with values of these options")
    skip: set[str | int] = set()
    if verb.positional is not None:
        argument = inspect.signature(function).parameters[verb.positional]
        if get_origin(argument.annotation) is Literal:
            parser.add_argument(verb.positional, type=argument.annotation, help=f"which {verb.positional}")
        elif argument.default is inspect.Parameter.empty:
            (kind,) = get_args(argument.annotation)
            parser.add_argument(verb.positional, nargs="+", type=kind, help=f"one or more {verb.positional}")
        else:
            (kind,) = get_args(argument.annotation)
            parser.add_argument(
                verb.positional, nargs="*", type=kind, default=argument.default, help=f"any number of {verb.positional}"
            )
        skip.add(verb.positional)
    parser.add_function_arguments(function, skip=skip)
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:
            # `--verify` says as much as `--verify true`.
            action.nargs, action.const = "?", True
    try:
        config = parser.parse_args(find_configs(arguments))
    except ArgumentError as error:
        raise usage_error(error, [action.dest for action in parser._actions]) from error
    values = parser.instantiate(config).as_dict()
    del values["config"]
    function(**values)
