"""Help comes without torch, and names exactly the options that the parsers have."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from trainers.cli.function_verb import function_parser
from trainers.cli.help import function_help, trainer_help
from trainers.cli.main import main
from trainers.cli.run_options import ALL, run_options
from trainers.cli.signature import read_signature
from trainers.cli.verbs import FUNCTION_VERBS, TRAINER_VERBS
from trainers.recipes.find import find_config
from trainers.recipes.lightning_cli import LowrankCLI

VERBS = TRAINER_VERBS | FUNCTION_VERBS
ROOT = Path(__file__).parents[3]


def shown(text: str) -> set[str]:
    """The options that a page of help describes."""
    return set(re.findall(r"^  --([\w.]+)", text, re.MULTILINE))


def parser_options(verb: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """All options that Lightning's parser of a verb has."""

    class Options(Exception):
        """Ends the command once its parser is made."""

    def parse(cli: LowrankCLI, *_: object) -> None:
        raise Options({option.lstrip("-") for option in cli._parser(verb)._option_string_actions})

    monkeypatch.setattr(LowrankCLI, "parse_arguments", parse)
    with pytest.raises(Options) as caught:
        LowrankCLI(args=[verb])
    return caught.value.args[0]


def function_options(name: str) -> set[str]:
    options = {option.lstrip("-") for option in function_parser(name, FUNCTION_VERBS[name])._option_string_actions}
    return {option for option in options if not option.endswith("+")} - {"h", "help", "print_config"}


@pytest.mark.parametrize("name", FUNCTION_VERBS)
def test_help_of_a_function_verb_names_the_options_of_its_parser(name):
    assert shown(function_help(name, FUNCTION_VERBS[name])) == function_options(name)


@pytest.mark.parametrize("name", FUNCTION_VERBS)
def test_help_of_a_function_verb_states_the_defaults_of_its_parser(name):
    verb = FUNCTION_VERBS[name]
    actions = {action.dest: action for action in function_parser(name, verb)._actions}
    for argument in read_signature(verb.module, verb.function).arguments:
        default = actions[argument.name].default
        assert actions[argument.name].required == argument.required
        if isinstance(default, list | tuple):
            default = " ".join(map(str, default)) or None
        elif isinstance(default, bool):
            default = str(default).lower()
        assert argument.default == (None if default is None else str(default))
        assert argument.description


@pytest.mark.parametrize("verb", TRAINER_VERBS)
def test_every_option_that_help_of_a_run_names_exists(verb, monkeypatch):
    named = {option.name for options in run_options(verb).values() for option in options}
    assert named == shown(trainer_help(verb))
    assert named - parser_options(verb, monkeypatch) == {ALL}


@pytest.mark.parametrize("verb", TRAINER_VERBS)
def test_every_option_is_shown_on_request(verb, capsys, monkeypatch):
    assert main([verb, f"--{ALL}"]) == 0
    printed = capsys.readouterr().out
    assert "--trainer.sync_batchnorm" in printed
    # The words for `--ckpt_path` are this package's.
    assert "hpc" not in printed
    assert ("auto, the" in printed) == (verb == "fit")


@pytest.mark.parametrize(("verb", "example"), [(verb, text) for verb in VERBS for text in VERBS[verb].examples])
def test_examples_name_their_verb_options_and_recipes_that_exist(verb, example, monkeypatch):
    words = shlex.split(example)
    assert " ".join(words[: 1 + len(verb.split())]) == f"lowrank {verb}"
    known = function_options(verb) if verb in FUNCTION_VERBS else parser_options(verb, monkeypatch)
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--") and not word.startswith(("--data.", "--model.")):
            assert word.removeprefix("--") in known
        if word == "--config" and not value.startswith("logs/"):
            assert Path(find_config(value)).is_file()


def test_the_two_examples_of_each_verb_are_in_its_help(capsys):
    for verb, entry in VERBS.items():
        assert main([*verb.split(), "--help"]) == 0
        printed = capsys.readouterr().out
        assert len(set(entry.examples)) == 2
        assert all(f"\n  {example}\n" in printed for example in entry.examples)


@pytest.mark.parametrize(
    "arguments", [["--help"], *([*verb.split(), "--help"] for verb in VERBS), ["restor"], ["runs", "nowhere"]]
)
def test_neither_help_nor_the_list_of_runs_imports_torch_or_lightning(arguments, tmp_path):
    code = (
        "import sys\n"
        "from trainers.cli import main\n"
        f"status = main({arguments})\n"
        "assert not {'torch', 'lightning'} & set(sys.modules), 'imported'\n"
        "sys.exit(status)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, cwd=tmp_path, capture_output=True, text=True)
    assert "imported" not in result.stderr
    assert result.returncode == (0 if "--help" in arguments else 2)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_is_no_error(tmp_path, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "trainers", "--help"]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    options = {"env": environment, "cwd": tmp_path, "stderr": subprocess.PIPE, "text": True}
    result = subprocess.run(command, stdout=writing, **options)
    os.close(writing)
    assert (result.stderr, result.returncode) == ("", 1)


@pytest.mark.parametrize("arguments", [["analyze", "--help"], ["analyze", "-h"]])
def test_the_first_word_of_a_verb_lists_its_verbs(arguments, capsys):
    assert main(arguments) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in FUNCTION_VERBS if name.startswith("analyze "))
    assert "bench" not in listed
