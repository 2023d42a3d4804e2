"""Every option of every verb changes what the verb does, or is refused: none is taken and ignored.

A verb's function is called twice, with and without another value of one option, on inputs that take no time: what is
slow in it is replaced by a recorder, so that "what the verb does" is the calls that it makes and the files that it
writes. An option without an entry in `options_of_verbs` fails.
"""

import inspect
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.cli import stand_ins
from tests.trainers.cli.options_of_verbs import BESIDE, OPTIONS
from trainers.cli.verbs import FUNCTION_VERBS

# What is printed is all that these verbs do.
PRINTING = ("analyze complexity", "data", "diff", "info", "models", "recipes", "reproduce", "runs")
PATHS = (
    *("images", "output", "pretrained", "source", "queries", "figure", "checkpoint", "modules", "folders", "results"),
    *("image", "paths", "serve"),
)


@pytest.fixture
def outcome(tmp_path, monkeypatch, capsys):
    """Calls a verb's function in a folder of its own, and tells what came of it."""
    recorder = stand_ins.install(monkeypatch)
    inputs = tmp_path / "inputs"
    stand_ins.write_inputs(inputs)

    def call(verb: str, options: dict[str, Any]) -> tuple[Any, ...]:
        folder = tmp_path / "run"
        shutil.copytree(inputs, folder)
        monkeypatch.chdir(folder)
        recorder.calls.clear()
        capsys.readouterr()
        entry = FUNCTION_VERBS[verb]
        refusal = None
        try:
            getattr(import_module(entry.module), entry.function)(**{k: as_paths(k, v) for k, v in options.items()})
        except (ValueError, RuntimeError, OSError) as error:
            refusal = str(error)
        printed = capsys.readouterr().out if verb in PRINTING else ""
        written = stand_ins.outputs(folder)
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
        return refusal, list(recorder.calls), written, printed

    return call


def as_paths(name: str, value: Any) -> Any:
    if name not in PATHS or not isinstance(value, str | list):
        return value
    return [Path(each) for each in value] if isinstance(value, list) else Path(value)


def arguments_of(verb: str) -> list[str]:
    entry = FUNCTION_VERBS[verb]
    return list(inspect.signature(getattr(import_module(entry.module), entry.function)).parameters)


def test_every_option_has_an_entry():
    assert {verb: list(options) for verb, (_, options) in OPTIONS.items()} == {
        verb: arguments_of(verb) for verb in FUNCTION_VERBS
    }


@pytest.mark.parametrize("verb", OPTIONS)
def test_every_option_changes_what_its_verb_does_or_is_refused(outcome, verb):
    least, changes = OPTIONS[verb]
    usual = outcome(verb, least)
    assert usual[0] is None
    assert usual == outcome(verb, least), f"{verb} does not do the same twice"
    ignored = []
    for option, change in changes.items():
        beside = BESIDE.get((verb, option), {})
        before = outcome(verb, least | beside) if beside else usual
        if outcome(verb, least | beside | change) == before:
            ignored.append(option)
    assert ignored == []
